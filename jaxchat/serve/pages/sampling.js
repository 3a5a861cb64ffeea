// Sliders for what a request carries. One that was not moved is not sent: the model's own settings decide.
import { button, make } from "./dom.js";
import { words } from "./words.js";

const SLIDERS = [
  { name: "temperature", min: 0, max: 2, step: 0.05, at: 1 },
  { name: "max_tokens", min: 1, max: 4096, step: 1, at: 512 },
  { name: "top_p", min: 0.01, max: 1, step: 0.01, at: 1 },
  { name: "top_k", min: 0, max: 200, step: 1, at: 0 },
  { name: "min_p", min: 0, max: 1, step: 0.01, at: 0 },
  { name: "repetition_penalty", min: 0.5, max: 2, step: 0.01, at: 1 },
];

function slider({ name, min, max, step, at }, sampling, changed) {
  const range = make("input", { type: "range", min, max, step, id: `slider-${name}` });
  const number = make("input", { type: "number", min, max, step, "aria-label": words[name], placeholder: words.own });
  const show = () => {
    range.value = sampling[name] ?? at;
    number.value = sampling[name] ?? "";
    reset.disabled = sampling[name] === undefined;
    range.setAttribute("aria-valuetext", sampling[name] ?? words.own);
  };
  const set = value => {
    if (value === "") delete sampling[name];
    else sampling[name] = Math.min(max, Math.max(min, step === 1 ? Math.round(value) : Number(value)));
    show();
    changed();
  };
  const reset = button("again", words.reset, () => set(""));
  range.addEventListener("input", () => set(range.value));
  number.addEventListener("change", () => set(number.value));
  show();
  return make("div", { class: "slider" }, make("label", { for: range.id }, words[name]), number, reset, range);
}

function seed(sampling, changed) {
  const field = make("input", { type: "number", step: 1, min: 0, max: 2 ** 31 - 1, id: "seed", placeholder: words.random });
  field.value = sampling.seed ?? "";
  field.addEventListener("change", () => {
    if (field.value === "") delete sampling.seed;
    else sampling.seed = Math.min(2 ** 31 - 1, Math.max(0, Math.round(field.value)));
    field.value = sampling.seed ?? "";
    changed();
  });
  return make("div", { class: "slider" }, make("label", { for: field.id }, words.seed), field);
}

/** `longest`: tokens that the models can hold. Writes into `sampling`. */
export const sliders = (sampling, longest, changed) => [
  ...SLIDERS.map(one => slider(one.name === "max_tokens" ? { ...one, max: longest } : one, sampling, changed)),
  seed(sampling, changed),
];
