// Markdown into an element. The server renders it, escaped; until it has, the text stands there as it is.
import { request } from "./api.js";
import { copied, make, tell, button } from "./dom.js";
import { words } from "./words.js";

const AT_ONCE = 40_000; // characters of one request; longer texts stay plain
const known = new Map();
let waiting = [];

async function flush() {
  const batch = waiting;
  waiting = [];
  while (batch.length) {
    const part = [batch.shift()];
    for (let size = part[0].text.length; batch.length && part.length < 200 && (size += batch[0].text.length) <= AT_ONCE;) part.push(batch.shift());
    try {
      const { html } = await (await request("markdown", { texts: part.map(one => one.text) })).json();
      part.forEach((one, i) => one.done(html[i]));
    } catch {
      part.forEach(one => one.done(null)); // it stays plain
    }
  }
}

const rendered = text => text.length > AT_ONCE ? Promise.resolve(null) : new Promise(done => {
  if (!waiting.length) queueMicrotask(flush);
  waiting.push({ text, done });
});

function dress(node) {
  for (const block of node.querySelectorAll("pre")) {
    const code = block.firstElementChild;
    const language = /language-(\S+)/.exec(code?.className)?.[1] ?? "";
    const copy = button("copy", words.copy, () => copied(code.textContent).then(() => tell(words.copied)));
    const framed = make("div", { class: "code" }, make("div", { class: "code-head" }, make("span", {}, language), copy));
    block.replaceWith(framed);
    block.tabIndex = 0; // it scrolls
    framed.dir = "ltr";
    framed.append(block);
  }
  for (const table of node.querySelectorAll("table")) {
    const scroller = make("div", { class: "wide", tabindex: 0 });
    table.replaceWith(scroller);
    scroller.append(table);
  }
}

/** Shows texts in `node`, the latest always in the end; of those that follow quickly, some are left out. */
export function shower(node) {
  let latest = "", busy = false;
  const put = html => {
    node.classList.remove("plain");
    node.innerHTML = html;
    dress(node);
  };
  return async text => {
    latest = text;
    if (known.has(text)) { put(known.get(text)); return; }
    if (!node.firstChild || node.classList.contains("plain")) { node.classList.add("plain"); node.textContent = text; }
    if (busy) return;
    busy = true;
    node.ariaBusy = "true";
    for (let shown = null; shown !== latest;) {
      shown = latest;
      const begun = performance.now();
      const html = await rendered(shown);
      if (html !== null) {
        put(html);
        if (shown === latest) known.set(shown, html);
        if (known.size > 200) known.delete(known.keys().next().value);
      } else {
        node.classList.add("plain");
        node.textContent = shown;
      }
      if (shown !== latest) await new Promise(done => setTimeout(done, Math.max(60, 3 * (performance.now() - begun))));
    }
    busy = false;
    node.ariaBusy = "false";
  };
}
