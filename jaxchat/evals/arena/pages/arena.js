// The arena: one thing after the other, as the server says, until all is rated.
import { button, make, tell } from "./dom.js";
import { change, chinese } from "./language.js";
import { shower } from "./markdown.js";
import { words as common } from "./words.js";
import * as theme from "./theme.js";
import { key, points, verdicts, verdictWord } from "./choices.js";
import { words } from "./arena_words.js";
import * as session from "./session.js";

const WAIT = 15_000; // before it is asked again whether there is something to be rated
let study = null;
let now = null; // what the server said is next
let view = null; // redraws the screen, in another language
let press = () => false; // what a key does on it
let waiting = 0;

const main = make("main", { id: "main", tabindex: -1 });
const foot = make("footer");

let seen = 0, since = performance.now(); // milliseconds that the page was looked at, and since when it is
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) { seen += performance.now() - since; since = null; }
  else if (!document.hidden) since ??= performance.now();
});
const looked = () => (seen + (since === null ? 0 : performance.now() - since)) / 1000;

// The frame

function head() {
  document.documentElement.lang = chinese() ? "zh-CN" : "en";
  document.title = study?.title ?? "…";
  const progress = now && study && now.total ? make("div", { class: "progress" },
    make("progress", { max: now.total, value: now.done, "aria-label": words.of(now.done, now.total) }),
    make("span", { class: "count" }, now.item?.practice ? words.practice(now.practised + 1, study.practice) : `${now.done} / ${now.total}`)) : null;
  return make("header", {},
    make("h1", {}, study?.title ?? ""), progress, make("span", { class: "gap" }),
    study ? make("button", { type: "button", class: "text", click: guidelines, "aria-keyshortcuts": "g" }, words.guidelines, key("G")) : null,
    button(theme.dark() ? "sun" : "moon", theme.dark() ? common.light : common.dark, () => { theme.toggle(); draw(); }),
    make("button", { type: "button", class: "text", "aria-label": common.languageLabel, click: () => { change(); draw(); } }, common.language));
}

function draw() { view(); document.body.replaceChildren(head(), main, foot); }

/** A new screen: `paint` fills main and foot, and says what keys do. */
function screen(kind, paint) {
  clearTimeout(waiting);
  main.inert = foot.inert = false;
  view = () => {
    document.body.dataset.screen = kind;
    main.replaceChildren();
    foot.replaceChildren();
    press = () => false;
    paint();
  };
  draw();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

const card = (...inside) => main.append(make("div", { class: "card" }, ...inside));

function markdown(text, kind = "") {
  const node = make("div", { class: `markdown ${kind}`, dir: "auto" });
  if (text.trim()) shower(node)(text);
  else node.append(make("p", { class: "note" }, common.empty));
  return node;
}

const strong = (word, click) => make("button", { type: "button", class: "strong", click }, word, key("Enter"));
const pressing = control => name => { if (name !== "Enter") return false; control.click(); return true; };

function guidelines() {
  const dialog = make("dialog", { class: "wide-dialog", "aria-label": words.guidelines },
    markdown(study.guidelines[chinese() ? "zh" : "en"]),
    make("form", { method: "dialog" }, make("div", { class: "row end" }, make("button", { class: "strong" }, common.close))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// The screens

const refused = error => screen("card", () => card(make("h2", {}, words.refused), make("p", {}, words[error.code] ?? error.message)));

const start = () => screen("card", () => {
  const begin = strong(words.begin, show);
  card(make("h2", {}, words.guidelines), markdown(study.guidelines[chinese() ? "zh" : "en"]),
    study.practice ? make("p", { class: "note" }, words.practiceFirst(study.practice)) : null,
    make("p", { class: "note keyed" }, words.keyHint), make("div", { class: "row end" }, begin));
  press = pressing(begin);
});

const done = () => screen("card", () => {
  const back = now.before ? make("button", { type: "button", class: "text", click: () => before(now.before) }, words.back, key("Z")) : null;
  card(make("h2", {}, words.thanks), make("p", {}, now.done ? words.thanksFor(now.done) : words.nothing), back);
  press = name => { if (name !== "z" || !back) return false; back.click(); return true; };
});

function wait() {
  screen("card", () => card(make("h2", {}, words.wait), make("p", {}, words.waitHint)));
  waiting = setTimeout(onward, WAIT);
}

let typed = ""; // a question that is not sent yet

const asking = () => screen("card", () => {
  const field = make("textarea", { rows: 4, maxlength: 8000, "aria-label": words.ask, input: () => { typed = field.value; } });
  field.value = typed;
  const send = make("button", { type: "submit", class: "strong" }, words.send);
  const form = make("form", { class: "asking", submit: async event => {
    event.preventDefault();
    if (!field.value.trim() || send.disabled) return;
    send.disabled = field.readOnly = true;
    form.append(make("p", { class: "note", role: "status" }, words.waiting));
    try {
      now = await session.ask(field.value.trim());
      typed = "";
      show();
    } catch (error) { tell(error.message); send.disabled = field.readOnly = false; form.querySelector("[role=status]").remove(); }
  } }, field, make("div", { class: "row end" }, send));
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  card(make("h2", {}, words.ask), make("p", {}, study.kind === "pairs" ? words.askHint : words.askOne), form);
  queueMicrotask(() => field.focus());
});

function turn({ role, content }) {
  if (role === "user") return make("article", { class: "turn user" }, make("div", { class: "said", dir: "auto" }, content));
  return make("article", { class: `turn ${role}` }, markdown(content, "said"));
}

function judge() {
  const { item } = now, begun = looked();
  const scores = { ...item.rating?.scores }; // what is given so far outlives a change of language
  let sending = false, comment = item.rating?.comment ?? "", open = Boolean(comment);
  const say = async said => {
    if (sending) return; // the same click, twice
    sending = true;
    main.inert = foot.inert = true;
    try {
      const kept = await insist({ key: item.key, revision: item.revision, comment, seconds: looked() - begun, ...said });
      if (kept.practised) { feedback(said, kept.practised); return; }
      await onward();
    } catch (error) {
      if (error.code !== "rated_elsewhere") tell(error.message);
      await onward();
    }
  };
  screen("item", () => {
    main.append(make("section", { class: "prompt", "aria-label": words.said }, ...item.messages.map(turn)));
    if (item.rating) main.append(make("p", { class: "note" }, words.changing));
    main.append(make("div", { class: `answers of-${item.answers.length}` }, ...item.answers.map((text, i) => {
      const name = item.answers.length > 1 ? "AB"[i] : words.answer;
      return make("section", { class: "answer", "aria-label": `${words.answer} ${"AB"[i]}` }, make("h2", {}, name), markdown(text));
    })));
    const field = make("textarea", { rows: 2, maxlength: 4000, "aria-label": words.comment, placeholder: words.commentHint, input: () => { comment = field.value; } });
    field.value = comment;
    field.hidden = !open;
    field.addEventListener("keydown", event => { if (event.key === "Escape") field.blur(); });
    const opener = make("button", { type: "button", class: "text", "aria-expanded": String(open), "aria-keyshortcuts": "c", click: () => {
      open = field.hidden;
      field.hidden = !open;
      opener.setAttribute("aria-expanded", String(open));
      if (open) field.focus();
    } }, words.comment, key("C"));
    const back = now.before ? make("button", { type: "button", class: "text", "aria-keyshortcuts": "z", click: () => before(now.before) }, words.back, key("Z")) : null;
    const scales = study.kind === "scales";
    const choice = scales ? points(study.scales, scores, say) : verdicts(item.rating?.verdict, say);
    if (scales) main.append(choice.node);
    foot.append(make("div", { class: "bar" }, field, scales ? null : choice.node,
      make("div", { class: "row" }, back, opener, make("span", { class: "gap" }),
        ...(scales ? [make("span", { class: "keyed" }, words.keysScales), choice.done] : []))));
    press = name => {
      if (name === "c") opener.click();
      else if (name === "z") back?.click();
      else return choice.press(name);
      return true;
    };
  });
}

function feedback(said, found) {
  screen("card", () => {
    const go = strong(words.go, onward);
    const range = value => value[0] === value[1] ? `${value[0]}` : `${value[0]}–${value[1]}`;
    const expected = typeof found.expected === "string" ? verdictWord(found.expected)
      : Object.entries(found.expected).map(([name, value]) => `${name} ${range(value)}`).join(", ");
    const why = found.why[chinese() ? "zh" : "en"];
    card(make("h2", {}, found.right ? words.right : words.wrong), make("p", {}, `${words.expected}: ${expected}`),
      why ? markdown(why) : null, make("div", { class: "row end" }, go));
    press = pressing(go);
  });
}

// The way from one to the next

/** Tells a rating until it is kept; told twice, it is one. */
async function insist(rating) {
  for (let pause = 500; ; pause = Math.min(8000, pause * 2)) {
    try {
      return await session.rate(rating);
    } catch (error) {
      if (error.status && error.status < 500) throw error;
      tell(words.retrying);
      await new Promise(done => setTimeout(done, pause));
    }
  }
}

function show() {
  ({ item: judge, ask: asking, wait, done })[now.state]();
}

async function onward() {
  for (;;) {
    try {
      now = await session.next();
      show();
      return;
    } catch (error) {
      if (error.status && error.status < 500) { refused(error); return; }
      tell(common.unreachable);
      await new Promise(done => setTimeout(done, 2000));
    }
  }
}

async function before(key) {
  try {
    now = await session.shown(key);
    show();
  } catch (error) { tell(error.message); }
}

addEventListener("keydown", event => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
  if (target.closest("textarea, input, dialog")) return;
  if (event.key === "Enter" && target.closest("button, a")) return; // it is pressed by itself
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (name === "g" && study) { guidelines(); event.preventDefault(); }
  else if (press(name)) event.preventDefault();
});

addEventListener("hashchange", () => location.reload());

try {
  await session.enter();
  study = await session.study();
  now = await session.next();
  if (now.done || now.item?.rating || now.state === "done") show();
  else start();
} catch (error) { refused(error); }
