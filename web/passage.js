// A passage of the documents: where it stands, and its text with the sentences that a reply rests on highlighted.
import { html, useLayoutEffect, useMemo, useRef } from "./html.js";
import { t } from "./i18n.js";
import { openSide } from "./opened.js";

/** Where in its source a passage stands, in a few characters. */
export const place = ({ page, source }) => [source, page && t("passage.onpage", { page })].filter(Boolean).join(" · ");

/** What a citation says of itself when it is pointed at or read out. */
export const aboutCitation = ({ passage, sentence }) =>
  t(sentence.supported ? "answer.citation" : "answer.related", { n: passage.number });

/** Open a passage for one sentence of the reply, or (null) for all that it is cited for. */
export function openPassage(answer, passage, sentence = null) {
  const citing = (sentence ? [sentence] : answer.sentences).filter(({ passages }) => passages.includes(passage.number));
  openSide({ view: "passage", passage, sentence, citing });
}

/** The places in a passage that sentences of a reply rest on, in order, each once: {start, end} in the units of its text. */
export function placesIn(passage, sentences) {
  const found = sentences.flatMap(({ evidence }) => evidence).filter((one) => one.passage === passage.number);
  return [...new Map(found.map((one) => [one.start, one])).values()].sort((a, b) => a.start - b.start);
}

export function Passage({ passage, citing }) {
  const quote = useRef(null);
  const parts = useMemo(() => marked(passage, citing), [passage, citing]);
  useLayoutEffect(() => quote.current.querySelector("mark")?.scrollIntoView({ block: "nearest" }), [parts]);
  const note = citing.length === 0 ? "passage.uncited" : citing.some(({ supported }) => supported) ? "passage.marked" : "passage.related";
  return html`
    <article class="passage">
      <h3><span class="citation">${passage.number}</span> ${passage.heading || passage.title}</h3>
      <dl>
        <dt>${t("passage.source")}</dt><dd>${passage.source}</dd>
        ${passage.page && html`<dt>${t("passage.page")}</dt><dd>${passage.page}</dd>`}
        <dt>${t("passage.chars")}</dt><dd>${passage.start}–${passage.end}</dd>
        <dt>${t("passage.score")}</dt><dd>${passage.score.toFixed(3)}</dd>
      </dl>
      <blockquote ref=${quote}>${parts}</blockquote>
      <p class="muted">${t(note)}</p>
    </article>
  `;
}

function marked(passage, citing) {
  const text = flowing(passage.text);
  const parts = [];
  let at = 0;
  for (const { start, end } of placesIn(passage, citing)) {
    parts.push(text.slice(at, start), html`<mark>${text.slice(start, end)}</mark>`);
    at = end;
  }
  return [...parts, text.slice(at)];
}

/**
 * A passage as flowing text of the same length: a line end that only breaks a long line of the source becomes a space; between
 * Han characters, where no space belongs, one of no width.
 */
export const flowing = (text) =>
  text.replace(WRAP, (_, at) => (HAN.test(text[at - 1]) && HAN.test(text[at + 1]) ? "\u200B" : " "));

const WRAP = /(?<=[^\n]{55})\n(?=[\p{L}\p{N}(“"'`])/gu;
const HAN = /[\p{Script=Han}\u3000-\u303F\uFF00-\uFFEF]/u;
