// What stays in the browser: settings, and conversations under a key each, so that two tabs do not undo each other.
const SETTING = "jaxchat.setting.";
const CONVERSATION = "jaxchat.conversation.";

const read = key => { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } };

export const setting = name => read(SETTING + name);
export const set = (name, value) => { try { localStorage.setItem(SETTING + name, JSON.stringify(value)); } catch { /* lasts as long as the page */ } };

const keys = () => { try { return Object.keys(localStorage); } catch { return []; } }; // a browser may forbid it

/** All of them, the last that was changed first. */
export const conversations = () =>
  keys().filter(key => key.startsWith(CONVERSATION)).map(read).filter(Boolean)
    .sort((a, b) => b.changed - a.changed);

export const conversation = id => read(CONVERSATION + id);

/** False where the browser has no room. */
export const keep = conversation => {
  try { localStorage.setItem(CONVERSATION + conversation.id, JSON.stringify(conversation)); return true; } catch { return false; }
};

export const remove = id => { try { localStorage.removeItem(CONVERSATION + id); } catch { /* nothing was kept */ } };

/** Calls `changed` with the id of a conversation that another tab wrote or removed. */
export const onOtherTab = changed =>
  addEventListener("storage", event => { if (event.key?.startsWith(CONVERSATION)) changed(event.key.slice(CONVERSATION.length)); });
