// What the page remembers between visits, in localStorage under `cutaway.*`.
import { effect, signal } from "./html.js";

function remembered(name, initial) {
  const key = `cutaway.${name}`;
  let start = initial;
  try {
    const stored = localStorage.getItem(key);
    if (stored !== null) start = JSON.parse(stored);
  } catch {
    localStorage.removeItem(key); // not what this page wrote
  }
  const value = signal(start);
  effect(() => localStorage.setItem(key, JSON.stringify(value.value)));
  return value;
}

const browserLanguage = navigator.language.startsWith("zh") ? "zh" : "en";

export const language = remembered("language", browserLanguage);
export const theme = remembered("theme", "system"); // system | light | dark
export const apiKey = remembered("key", "");
export const model = remembered("model", "");
export const grounded = remembered("grounded", true);
export const showTokens = remembered("tokens", false);

/** Only what the user changed; the server keeps its own default for the rest. */
export const sampling = remembered("sampling", {});
