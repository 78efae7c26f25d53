// The gallery of labs: what the document claims, what was measured, the verdict computed from it.
import { get, picture } from "./api.js";
import { Failure } from "./failure.js";
import { html, signal, useEffect, useRef, useState } from "./html.js";
import { pick, t } from "./i18n.js";
import { Icon } from "./icons.js";
import { apiKey } from "./preferences.js";

const labs = signal(null); // null until asked; then an array of records, or an Error

async function load() {
  labs.value = await get("/v1/labs").then((answer) => answer.labs, (error) => error);
}

export function Gallery() {
  useEffect(() => void load(), [apiKey.value]);
  return html`
    <div class="gallery">
      <header>
        <h1>${t("labs.title")}</h1>
        <p class="muted">${t("labs.intro")}</p>
        ${Array.isArray(labs.value) && labs.value.length > 0 && html`<${Tally} />`}
      </header>
      <${Cards} />
    </div>
  `;
}

function Cards() {
  if (labs.value === null) return html`<p class="muted">${t("loading")}</p>`;
  if (labs.value instanceof Error) return html`<${Failure} error=${labs.value} again=${load} />`;
  if (labs.value.length === 0) {
    return html`
      <div class="notice">
        <p>${t("labs.none")}</p>
        <pre>cutaway labs run all --quick --out labs-out${"\n"}cutaway serve MODEL --labs labs-out</pre>
      </div>
    `;
  }
  return html`<div class="cards">${labs.value.map((lab) => html`<${Card} key=${lab.id} lab=${lab} />`)}</div>`;
}

const Tally = () => html`
  <p class="tally">
    ${["supported", "qualified", "refuted"].map((verdict) => html`
      <span><${Verdict} name=${verdict} /> ${labs.value.filter((lab) => lab.verdict === verdict).length}</span>
    `)}
  </p>
`;

const Verdict = ({ name }) => html`<span class="verdict ${name}">${t(`verdict.${name}`)}</span>`;

const Card = ({ lab }) => html`
  <article class="card" aria-labelledby=${`lab-${lab.id}`}>
    <header>
      <span class="number">${String(lab.id).padStart(2, "0")}</span>
      <h2 id=${`lab-${lab.id}`}>${pick(lab.title)}</h2>
      <${Verdict} name=${lab.verdict} />
    </header>
    <p class="claim"><span class="eyebrow">${t("labs.claim")}</span>${pick(lab.claim)}</p>
    <${Plot} lab=${lab} />
    <ul class="checks">
      ${lab.checks.map((check) => html`
        <li class="${check.kind} ${check.holds ? "holds" : "fails"}">
          <span class="mark">${t(mark(check))}</span> ${pick(check.says)}
        </li>
      `)}
    </ul>
    <details>
      <summary>${t("labs.numbers")}</summary>
      <${Numbers} lab=${lab} />
      <p class="muted"><span class="eyebrow">${t("labs.fixed")}</span> ${pick(lab.fixed)}</p>
    </details>
    <footer class="muted">
      ${t("labs.expected", { verdict: t(`verdict.${lab.expected}`) })} · ${t("labs.seconds", { seconds: lab.seconds.toFixed(1) })} ·
      ${" "}${t("labs.seeds", { seeds: lab.seeds.join(", ") })}
    </footer>
  </article>
`;

function mark({ kind, holds }) {
  if (kind === "limit") return holds ? "check.limit" : "check.nolimit";
  return holds ? "check.holds" : "check.fails";
}

function Plot({ lab }) {
  const [source, setSource] = useState(null);
  const address = lab.plots.find((name) => name.endsWith(".svg")) ?? lab.plots[0];
  useEffect(() => {
    if (address) picture(address).then(setSource, () => setSource(null));
  }, [address, lab.seconds]);
  const enlarged = useRef(null);
  const title = pick(lab.title);
  const image = html`<img src=${source} alt=${t("labs.plot", { title })} />`;
  return html`
    <figure class="plot">
      ${source && html`
        <button aria-label=${t("labs.enlarge", { title })} title=${t("labs.enlarge", { title })}
          onClick=${() => enlarged.current.showModal()}>${image}</button>
        <dialog class="enlarged" ref=${enlarged} aria-label=${t("labs.plot", { title })}
          onClick=${() => enlarged.current.close()}>
          <form method="dialog"><button class="button quiet iconic" aria-label=${t("close")}><${Icon} name="close" /></button></form>
          ${image}
        </dialog>
      `}
    </figure>
  `;
}

const Numbers = ({ lab }) => html`
  <table class="numbers">
    <tbody>
      ${Object.entries(lab.numbers).map(([name, value]) => html`
        <tr><th scope="row">${name.replaceAll("_", "_\u200b")}</th><td>${shown(value)}${interval(lab.confidence_95[name])}</td></tr>
      `)}
    </tbody>
  </table>
`;

const interval = (half) => (typeof half === "number" ? ` ± ${shown(half)}` : "");

function shown(value) {
  if (Array.isArray(value)) return value.map((item) => (Array.isArray(item) ? `[${shown(item)}]` : shown(item))).join(", ");
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}
