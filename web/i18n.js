// Chinese and English. `t(key, values)` reads the language signal, so whatever shows a text follows the switch.
import { effect } from "./html.js";
import { language } from "./preferences.js";
import { WORDS } from "./words.js";

const COLUMN = { en: 0, zh: 1 };

/** The text of `key` in the language chosen, with each {name} replaced by values.name. */
export function t(key, values = {}) {
  return WORDS[key][COLUMN[language.value]].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The side of an {en, zh} pair that the server sent. */
export const pick = (pair) => pair[language.value];

/** The name of a stage of the sampler, or of a kind of module; one that is new on the server keeps the server's name. */
export const stageName = (name) => (`stage.${name}` in WORDS ? t(`stage.${name}`) : name);
export const kindName = (name) => (`kind.${name}` in WORDS ? t(`kind.${name}`) : name);

/** A probability as the table shows it: 12.3 %, or <0.01 %. */
export function percent(p) {
  if (p > 0 && p < 0.0001) return "<0.01 %";
  return `${(p * 100).toFixed(p >= 0.1 ? 1 : 2)} %`;
}

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});
