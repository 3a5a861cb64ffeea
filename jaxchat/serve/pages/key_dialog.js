// Asks for the API key that a server wants.
import { make } from "./dom.js";
import { words } from "./words.js";

/** Resolves to {key, keep}; to null where it is closed without one. */
export function askKey() {
  const field = make("input", { type: "password", id: "key", autocomplete: "off", required: true });
  const keep = make("input", { type: "checkbox" });
  const dialog = make("dialog", { "aria-labelledby": "key-title" },
    make("form", { method: "dialog" },
      make("h2", { id: "key-title" }, words.key), make("p", {}, words.keyHint),
      make("label", { for: "key", class: "unseen" }, words.key), field,
      make("label", { class: "row" }, keep, words.keyKeep),
      make("div", { class: "row end" },
        make("button", { type: "button", class: "text", click: () => dialog.close() }, words.cancel),
        make("button", { type: "submit", class: "strong", value: "use" }, words.keySave))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise(done => dialog.addEventListener("close", () => {
    const key = field.value.trim();
    dialog.remove();
    done(dialog.returnValue === "use" && key ? { key, keep: keep.checked } : null);
  }));
}
