// One question and its reply: as Markdown with citations, or as tokens.
import { askAgain, editLast, turns } from "./conversation.js";
import { Failure } from "./failure.js";
import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { t } from "./i18n.js";
import { rendered } from "./markdown.js";
import { side } from "./opened.js";
import { showTokens } from "./preferences.js";
import { aboutCitation, openPassage, place } from "./passage.js";
import { Tokens } from "./tokens.js";

const BEGINNING = 100; // characters of a passage that tell it from others of its section

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
      ${showTokens.value && answer.state !== "streaming" && answer.answered !== false && !answer.tokens.length && answer.text && html`
        <p class="notice">${t("tokens.absent")}</p>
      `}
      ${answer.answered === false && html`<p class="notice caution nocover">${t("answer.nocover")}</p>`}
      ${answer.answered === false && answer.passages.length > 0 && html`<p class="eyebrow">${t("answer.nearest")}</p>`}
      ${answer.passages.length > 0 && html`<${Sources} answer=${answer} />`}
      ${answer.state === "failed" && html`
        <${Failure} error=${answer.error} ...${index === turns.value.length - 1 ? { again: askAgain, edit: editLast } : {}} />
      `}
      <${Footnote} answer=${answer} doubtful=${doubtful.length} />
    </div>
  `;
}

function Prose({ answer }) {
  const box = useRef(null);
  const shown = side.value?.view === "passage" ? side.value : null;
  const cited = ({ dataset }) => ({
    passage: answer.passages.find(({ number }) => number === Number(dataset.citation)),
    sentence: answer.sentences[dataset.sentence],
  });
  useLayoutEffect(() => {
    box.current.replaceChildren(rendered(answer.text, answer.sentences));
    for (const mark of box.current.querySelectorAll("mark.unsupported")) mark.title = t("answer.unsupported");
    for (const link of box.current.querySelectorAll(".citation")) link.ariaLabel = link.title = aboutCitation(cited(link));
  }, [answer]);
  useEffect(() => {
    for (const link of box.current.querySelectorAll(".citation")) {
      const { passage, sentence } = cited(link);
      link.ariaCurrent = String(passage === shown?.passage && [null, sentence].includes(shown.sentence));
    }
  }, [answer, shown]);

  const onClick = ({ target }) => {
    const link = target.closest(".citation");
    if (!link) return;
    const { passage, sentence } = cited(link);
    openPassage(answer, passage, sentence);
  };
  return html`<div class="prose" ref=${box} onClick=${onClick}></div>`;
}

const Sources = ({ answer }) => html`
  <ol class="sources" aria-label=${t("answer.sources")}>
    ${answer.passages.map((passage) => html`
      <li key=${passage.number}>
        <button onClick=${() => openPassage(answer, passage)}>
          <span class="citation">${passage.number}</span>
          <span class="title">${passage.heading || passage.title}</span>
          <span class="beginning">${passage.text.slice(0, BEGINNING)}</span>
          <span class="place">${place(passage)}</span>
        </button>
      </li>
    `)}
  </ol>
`;

function Footnote({ answer, doubtful }) {
  const notes = [
    answer.state === "stopped" && t("answer.stopped"),
    answer.usage?.completion_tokens > 0 && t("answer.speed", {
      tokens: answer.usage.completion_tokens,
      seconds: answer.seconds.toFixed(1),
    }),
    answer.finish === "length" && t("answer.length"),
    doubtful > 0 && t("answer.doubtful", { n: doubtful }),
  ].filter(Boolean);
  return notes.length > 0 && html`<p class="footnote">${notes.map((note) => html`<span>${note}</span>`)}</p>`;
}
