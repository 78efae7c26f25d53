// A run of tokens as flowing text, each of which can be opened. Arrow keys, Home and End move; Enter and space open.
import { html, useRef } from "./html.js";

const STEP = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/** A token's text in one line, where spaces and line ends would not be seen. */
export const visible = (text) => {
  const line = text.replace(/\n/g, "⏎");
  return line.trim() ? line : line.replace(/ /g, "␣") || "∅";
};

/**
 * @param label   what the run is, for a screen reader.
 * @param tokens  {text, title, style, className?, locked?} each; a locked token cannot be opened.
 * @param current number of the token that is open, or null: then moving the focus opens nothing.
 * @param onOpen  gets the number of a token.
 * @param kind    class of the box.
 */
export function TokenRun({ label, tokens, current, onOpen, kind, children }) {
  const box = useRef(null);
  const entry = current ?? tokens.findIndex(({ locked }) => !locked);

  const onKeyDown = (event) => {
    const all = [...box.current.querySelectorAll(".token")];
    const at = all.indexOf(event.target);
    const next = { Home: 0, End: all.length - 1, Enter: at, " ": at }[event.key] ?? at + (STEP[event.key] ?? NaN);
    if (!tokens[next] || tokens[next].locked) return;
    event.preventDefault();
    all[next].focus();
    if (next === at || current !== null) onOpen(next);
  };
  // Not <button>: a button is a box of its own, in which a line cannot end.
  return html`
    <div class="run ${kind}" ref=${box} role="toolbar" aria-label=${label} onKeyDown=${onKeyDown}>
      ${tokens.map(({ text, title, style, className = "", locked = false }, i) => html`
        <span key=${i} class="token ${className}" role="button" tabindex=${i === entry ? 0 : -1} title=${title}
          aria-label=${title} aria-pressed=${i === current} aria-disabled=${locked} style=${style}
          onClick=${() => locked || onOpen(i)}>${text.replace(/\n/g, "⏎\n")}</span>
      `)}${children}
    </div>
  `;
}
