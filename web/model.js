// The whole model on a text that the reader types, after images and sounds where the model reads them: one of the views of
// POST /v1/inspect/views, as a chart and a table.
import { asAddress, post } from "./api.js";
import { Chart } from "./chart.js";
import { Failure } from "./failure.js";
import { html, signal, useMemo } from "./html.js";
import { kindName, t } from "./i18n.js";
import { language } from "./preferences.js";
import { picture } from "./pictures.js";
import { readsParts } from "./server.js";
import { WORDS } from "./words.js";

const VIEWS = ["activations", "gradients", "jacobian", "pca", "spectrum", "units", "experts", "neighbours", "attention"];

// Kept while the reader is on another part of the page.
const what = signal("activations");
const text = signal("Paris is the capital of France, and Rome is the capital of Italy.");
const found = signal({}); // {view}, {error} or {busy: true}

/** The text alone, or the files and then the text, as parts of one row. */
async function input() {
  const files = [...(document.querySelector("#seen")?.files ?? [])];
  if (!files.length) return { text: text.value };
  const media = files.map(async (file) => ({ [file.type.startsWith("audio") ? "audio" : "image"]: await asAddress(file) }));
  return { parts: [...(await Promise.all(media)), ...(text.value ? [{ text: text.value }] : [])] };
}

async function look(event) {
  event?.preventDefault();
  if (found.value.busy) return;
  found.value = { busy: true };
  found.value = await input().then((given) => post("/v1/inspect/views", { what: what.value, ...given })).then(
    (view) => ({ view }),
    (error) => ({ error }),
  );
}

export const Model = () => html`
  <div class="gallery model" aria-busy=${Boolean(found.value.busy)}>
    <header>
      <h1>${t("model.title")}</h1>
      <p class="muted">${t("model.intro")}</p>
    </header>
    <form class="looking" onSubmit=${look}>
      <label>${t("model.view")}
        <select id="view" value=${what.value} onChange=${(event) => (what.value = event.target.value)}>
          ${VIEWS.map((name) => html`<option key=${name} value=${name}>${t(`view.${name}`)}</option>`)}
        </select>
      </label>
      <label class="wide">${t("model.text")}
        <input id="looked-at" value=${text.value} required=${!readsParts.value} onInput=${(event) => (text.value = event.target.value)} />
      </label>
      ${readsParts.value && html`
        <label>${t("model.files")}
          <input id="seen" type="file" multiple accept="image/*,audio/*" />
        </label>
      `}
      <button class="button primary" disabled=${found.value.busy}>${t("model.look")}</button>
      <p class="muted">${t(`about.${what.value}`)}</p>
    </form>
    <div aria-live="polite">
      ${found.value.busy && html`<p class="muted">${t("model.working")}</p>`}
      ${found.value.error && html`<${Failure} error=${found.value.error} again=${found.value.error.status === 400 ? null : look} />`}
    </div>
    ${found.value.view && html`<${Found} view=${found.value.view} />`}
  </div>
`;

function Found({ view }) {
  const drawn = useMemo(() => picture(view), [view, language.value]);
  const title = t(`view.${view.what}`);
  return html`
    <section class="card" aria-labelledby="view-title">
      <h2 id="view-title">${title}</h2>
      <p class="muted">${drawn.caption}</p>
      <${Chart} draw=${drawn.draw} height="22rem" label=${`${title}: ${drawn.caption}`} />
      <div class="scroll" tabindex="0" role="region" aria-label=${t("model.table")}>
        <table class="found">
          <thead><tr>${view.columns.map((name) => html`<th scope="col">${columnName(name)}</th>`)}</tr></thead>
          <tbody>
            ${view.rows.map((row, i) => html`
              <tr key=${i}>${row.map((value, j) => html`<td>${view.columns[j] === "kind" ? kindName(value) : shown(value)}</td>`)}</tr>
            `)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

/** A column that is new on the server keeps the server's name. */
function columnName(name) {
  const key = name.replace(/\W+/g, "_").replace(/_$/, "");
  return `column.${key}` in WORDS ? t(`column.${key}`) : name;
}

const shown = (value) => (typeof value !== "number" || Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4))));
