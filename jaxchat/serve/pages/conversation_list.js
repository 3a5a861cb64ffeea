// The conversations that this browser keeps: find, open, rename, remove, export.
import { button, make } from "./dom.js";
import { words } from "./words.js";

function renaming(conversation, row, on) {
  const field = make("input", { type: "text", dir: "auto", "aria-label": words.rename, maxlength: 120 });
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

const plain = text => text.normalize("NFKC").toLowerCase();

/** Whether a conversation's title, or anything said in it, holds what is looked for. */
function holds(conversation, sought) {
  const texts = [conversation.title, ...Object.values(conversation.turns).map(turn => turn.content)];
  return texts.some(text => plain(text).includes(sought));
}

/** `sought`: only those that hold it are listed. `on`: open, rename(conversation, title), remove, exportAll. */
export function conversationList(conversations, current, sought, on) {
  const found = conversations.filter(conversation => holds(conversation, plain(sought.trim())));
  const rows = found.map(conversation => {
    const here = conversation.id === current.id;
    const row = make("li", { class: here ? "here" : null },
      make("button", { type: "button", class: "open", dir: "auto", "aria-current": here ? "true" : null, click: () => on.open(conversation) },
        conversation.title || words.untitled),
      button("edit", `${words.rename}: ${conversation.title}`, () => renaming(conversation, row, on)),
      button("trash", `${words.remove}: ${conversation.title}`, () => on.remove(conversation)));
    return row;
  });
  if (!rows.length && conversations.length) return [make("p", { role: "status" }, words.nothingFound)];
  return [make("ul", {}, ...rows), rows.length ? make("button", { type: "button", class: "text", click: on.exportAll }, words.exportAll) : ""];
}
