// Light and dark. "system" follows the machine; the colours themselves are in style/base.css.
import { computed, effect, signal } from "./html.js";
import { theme } from "./preferences.js";

const query = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(query.matches);
query.addEventListener("change", (event) => (systemDark.value = event.matches));

/** Whether the page is dark now. */
export const dark = computed(() => (theme.value === "system" ? systemDark.value : theme.value === "dark"));

/** The value of a CSS custom property, for what is drawn on a canvas. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

effect(() => {
  document.documentElement.dataset.theme = dark.value ? "dark" : "light";
});
