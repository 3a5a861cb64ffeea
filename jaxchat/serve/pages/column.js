// One model's side of a conversation: its turns from first to last, kept in sight while they grow.
import { button, make } from "./dom.js";
import { versions, way } from "./conversation.js";
import { answer, question } from "./turn.js";
import { words } from "./words.js";

export function columnView(conversation, column, on) {
  const log = make("div", { class: "log", role: "log", "aria-label": `${words.answers}: ${column.model}` });
  const node = make("section", { class: "column", tabindex: 0, "aria-label": column.model }, log);
  const end = button("end", words.toEnd, () => toEnd(), { class: "round", hidden: true });
  node.append(make("div", { class: "to-end" }, end));
  const answers = new Map();
  let following = true, before = 0;
  node.addEventListener("scroll", () => { // going up stops it, not that something grew meanwhile
    if (node.scrollTop < before - 2) following = false;
    if (below() < 60) following = true;
    end.hidden = below() < 200;
    before = node.scrollTop;
  }, { passive: true });
  const below = () => node.scrollHeight - node.scrollTop - node.clientHeight;
  const follow = () => { if (following) node.scrollTop = node.scrollHeight; end.hidden = below() < 200; };
  const toEnd = () => { following = true; follow(); };
  new ResizeObserver(follow).observe(log);

  /** `at`: a version that was chosen; its buttons keep the focus, and the page its place. */
  const draw = at => {
    if (at) following = false;
    const place = node.scrollTop;
    answers.clear();
    const turns = way(conversation, column.leaf).map(turn => {
      const others = versions(conversation, turn);
      if (turn.role === "user") return question(turn, others, on);
      const view = answer(turn, others, on);
      answers.set(turn.id, view);
      return view.node;
    });
    log.replaceChildren(...(turns.length ? turns : [make("p", { class: "greeting" }, words.greeting)]));
    if (!at) return;
    node.scrollTop = place;
    log.children[way(conversation, column.leaf).indexOf(at)].querySelector(".versions button:not(:disabled)").focus({ preventScroll: true });
  };
  draw();
  return { node, draw, update: turn => answers.get(turn.id)?.update(), toEnd };
}
