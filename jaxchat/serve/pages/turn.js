// A turn as it is shown: what was said, and what can be done about it.
import { button, copied, make, tell } from "./dom.js";
import { shower } from "./markdown.js";
import { words } from "./words.js";

const ended = turn =>
  turn.failed ?? { length: words.cutShort, content_filter: words.filtered, stopped: words.stopped }[turn.finish]
    ?? (turn.finish && !turn.content ? words.empty : null);

const speed = turn => turn.tokens && turn.seconds
  ? `${turn.tokens} ${words.tokens} · ${(turn.tokens / turn.seconds).toFixed(1)} ${words.tokensPerSecond}` : "";

function versionsOf(turn, versions, show) {
  if (versions.length < 2) return null;
  const at = versions.indexOf(turn);
  return make("span", { class: "versions" },
    button("left", words.earlier, () => show(versions[at - 1]), { disabled: at === 0 }),
    make("span", {}, `${at + 1}/${versions.length}`),
    button("right", words.later, () => show(versions[at + 1]), { disabled: at === versions.length - 1 }));
}

/** `on`: show(turn), edit(turn, text). */
export function question(turn, versions, on) {
  const said = make("div", { class: "said", dir: "auto" }, turn.content);
  const edit = () => {
    const field = make("textarea", { "aria-label": words.edit, dir: "auto", rows: Math.min(12, turn.content.split("\n").length + 1) });
    field.value = turn.content;
    const back = () => { form.replaceWith(said, tools); tools.querySelector(".edit").focus(); };
    const form = make("form", { class: "editing", submit: event => {
      event.preventDefault();
      if (field.value.trim()) on.edit(turn, field.value.trim());
    } }, field, make("div", { class: "row end" },
      make("button", { type: "button", class: "text", click: back }, words.cancel),
      make("button", { type: "submit", class: "strong" }, words.save)));
    field.addEventListener("keydown", event => {
      if (event.key === "Escape") { event.stopPropagation(); back(); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    });
    tools.remove();
    said.replaceWith(form);
    field.focus();
  };
  const tools = make("div", { class: "tools" }, versionsOf(turn, versions, on.show),
    button("copy", words.copy, () => copied(turn.content).then(() => tell(words.copied))),
    button("edit", words.edit, edit, { class: "icon edit" }));
  return make("article", { class: "turn user", "aria-label": words.you }, said, tools);
}

/** `on`: show(turn), again(turn), rate(turn, rating), writing(turn). The element, and `update` for what has changed. */
export function answer(turn, versions, on) {
  const said = make("div", { class: "said markdown", dir: "auto" });
  const note = make("p", { class: "note" });
  const measured = make("span", { class: "measured" });
  const show = shower(said);
  const thumb = (name, rating, label) => button(name, label, () => on.rate(turn, turn.rating === rating ? "none" : rating));
  const up = thumb("up", "up", words.good), down = thumb("down", "down", words.bad);
  const copy = button("copy", words.copy, () => copied(turn.content).then(() => tell(words.copied)));
  const tools = make("div", { class: "tools" }, versionsOf(turn, versions, on.show), copy,
    button("again", words.regenerate, () => on.again(turn)), up, down, measured);
  const dots = make("div", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i"));
  const node = make("article", { class: "turn assistant", "aria-label": turn.model },
    make("div", { class: "by" }, turn.model), dots, said, note, tools);
  const update = () => {
    const writing = on.writing(turn);
    node.setAttribute("aria-busy", String(writing));
    dots.hidden = !writing || Boolean(turn.content);
    if (turn.content) show(turn.content);
    note.textContent = writing ? "" : ended(turn) ?? "";
    note.hidden = !note.textContent;
    note.classList.toggle("failed", Boolean(turn.failed));
    tools.hidden = writing;
    copy.hidden = !turn.content;
    up.hidden = down.hidden = !(turn.completion && turn.content);
    up.setAttribute("aria-pressed", String(turn.rating === "up"));
    down.setAttribute("aria-pressed", String(turn.rating === "down"));
    measured.textContent = speed(turn);
  };
  update();
  return { node, update };
}
