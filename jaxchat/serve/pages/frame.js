// The page without what is said on it: two drawers, a head, the field to write in.
import { button, make } from "./dom.js";
import { dark } from "./theme.js";
import { chinese, words } from "./words.js";

const DRAWERS = ["list", "settings"];

/** `does`: start, searched, beside, exportOne, darkness, language, ask(text), stop, typed. Returns the parts that change. */
export function frame(does) {
  document.documentElement.lang = chinese() ? "zh-CN" : "en";
  const tool = (name, label, click, more) => button(name, label, click, { class: "icon big", ...more });
  const isOpen = drawer => document.body.dataset[drawer] === "open";
  const opener = (drawer, name, label, kind) =>
    tool(name, label, () => toggle(drawer), { class: `icon big ${kind}`, "aria-controls": drawer, "aria-expanded": String(isOpen(drawer)) });

  const list = make("div", { class: "list" });
  const search = make("input", { type: "search", dir: "auto", "aria-label": words.search, placeholder: words.search, input: does.searched });
  const pickers = make("div", { class: "pickers" });
  const beside = tool("columns", words.beside, does.beside);
  const columns = make("div", { class: "columns" });
  const settings = make("div", { class: "settings" });
  const openers = { list: opener("list", "menu", words.menu, "phone"), settings: opener("settings", "sliders", words.settings, "") };

  const toggle = (drawer, open = !isOpen(drawer)) => {
    if (open) document.body.dataset[drawer] = "open";
    else delete document.body.dataset[drawer];
    openers[drawer].setAttribute("aria-expanded", String(open));
  };
  const shut = drawer => toggle(drawer, false);

  const field = make("textarea", {
    id: "message", rows: 1, dir: "auto", "aria-label": words.message, placeholder: words.ask, title: words.hint, input: does.typed,
    keydown: event => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    },
  });
  const send = button("send", words.send, () => {}, { class: "round", type: "submit" });
  const stop = button("stop", words.stop, does.stop, { class: "round", hidden: true });
  const form = make("form", { class: "composer", submit: event => { event.preventDefault(); does.ask(field.value.trim()); } }, field, send, stop);

  document.body.replaceChildren(
    make("a", { class: "skip", href: "#message" }, words.skip),
    make("nav", { class: "drawer", id: "list", "aria-label": words.conversations },
      make("div", { class: "bar" }, make("h1", {}, "jaxchat"), button("close", words.close, () => shut("list"), { class: "icon phone" })),
      make("button", { type: "button", class: "new", click: does.start }, words.newOne), search, list),
    make("main", {},
      make("header", {}, openers.list, pickers, beside, make("span", { class: "gap" }),
        tool("export", words.exportOne, does.exportOne),
        tool(dark() ? "sun" : "moon", dark() ? words.light : words.dark, does.darkness),
        make("button", { type: "button", class: "text", "aria-label": words.languageLabel, click: does.language }, words.language),
        openers.settings),
      columns, form),
    make("aside", { class: "drawer", id: "settings", "aria-label": words.settings },
      make("div", { class: "bar" }, make("h2", {}, words.settings), button("close", words.close, () => shut("settings"))), settings));
  return { list, search, pickers, beside, columns, settings, field, send, stop, shut, shutAll: () => DRAWERS.forEach(shut) };
}
