// The token inspector: fetches the report of one token and shows its parts.
import { Attention } from "./attention.js";
import { Choice } from "./choice.js";
import { turns } from "./conversation.js";
import { Failure } from "./failure.js";
import { html, useEffect, useState } from "./html.js";
import { percent, t } from "./i18n.js";
import { Icon } from "./icons.js";
import { Lens } from "./lens.js";
import { flowing, openPassage, place, placesIn } from "./passage.js";
import { inspect, sentenceOf } from "./reply.js";
import { visible } from "./run.js";
import { openToken } from "./tokens.js";

export function Inspector({ turn, index }) {
  const answer = turns.value[turn].answer.value;
  const [{ report, of, error }, show] = useState({});
  useEffect(() => {
    const asked = new AbortController();
    inspect(answer, index, asked.signal).then(
      (report) => show({ report, of: index }),
      (error) => error.name !== "AbortError" && show({ error }),
    );
    return () => asked.abort();
  }, [turn, index]);

  if (error) return html`<${Failure} error=${error} />`;
  return html`
    <div class="inspector" aria-busy=${of !== index}>
      <${Head} turn=${turn} answer=${answer} index=${index} report=${of === index ? report : null} />
      ${report
        ? html`<${Choice} report=${report} /><${Attention} turn=${turn} report=${report} /><${Lens} report=${report} />`
        : html`<p class="muted">${t("inspect.working")}</p>`}
      ${index >= 0 && html`<${Behind} answer=${answer} index=${index} />`}
    </div>
  `;
}

function Head({ turn, answer, index, report }) {
  const token = answer.tokens[index] ?? report?.token; // a token of the prompt is known from its report alone
  const probability = report?.probability ?? token?.probability;
  const first = 1 - answer.prompt_length; // the prompt's first token follows nothing, so there is nothing to open
  const step = (to, name, label) => html`
    <button class="button quiet iconic" aria-label=${t(label)} title=${t(label)}
      disabled=${to < first || to >= answer.tokens.length} onClick=${() => openToken(turn, to)}><${Icon} name=${name} /></button>
  `;
  return html`
    <header class="opened">
      ${step(index - 1, "left", "inspect.previous")}
      <div>
        <code class="big">${token ? visible(token) : "…"}</code>
        <p class="muted">
          ${index < 0 ? t("inspect.nthprompt", { n: answer.prompt_length + index + 1 }) : t("inspect.nth", { n: index + 1 })}
        </p>
      </div>
      ${step(index + 1, "right", "inspect.next")}
    </header>
    <dl class="facts">
      <div><dt>${t("inspect.probability")}</dt><dd>${probability === undefined ? "…" : percent(probability)}</dd></div>
      <div><dt>${t("inspect.rank")}</dt><dd>${report?.rank ?? "…"}</dd></div>
      <div><dt>${t("inspect.entropy")}</dt><dd>${report ? t("inspect.bits", { n: report.entropy_bits.toFixed(2) }) : "…"}</dd></div>
      <div><dt>${t("inspect.id")}</dt><dd>${report?.token.id ?? "…"}</dd></div>
    </dl>
  `;
}

/** The passages that support the token's sentence or are related to it, by what they say of it. */
function Behind({ answer, index }) {
  const sentence = sentenceOf(answer, index);
  const passages = answer.passages.filter(({ number }) => sentence?.passages.includes(number));
  return html`
    <section class="part behind" aria-labelledby="part-behind">
      <h3 id="part-behind">${t("behind.title")}</h3>
      ${passages.length === 0 && html`<p class="muted">${t("behind.none")}</p>`}
      ${passages.map((passage) => html`
        <p class="quote">${excerpt(passage, sentence)}</p>
        <button class="button" onClick=${() => openPassage(answer, passage, sentence)}>
          <span class="citation">${passage.number}</span> ${place(passage)}
        </button>
      `)}
      ${passages.length > 0 && !sentence.supported && html`<p class="muted">${t("passage.related")}</p>`}
    </section>
  `;
}

function excerpt(passage, sentence) {
  const text = flowing(passage.text);
  return placesIn(passage, [sentence]).map(({ start, end }) => text.slice(start, end)).join(" … ");
}
