// A passage of the documents: where it stands, and its text with what was used highlighted.
import { html } from "./html.js";
import { t } from "./i18n.js";

/** Where in its source a passage stands, in a few characters. */
export const place = ({ page, source }) => [source, page && t("passage.onpage", { page })].filter(Boolean).join(" · ");

export const Passage = ({ passage }) => html`
  <article class="passage">
    <h3><span class="citation">${passage.number}</span> ${passage.heading || passage.source}</h3>
    <dl>
      <dt>${t("passage.source")}</dt><dd>${passage.source}</dd>
      ${passage.page && html`<dt>${t("passage.page")}</dt><dd>${passage.page}</dd>`}
      <dt>${t("passage.chars")}</dt><dd>${passage.start}–${passage.end}</dd>
      <dt>${t("passage.score")}</dt><dd>${passage.score.toFixed(3)}</dd>
    </dl>
    <blockquote><mark>${passage.text}</mark></blockquote>
  </article>
`;
