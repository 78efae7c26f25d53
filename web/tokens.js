// A reply as its tokens: coloured by how surprising each was, and a button each. Arrow keys move, Enter opens.
import { html, useRef } from "./html.js";
import { percent, t } from "./i18n.js";
import { openSide, side } from "./opened.js";
import { sentenceOf } from "./reply.js";

const STEP = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

/** A token's text where spaces and line ends would not be seen. */
export const visible = (text) => (text.trim() ? text.replace(/\n/g, "⏎") : text.replace(/\n/g, "⏎").replace(/ /g, "␣") || "∅");

export function Tokens({ answer, turn }) {
  const box = useRef(null);
  const open = side.value?.view === "token" && side.value.turn === turn ? side.value.index : null;

  const onKeyDown = (event) => {
    const next = moveFocus(event, box.current);
    if (next !== null && open !== null) openToken(turn, next);
  };
  return html`
    <div class="tokens" ref=${box} role="toolbar" aria-label=${t("tokens.label")} onKeyDown=${onKeyDown}>
      ${answer.tokens.map((token, index) => html`
        <button key=${index} class="token ${sentenceOf(answer, index)?.supported === false ? "unsupported" : ""}" type="button" tabindex=${index === (open ?? 0) ? 0 : -1}
          aria-pressed=${index === open} aria-label=${`${visible(token.text)}, ${percent(token.probability)}`}
          title=${percent(token.probability)} style=${{ "--surprise": surprise(token.probability) }}
          onClick=${() => openToken(turn, index)}>${token.text}</button>
      `)}
    </div>
    <p class="scale" aria-hidden="true">${t("tokens.sure")}<span></span>${t("tokens.unsure")}</p>
  `;
}

/** Arrow keys, Home and End among the children of `box`. Gives the number of the child that has the focus now, or null. */
export function moveFocus(event, box) {
  const all = [...box.children];
  const at = all.indexOf(event.target);
  const next = { Home: 0, End: all.length - 1 }[event.key] ?? at + (STEP[event.key] ?? 0);
  if (at < 0 || next === at || !all[next]) return null;
  event.preventDefault();
  all[next].focus();
  return next;
}

/** Open token `index` of the reply of turn number `turn`; those before 0 are the prompt's, counted back from its end. */
export const openToken = (turn, index) => openSide({ view: "token", turn, index });

/** 0 for a certain token to 1 for one of 1 in 1,000: bits of surprise over ten. */
const surprise = (probability) => Math.min(1, -Math.log2(Math.max(probability, 1e-9)) / 10);
