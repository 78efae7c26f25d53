// A run of tokens as flowing text, each of which can be opened. Arrow keys, Home and End move; Enter and space open.
import { html, useMemo, useRef } from "./html.js";

const STEP = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/** A token in one line, where white space and line ends would not be seen; part of a character shows as its bytes. */
export const visible = ({ text, bytes }) => {
  if (text.includes("\uFFFD")) return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
  const line = text.replace(/\n/g, "⏎");
  return line.trim() ? line : line.replace(/./gsu, blank) || "∅";
};

const blank = (space) => BLANKS[space] ?? `U+${space.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

const BLANKS = { " ": "␣", "\t": "⇥" };

const PART = "·";

/** The text of each token in a run: a character that is split over tokens is shown by the last of them, by the others a dot. */
function readable(tokens) {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return tokens.map(({ bytes }) => decoder.decode(new Uint8Array(bytes), { stream: true }).replace(/\n/g, "⏎\n") || PART);
}

/**
 * @param label   what the run is, for a screen reader.
 * @param tokens  {bytes, title, style, className?, locked?, after?} each; a locked token cannot be opened, `after` follows it.
 * @param current number of the token that is open, or null: then moving the focus opens nothing.
 * @param onOpen  gets the number of a token.
 * @param kind    class of the box.
 */
export function TokenRun({ label, tokens, current, onOpen, kind, children }) {
  const box = useRef(null);
  const texts = useMemo(() => readable(tokens), [tokens.length, tokens[0]?.bytes]);
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
      ${tokens.map(({ title, style, className = "", locked = false, after }, i) => html`
        <span key=${i} class="token ${className} ${texts[i] === PART ? "partial" : ""}" role="button" tabindex=${i === entry ? 0 : -1} title=${title}
          aria-label=${title} aria-pressed=${i === current} aria-disabled=${locked} style=${style}
          onClick=${() => locked || onOpen(i)}>${texts[i]}</span>${after}
      `)}${children}
    </div>
  `;
}
