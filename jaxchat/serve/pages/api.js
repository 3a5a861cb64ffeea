// Our OpenAI API, as the page asks it.
import { setting, set } from "./kept.js";
import { reason, words } from "./words.js";

export class Refused extends Error {
  constructor(status, message, code) { super(reason(message, code)); Object.assign(this, { status, code }); }
}

let wantKey = async () => null;
let key = null;
let asking = null; // for a key; several requests wait for one answer

/** `ask`: resolves to {key, keep}, or null. */
export const onKeyWanted = ask => { wantKey = ask; key = setting("key"); };
export const useKey = secret => { key = secret; };
export const hasKey = () => key !== null;
export const forgetKey = () => { key = null; set("key", null); };

async function keyFrom(person) {
  const given = await person();
  if (given) { key = given.key; set("key", given.keep ? key : null); }
  return given !== null;
}

export async function request(path, body, signal) {
  for (;;) {
    const mine = key;
    const headers = { ...(body && { "Content-Type": "application/json" }), ...(mine && { Authorization: `Bearer ${mine}` }) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    } catch (error) {
      throw error.name === "AbortError" ? error : new Refused(0, words.unreachable);
    }
    if (response.ok) return response;
    const told = (await response.json().catch(() => null))?.error;
    if (response.status === 401) {
      if (mine !== key) continue;
      asking ??= keyFrom(wantKey).finally(() => { asking = null; });
      if (await asking) continue;
    }
    throw new Refused(response.status, told?.message ?? (response.statusText || words.failed), told?.code);
  }
}

/** The models that can chat. */
export const models = async () => (await (await request("v1/models")).json()).data.filter(model => model.chats);

/** The chunks of a streamed answer. */
export async function* chunks(asked, signal) {
  const response = await request("v1/chat/completions", { ...asked, stream: true, stream_options: { include_usage: true } }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Refused(0, words.unreachable); // the stream broke off before its [DONE]
      const events = (rest + value).split("\n");
      rest = events.pop();
      for (const event of events) {
        if (event === "data: [DONE]") return;
        if (!event.startsWith("data: ")) continue;
        const row = JSON.parse(event.slice(6));
        if (row.error) throw new Refused(500, row.error.message, row.error.code);
        yield row;
      }
    }
  } catch (error) {
    throw error.name === "AbortError" || error instanceof Refused ? error : new Refused(0, words.unreachable);
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const rate = rating => request("v1/feedback", rating);
