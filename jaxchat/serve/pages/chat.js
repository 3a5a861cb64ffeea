// The chat page: puts its parts together and holds what is looked at.
import * as api from "./api.js";
import { columnView } from "./column.js";
import { begin, latest, lines, messages } from "./conversation.js";
import { conversationList } from "./conversation_list.js";
import { downloaded, make, tell } from "./dom.js";
import { frame } from "./frame.js";
import { askKey } from "./key_dialog.js";
import * as kept from "./kept.js";
import { change } from "./language.js";
import { sliders } from "./sampling.js";
import * as talk from "./talk.js";
import * as theme from "./theme.js";
import { words } from "./words.js";

let models = [];
let current = null; // the conversation that is looked at
let parts = null; // of the page, which change
let views = []; // of its columns
const opened = new Map(); // one object a conversation, so that an answer goes on in one that is not looked at

// What is kept

function save(conversation) {
  if (!Object.keys(conversation.turns).length || !opened.has(conversation.id)) return;
  if (!kept.keep(conversation)) tell(words.full);
}
const saved = conversation => { conversation.changed = Date.now(); save(conversation); list(); };

let due = 0;
function saveSoon(conversation) { // while an answer grows
  if (performance.now() < due) return;
  due = performance.now() + 1000;
  save(conversation);
}

// Answers

const on = {
  drawn(conversation) { saved(conversation); if (conversation === current) draw(); },
  grown(conversation, turn) {
    if (talk.isWriting(turn)) saveSoon(conversation);
    else saved(conversation);
    if (conversation !== current) return;
    for (const view of views) view.update(turn);
    composing();
  },
};

function ask(text) {
  current.title ||= text.replace(/\s+/g, " ").slice(0, 60);
  talk.ask(current, text, on);
  for (const view of views) view.toEnd();
}

async function rate(turn, rating) {
  const conversation = current;
  try {
    await api.rate({ id: turn.completion, rating, model: turn.model, messages: messages(conversation, turn.id, turn.system) });
    turn.rating = rating;
    save(conversation);
    for (const view of views) view.update(turn);
  } catch (error) {
    tell(error.code === "no_feedback" ? words.noFeedback : error.message);
  }
}

const handlers = column => ({
  writing: talk.isWriting,
  rate,
  show: turn => {
    column.leaf = latest(current, turn, column.model);
    saved(current);
    views[current.columns.indexOf(column)].draw(turn);
  },
  edit: (turn, text) => { talk.stop(current); talk.askAnew(current, turn, text, on); parts.field.focus(); },
  again: turn => { talk.stop(current); talk.answerAnew(current, column, turn, on); parts.field.focus(); },
});

// What is looked at

function look(conversation) {
  const known = new Set(models.map(model => model.id));
  for (const column of conversation.columns) if (!known.has(column.model)) column.model = models[0]?.id ?? column.model;
  opened.set(conversation.id, conversation);
  current = conversation;
  kept.set("open", conversation.id);
  pickers();
  settings();
  list();
  draw();
  for (const view of views) view.toEnd();
  parts.shut("list");
}

const open = id => opened.get(id) ?? kept.conversation(id);

function start() {
  look(begin(current, models[0]?.id ?? ""));
  parts.field.focus();
}

function remove(conversation) {
  const held = opened.get(conversation.id) ?? conversation;
  talk.stop(held);
  opened.delete(conversation.id);
  kept.remove(conversation.id);
  if (current.id === conversation.id) start();
  else list();
  tell(words.removed, { label: words.undo, done: () => { opened.set(held.id, held); save(held); look(held); } });
}

function draw() {
  views = current.columns.map(column => columnView(current, column, handlers(column)));
  parts.columns.replaceChildren(...views.map(view => view.node));
  parts.columns.classList.toggle("two", views.length > 1);
  composing();
  for (const view of views) view.toEnd();
}

function list() {
  const all = kept.conversations();
  document.title = current.title ? `${current.title} · jaxchat` : "jaxchat";
  parts.search.hidden = all.length < 2 && !parts.search.value;
  parts.list.replaceChildren(...conversationList(all, current, parts.search.value, {
    open: conversation => { look(open(conversation.id)); parts.field.focus(); },
    rename: (conversation, title) => {
      const held = open(conversation.id);
      held.title = title;
      kept.keep(held);
      list();
    },
    remove,
    exportAll: () => exportLines("conversations.jsonl", all),
  }));
}

const exportLines = (name, conversations) =>
  downloaded(name, conversations.map(one => lines(opened.get(one.id) ?? one)).join(""), "application/jsonl");

// The parts of the page

function pickers() {
  parts.pickers.replaceChildren(...current.columns.map((column, i) => {
    const picker = make("select", { "aria-label": i ? words.secondModel : words.model, change: () => {
      column.model = picker.value;
      save(current);
      draw();
    } }, ...models.map(model => make("option", { value: model.id, selected: model.id === column.model }, model.id)));
    return picker;
  }));
  const two = current.columns.length > 1;
  parts.beside.setAttribute("aria-pressed", String(two));
  parts.beside.title = two ? words.alone : words.beside;
}

function beside() {
  talk.stop(current);
  const [first, second] = current.columns;
  if (second) current.columns = [first];
  else current.columns.push({ model: (models.find(model => model.id !== first.model) ?? models[0]).id, leaf: first.leaf });
  save(current);
  pickers();
  draw();
}

function settings() {
  const conversation = current;
  const changed = () => save(conversation);
  const system = make("textarea", { id: "system", dir: "auto", rows: 5, placeholder: words.systemHint, input: () => {
    conversation.system = system.value;
    changed();
  } });
  system.value = conversation.system;
  const longest = Math.max(1, ...models.map(model => model.context_length));
  parts.settings.replaceChildren(
    make("label", { for: "system" }, words.system), system,
    make("h3", {}, words.sampling), ...sliders(conversation.sampling, longest, changed),
    api.hasKey() ? make("button", { type: "button", class: "text", click: () => { api.forgetKey(); tell(words.forgotten); settings(); } }, words.forget) : "");
}

function composing() {
  const busy = talk.writes(current);
  parts.send.hidden = busy;
  parts.stop.hidden = !busy;
  parts.send.disabled = !parts.field.value.trim() || !models.length;
}

function build() {
  const draft = parts?.field.value ?? "", sought = parts?.search.value ?? "";
  parts = frame({
    start,
    searched: list,
    beside,
    exportOne: () => exportLines("conversation.jsonl", [current]),
    darkness: () => { theme.toggle(); rebuild(); },
    language: () => { change(); rebuild(); },
    stop: () => talk.stop(current),
    typed: composing,
    ask(text) {
      if (!text || talk.writes(current) || !models.length) return;
      parts.field.value = "";
      ask(text);
    },
  });
  parts.field.value = draft;
  parts.search.value = sought;
}

function rebuild() {
  build();
  pickers();
  settings();
  list();
  draw();
}

addEventListener("keydown", event => {
  if (event.key !== "Escape") return;
  if (talk.writes(current)) talk.stop(current);
  else parts.shutAll();
});
addEventListener("pagehide", () => { if (current) save(current); });
kept.onOtherTab(id => {
  if (opened.has(id) && talk.writes(opened.get(id))) return; // ours is written over theirs when it ends
  opened.delete(id);
  if (current?.id !== id) { list(); return; }
  const theirs = kept.conversation(id);
  if (theirs) look(theirs);
  else start();
});

api.onKeyWanted(askKey);
build();
try {
  models = await api.models();
  if (!models.length) tell(words.noChat);
} catch (error) {
  tell(error.message, { label: words.retry, done: () => location.reload() });
}
const before = kept.conversation(kept.setting("open"));
look(before ?? begin(null, models[0]?.id ?? ""));
parts.field.focus();
