// Who rates: the invitation in the link, and this browser's own secret, which is made before it is sent.
import { request, useKey } from "./api.js";
import { set, setting } from "./kept.js";

const secret = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(30)))).replace(/\+/g, "-").replace(/\//g, "_");

/** Ties the link to this browser, or finds that it is; the last one that was opened, where there is none. */
export async function enter() {
  const invitation = location.hash.slice(1) || setting("arena.last");
  if (!invitation) return;
  const session = setting(`arena.${invitation}`) ?? secret();
  set(`arena.${invitation}`, session);
  await request("arena/claim", { invitation, session });
  set("arena.last", invitation);
  useKey(session);
}

const json = async asked => (await asked).json();

export const study = () => json(request("arena/study"));
export const next = () => json(request("arena/next"));
export const shown = key => json(request(`arena/shown/${key}`));
export const ask = text => json(request("arena/ask", { text }));
export const rate = rating => json(request("arena/ratings", rating));
