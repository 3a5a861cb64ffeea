// The conversations that this browser keeps: open, rename, remove, export.
import { button, make } from "./dom.js";
import { words } from "./words.js";

function renaming(conversation, row, on) {
  const field = make("input", { type: "text", "aria-label": words.rename, maxlength: 120 });
  field.value = conversation.title;
  let done = false;
  const end = save => {
    if (done) return;
    done = true;
    on.rename(conversation, save && field.value.trim() ? field.value.trim() : conversation.title);
  };
  field.addEventListener("blur", () => end(true));
  field.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.isComposing) end(true);
    if (event.key === "Escape") { event.stopPropagation(); end(false); }
  });
  row.replaceChildren(field);
  field.select();
}

/** `on`: open, rename(conversation, title), remove, exportAll. */
export function conversationList(conversations, current, on) {
  const rows = conversations.map(conversation => {
    const here = conversation.id === current.id;
    const row = make("li", { class: here ? "here" : null },
      make("button", { type: "button", class: "open", "aria-current": here ? "true" : null, click: () => on.open(conversation) },
        conversation.title || words.untitled),
      button("edit", `${words.rename}: ${conversation.title}`, () => renaming(conversation, row, on)),
      button("trash", `${words.remove}: ${conversation.title}`, () => on.remove(conversation)));
    return row;
  });
  return [make("ul", {}, ...rows), rows.length ? make("button", { type: "button", class: "text", click: on.exportAll }, words.exportAll) : ""];
}
