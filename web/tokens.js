// A reply as its tokens, coloured by how surprising each was.
import { html } from "./html.js";
import { percent, t } from "./i18n.js";
import { cited } from "./markdown.js";
import { openSide, side } from "./opened.js";
import { aboutCitation, openPassage } from "./passage.js";
import { sentenceOf } from "./reply.js";
import { TokenRun, visible } from "./run.js";

/** Open token `index` of the reply of turn number `turn`; those before 0 are the prompt's, counted back from its end. */
export const openToken = (turn, index) => openSide({ view: "token", turn, index });

export function Tokens({ answer, turn }) {
  const open = side.value?.view === "token" && side.value.turn === turn ? side.value.index : null;
  const sentences = answer.tokens.map((_, index) => sentenceOf(answer, index));
  const tokens = answer.tokens.map((token, index) => ({
    bytes: token.bytes,
    title: `${visible(token)}, ${percent(token.probability)}`,
    style: { "--surprise": surprise(token.probability) },
    locked: !answer.ids, // they come at the end of the reply
    className: sentences[index]?.supported === false ? "unsupported" : "",
    after: sentences[index] !== sentences[index + 1] && html`<${Citations} answer=${answer} sentence=${sentences[index]} />`,
  }));
  return html`
    <${TokenRun} kind="surprise" label=${t("tokens.label")} tokens=${tokens} current=${open >= 0 ? open : null}
      onOpen=${(index) => openToken(turn, index)} />
    ${!answer.ids && answer.state !== "streaming" && html`<p class="notice">${t("tokens.cut")}</p>`}
    <p class="scale" aria-hidden="true">${t("tokens.sure")}<span></span>${t("tokens.unsure")}</p>
  `;
}

const Citations = ({ answer, sentence }) =>
  answer.passages
    .filter(({ number }) => sentence?.passages.includes(number))
    .map((passage) => html`
      <button class="citation" title=${aboutCitation({ passage, sentence })} aria-label=${aboutCitation({ passage, sentence })}
        onClick=${() => openPassage(answer, passage, sentence)}>${cited(passage.number, sentence)}</button>
    `);

/** 0 for a certain token to 1 for one of 1 in 1,000: bits of surprise over ten. */
const surprise = (probability) => Math.min(1, -Math.log2(Math.max(probability, 1e-9)) / 10);
