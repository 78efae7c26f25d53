// What the side panel shows, and where the focus returns to when it closes.
import { computed, signal } from "./html.js";

/** null, or {view: "passage" | "token" | "settings", …what that view needs}. */
export const side = signal(null);

const query = matchMedia("(max-width: 900px)");
const narrow = signal(query.matches);
query.addEventListener("change", (event) => (narrow.value = event.matches));

/** Whether the panel lies over the rest of the page (style/shell.css), which then takes no focus. */
export const covering = computed(() => narrow.value && side.value !== null);

let opener = null;

/** Show something in the panel, in place of what it shows. */
export function openSide(next) {
  if (!side.value) opener = document.activeElement;
  side.value = next;
}

/** Close the panel; Escape does too. */
export function closeSide() {
  side.value = null;
  setTimeout(() => opener?.focus()); // once it is drawn again as what can take the focus
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && side.value && !document.querySelector("dialog[open]")) closeSide();
});
