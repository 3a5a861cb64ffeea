// What can be said of an item: one of four verdicts on two answers, or points on scales for one.
import { make } from "./dom.js";
import { chinese } from "./language.js";
import { words } from "./arena_words.js";

export const key = name => make("kbd", { "aria-hidden": "true" }, name);

const VERDICTS = [["a", "a", "1"], ["tie", "tie", "2"], ["both bad", "bad", "3"], ["b", "b", "4"]];
export const verdictWord = verdict => words[VERDICTS.find(([name]) => name === verdict)[1]];

/** Four buttons; `say({verdict})` is called with the one that is pressed; `chosen`: before. */
export function verdicts(chosen, say) {
  const buttons = VERDICTS.map(([verdict, word, digit]) => make("button", {
    type: "button", class: `verdict ${word}`, "aria-pressed": String(verdict === chosen), "aria-keyshortcuts": digit,
    click: () => say({ verdict }),
  }, make("span", {}, words[word]), key(digit)));
  const node = make("div", { class: "verdicts" }, ...buttons);
  return { node, press: name => buttons[VERDICTS.findIndex(([, , digit]) => digit === name)]?.click() };
}

/** A row of points a scale, kept in `scores`, and a button that is there once all are given; `say({scores})`. */
export function points(scales, scores, say) {
  let at = 0;
  const said = (scale, name) => (chinese() && scale[`${name}_zh`]) || scale[name];
  const done = make("button", { type: "button", class: "strong next", click: () => say({ scores: { ...scores } }) }, words.next, key("Enter"));
  const rows = scales.map((scale, i) => {
    const choices = Array.from({ length: scale.points }, (_, n) => make("button", {
      type: "button", role: "radio", class: "point", "aria-label": `${n + 1}`, click: () => give(i, n + 1),
    }, `${n + 1}`));
    const id = `scale-${i}`;
    const node = make("div", { class: "scale" },
      make("div", { class: "question", id }, make("b", {}, said(scale, "question") || scale.name)),
      make("div", { class: "points", role: "radiogroup", "aria-labelledby": id },
        make("small", {}, said(scale, "low")), ...choices, make("small", {}, said(scale, "high"))));
    return { node, choices };
  });
  const draw = () => {
    rows.forEach(({ node, choices }, i) => {
      node.classList.toggle("here", i === at);
      choices.forEach((choice, n) => choice.setAttribute("aria-checked", String(scores[scales[i].name] === n + 1)));
    });
    done.disabled = scales.some(scale => !scores[scale.name]);
  };
  const give = (i, value) => {
    scores[scales[i].name] = value;
    at = Math.min(i + 1, scales.length - 1);
    draw();
    rows[at].node.scrollIntoView({ block: "nearest" });
  };
  const press = name => {
    if (name === "ArrowDown" || name === "ArrowUp") {
      at = Math.max(0, Math.min(scales.length - 1, at + (name === "ArrowDown" ? 1 : -1)));
      draw();
      rows[at].node.scrollIntoView({ block: "nearest" });
      return true;
    }
    if (name === "Enter") { done.click(); return true; }
    if (Number(name) >= 1 && Number(name) <= scales[at].points) { give(at, Number(name)); return true; }
    return false;
  };
  draw();
  return { node: make("div", { class: "scales" }, ...rows.map(row => row.node)), done, press };
}
