// Elements, icons, and words said in passing.

/** An element: a function is a listener, true and false set or leave an attribute, null leaves it. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}

const PATHS = {
  again: "M20 11a8 8 0 1 0-2 6M20 4v7h-7",
  close: "M6 6l12 12M18 6L6 18",
  columns: "M4 5h16v14H4zM12 5v14",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M17 13V4h3v9zM17 13l-4 8c-2 0-3-1-3-3l1-4H5c-1.5 0-2.5-1-2-3l1.5-5c.3-1 1-2 2-2H17",
  end: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  export: "M12 4v11M7 10l5 5 5-5M4 20h16",
  key: "M14 10a4 4 0 1 0-3 4l2 2h2v2h2v2h3v-3z",
  left: "M14 6l-6 6 6 6",
  menu: "M4 6h16M4 12h16M4 18h16",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  plus: "M12 5v14M5 12h14",
  right: "M10 6l6 6-6 6",
  send: "M12 19V5M6 11l6-6 6 6",
  sliders: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  up: "M7 11v9H4v-9zM7 11l4-8c2 0 3 1 3 3l-1 4h6c1.5 0 2.5 1 2 3l-1.5 5c-.3 1-1 2-2 2H7",
};

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon; its label is what it is called, and its tooltip. */
export const button = (name, label, click, attributes = {}) =>
  make("button", { type: "button", class: "icon", "aria-label": label, title: label, click, ...attributes }, icon(name));

export const downloaded = (name, text, type) => {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
};

/** Works where a page has no clipboard, on plain HTTP, too. */
export async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = make("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

let told = null;

/** A line at the foot of the page, read out; with something to be done about it, where `act` says what. */
export function tell(text, act = null) {
  told?.remove();
  const mine = (told = make("div", { class: "notice", role: "status" }, make("span", {}, text)));
  if (act) mine.append(make("button", { type: "button", class: "text", click: () => { mine.remove(); act.done(); } }, act.label));
  document.body.append(mine);
  setTimeout(() => mine.remove(), 10_000);
}
