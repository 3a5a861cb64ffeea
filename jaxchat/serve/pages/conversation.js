// A conversation is a tree of turns: editing one or answering again grows a branch. A column shows the way from the root
// to a leaf, and talks with one model.

const name = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, "0")).join("");

/** `like`: a conversation whose models and settings it begins with. */
export const begin = (like, model) => ({
  id: name(), title: "", changed: Date.now(), system: like?.system ?? "", sampling: { ...like?.sampling }, turns: {},
  columns: like ? like.columns.map(column => ({ model: column.model, leaf: null })) : [{ model, leaf: null }],
});

/** From the first turn to `leaf`. */
export function way(conversation, leaf) {
  const turns = [];
  for (let turn = conversation.turns[leaf]; turn; turn = conversation.turns[turn.parent]) turns.unshift(turn);
  return turns;
}

export function add(conversation, parent, turn) {
  const made = { id: name(), parent, created: Date.now(), ...turn };
  conversation.turns[made.id] = made;
  return made;
}

/** A turn and those in its place, the oldest first; beside another model, those of its own alone. */
export const versions = (conversation, turn) =>
  Object.values(conversation.turns).filter(other => other.parent === turn.parent && other.role === turn.role
    && (turn.role === "user" || conversation.columns.length === 1 || other.model === turn.model));

/** The leaf that is reached from `turn` by its latest branches, of `model` where it has any. */
export function latest(conversation, turn, model) {
  for (;;) {
    const next = Object.values(conversation.turns).filter(other => other.parent === turn.id);
    if (!next.length) return turn.id;
    turn = next.findLast(other => other.model === model) ?? next.at(-1);
  }
}

/** What the model is sent, and what is exported. `system`: an answer's own, where it was given under another prompt. */
export const messages = (conversation, leaf, system = conversation.system) => [
  ...(system.trim() ? [{ role: "system", content: system }] : []),
  ...way(conversation, leaf).filter(turn => turn.content).map(({ role, content }) => ({ role, content })),
];

/** The ways that are shown, as lines of JSON that `jaxchat data import` reads; those without an answer have none. */
export const lines = conversation => {
  const shown = conversation.columns.map(column => {
    const turns = messages(conversation, column.leaf);
    while (turns.length && turns.at(-1).role !== "assistant") turns.pop();
    return JSON.stringify({ messages: turns });
  });
  return [...new Set(shown)].filter(line => line !== '{"messages":[]}').map(line => line + "\n").join("");
};
