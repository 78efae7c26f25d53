// What the side panel shows, and where the focus returns to when it closes.
import { signal } from "./html.js";

/** null, or {view: "passage" | "token" | "settings", …what that view needs}. */
export const side = signal(null);

let opener = null;

/** Show something in the panel, in place of what it shows. */
export function openSide(next) {
  if (!side.value) opener = document.activeElement;
  side.value = next;
}

/** Close the panel; Escape does too. */
export function closeSide() {
  side.value = null;
  opener?.focus();
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && side.value && !document.querySelector("dialog[open]")) closeSide();
});
