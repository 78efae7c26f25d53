// One question and its reply: as Markdown with citations, or as tokens.
import { Failure } from "./failure.js";
import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { t } from "./i18n.js";
import { rendered } from "./markdown.js";
import { openSide, side } from "./opened.js";
import { showTokens } from "./preferences.js";
import { place } from "./passage.js";
import { Tokens } from "./tokens.js";

export const Turn = ({ turn, index }) => html`
  <article class="turn">
    <div class="question">${turn.question}</div>
    <${Answer} turn=${turn} index=${index} />
  </article>
`;

function Answer({ turn, index }) {
  const answer = turn.answer.value;
  const doubtful = answer.sentences.filter((sentence) => !sentence.supported);
  return html`
    <div class="answer ${answer.state}" aria-busy=${answer.state === "streaming"}>
      ${showTokens.value && answer.tokens.length > 0
        ? html`<${Tokens} answer=${answer} turn=${index} />`
        : html`<${Prose} answer=${answer} />`}
      ${showTokens.value && answer.state !== "streaming" && !answer.tokens.length && answer.text && html`
        <p class="notice">${t("tokens.absent")}</p>
      `}
      ${answer.answered === false && html`<p class="notice caution nocover">${t("answer.nocover")}</p>`}
      ${answer.passages.length > 0 && html`<${Sources} answer=${answer} />`}
      ${answer.state === "failed" && html`<${Failure} error=${answer.error} />`}
      <${Footnote} answer=${answer} doubtful=${doubtful.length} />
    </div>
  `;
}

function Prose({ answer }) {
  const box = useRef(null);
  const shown = side.value?.view === "passage" ? side.value.passage : null;
  useLayoutEffect(() => {
    const numbers = answer.passages.map((source) => source.number);
    box.current.replaceChildren(rendered(answer.text, answer.sentences, numbers));
    for (const mark of box.current.querySelectorAll("mark.unsupported")) mark.title = t("answer.unsupported");
    for (const link of box.current.querySelectorAll(".citation")) link.ariaLabel = t("answer.citation", { n: link.textContent });
  }, [answer]);
  useEffect(() => {
    for (const link of box.current.querySelectorAll(".citation")) {
      link.ariaCurrent = String(answer.passages.find((source) => source === shown)?.number === Number(link.dataset.citation));
    }
  }, [answer, shown]);

  const onClick = ({ target }) => {
    const number = Number(target.closest(".citation")?.dataset.citation);
    const passage = answer.passages.find((source) => source.number === number);
    if (passage) openSide({ view: "passage", passage });
  };
  return html`<div class="prose" ref=${box} onClick=${onClick}></div>`;
}

const Sources = ({ answer }) => html`
  <ol class="sources" aria-label=${t("answer.sources")}>
    ${answer.passages.map((passage) => html`
      <li key=${passage.number}>
        <button onClick=${() => openSide({ view: "passage", passage })}>
          <span class="citation">${passage.number}</span>
          <span class="title">${passage.heading || passage.source}</span>
          <span class="place">${place(passage)}</span>
        </button>
      </li>
    `)}
  </ol>
`;

function Footnote({ answer, doubtful }) {
  const notes = [
    answer.state === "stopped" && t("answer.stopped"),
    answer.usage && answer.seconds && t("answer.speed", {
      tokens: answer.usage.completion_tokens,
      seconds: answer.seconds.toFixed(1),
    }),
    answer.finish === "length" && t("answer.length"),
    doubtful > 0 && t("answer.doubtful", { n: doubtful }),
  ].filter(Boolean);
  return notes.length > 0 && html`<p class="footnote">${notes.map((note) => html`<span>${note}</span>`)}</p>`;
}
