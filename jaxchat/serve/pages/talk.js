// Asks models and writes their answers into conversations, several at once, whichever of them is looked at.
import { chunks } from "./api.js";
import { add, messages, way } from "./conversation.js";

const writing = new Map(); // by the answer's id: whose it is, and how to stop it

export const isWriting = turn => writing.has(turn.id);
export const writes = conversation => [...writing.values()].some(one => one.conversation === conversation);
export const stop = conversation => {
  for (const one of writing.values()) if (one.conversation === conversation) one.controller.abort();
};

/** `on`: drawn(conversation) when turns were added, grown(conversation, turn) while one is written and when it ends. */
export async function answer(conversation, column, on) {
  const asked = {
    model: column.model, messages: messages(conversation, column.leaf), ...conversation.sampling,
  };
  const turn = add(conversation, column.leaf, { role: "assistant", content: "", model: column.model, system: conversation.system });
  const controller = new AbortController();
  writing.set(turn.id, { conversation, controller });
  column.leaf = turn.id;
  on.drawn(conversation);
  let first = null;
  try {
    for await (const chunk of chunks(asked, controller.signal)) {
      turn.completion = chunk.id;
      if (chunk.usage) {
        turn.tokens = chunk.usage.completion_tokens;
        turn.seconds = (performance.now() - (first ?? performance.now())) / 1000;
      }
      const choice = chunk.choices[0];
      if (choice?.finish_reason) turn.finish = choice.finish_reason;
      if (choice?.delta.content) {
        first ??= performance.now();
        turn.content += choice.delta.content;
        on.grown(conversation, turn);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") turn.finish = "stopped";
    else turn.failed = error.message;
  } finally {
    writing.delete(turn.id);
    on.grown(conversation, turn);
  }
}

/** Puts a question at the end of every column; columns that are at one place share it. */
export function ask(conversation, text, on) {
  const asked = new Map();
  for (const column of conversation.columns) {
    if (!asked.has(column.leaf)) asked.set(column.leaf, add(conversation, column.leaf, { role: "user", content: text }));
    column.leaf = asked.get(column.leaf).id;
  }
  for (const column of conversation.columns) answer(conversation, column, on);
}

const showing = (conversation, turn) =>
  conversation.columns.filter(column => way(conversation, column.leaf).includes(turn));

/** A branch: the question again, in other words, in the columns that show it. */
export function askAnew(conversation, turn, text, on) {
  const columns = showing(conversation, turn);
  const anew = add(conversation, turn.parent, { role: "user", content: text });
  for (const column of columns) column.leaf = anew.id;
  for (const column of columns) answer(conversation, column, on);
}

/** A branch: another answer to the same question. */
export function answerAnew(conversation, column, turn, on) {
  column.leaf = turn.parent;
  return answer(conversation, column, on);
}
