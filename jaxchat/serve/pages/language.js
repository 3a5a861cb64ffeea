// Which language a page speaks: the browser's, until somebody chooses.
import { set, setting } from "./kept.js";

export const chinese = () => (setting("language") ?? navigator.language ?? "").toLowerCase().startsWith("zh");
export const change = () => set("language", chinese() ? "en" : "zh");

/** Words by their name, in the language of the moment. */
export const spoken = (english, inChinese) => new Proxy({}, { get: (_, name) => (chinese() ? inChinese : english)[name] });
