// A passage of the documents: where it stands, and its text with the sentences that a reply rests on highlighted.
import { evidence, flowing } from "./evidence.js";
import { html, useLayoutEffect, useMemo, useRef } from "./html.js";
import { t } from "./i18n.js";
import { openSide } from "./opened.js";

/** Where in its source a passage stands, in a few characters. */
export const place = ({ page, source }) => [source, page && t("passage.onpage", { page })].filter(Boolean).join(" · ");

/** Open a passage for one sentence of the reply, or (null) for all that cite it. */
export function openPassage(answer, passage, sentence = null) {
  const citing = answer.sentences.filter((one) => one.passages.includes(passage.number) && (!sentence || one === sentence));
  openSide({ view: "passage", passage, sentence, claims: citing.map(({ start, end }) => answer.text.slice(start, end)) });
}

export function Passage({ passage, claims }) {
  const quote = useRef(null);
  const parts = useMemo(() => marked(flowing(passage.text), claims), [passage, claims]);
  useLayoutEffect(() => quote.current.querySelector("mark")?.scrollIntoView({ block: "nearest" }), [parts]);
  return html`
    <article class="passage">
      <h3><span class="citation">${passage.number}</span> ${passage.heading || passage.source}</h3>
      <dl>
        <dt>${t("passage.source")}</dt><dd>${passage.source}</dd>
        ${passage.page && html`<dt>${t("passage.page")}</dt><dd>${passage.page}</dd>`}
        <dt>${t("passage.chars")}</dt><dd>${passage.start}–${passage.end}</dd>
        <dt>${t("passage.score")}</dt><dd>${passage.score.toFixed(3)}</dd>
      </dl>
      <blockquote ref=${quote}>${parts}</blockquote>
      <p class="muted">${t(claims.length ? "passage.marked" : "passage.uncited")}</p>
    </article>
  `;
}

function marked(text, claims) {
  const parts = [];
  let at = 0;
  for (const { start, end } of evidence(text, claims)) {
    parts.push(text.slice(at, start), html`<mark>${text.slice(start, end)}</mark>`);
    at = end;
  }
  return [...parts, text.slice(at)];
}
