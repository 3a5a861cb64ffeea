// Dark or light: as the system has it, until somebody chooses.
import { set, setting } from "./kept.js";

const system = matchMedia("(prefers-color-scheme: dark)");

export const dark = () => (setting("theme") ?? (system.matches ? "dark" : "light")) === "dark";
export const apply = () => { document.documentElement.dataset.theme = dark() ? "dark" : "light"; };
export const toggle = () => { set("theme", dark() ? "light" : "dark"); apply(); };

system.addEventListener("change", apply);
apply();
