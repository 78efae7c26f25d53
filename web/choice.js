// What else a token might have been: the likeliest tokens before and after each step of the sampler.
import { Chart } from "./chart.js";
import { html, useMemo } from "./html.js";
import { language } from "./preferences.js";
import { percent, stageName, t } from "./i18n.js";
import { visible } from "./run.js";

const CHARTED = 6;

export function Choice({ report }) {
  const { stages, token } = report;
  const rows = candidates(report);
  const draw = useMemo(() => bars(rows.slice(0, CHARTED), stages), [report, language.value]);
  return html`
    <section class="part choice" aria-labelledby="part-choice">
      <h3 id="part-choice">${t("choice.title")}</h3>
      <p class="muted">${t("choice.intro")}</p>
      <${Chart} draw=${draw} height="13rem" label=${t("choice.chart")} />
      <div class="scroll" tabindex="0" role="region" aria-label=${t("choice.title")}>
        <table class="stages">
          <thead>
            <tr>
              <th scope="col">${t("choice.token")}</th>
              ${stages.map((stage) => html`
                <th scope="col">${stageName(stage.name)}<small>${t("choice.kept", { n: stage.kept.toLocaleString() })}</small></th>
              `)}
            </tr>
          </thead>
          <tbody>
            ${rows.map((row) => html`
              <tr key=${row.id} class=${row.id === token.id ? "chosen" : ""}>
                <th scope="row"><code>${visible(row)}</code></th>
                ${row.probabilities.map((p) => html`
                  <td style=${{ "--p": p ?? 0 }} class=${p ? null : "gone"}>${shown(p)}</td>
                `)}
              </tr>
            `)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

/**
 * One row per token that any stage lists, the model's likeliest first: its probability at every stage. A stage lists
 * only its likeliest: a token that it leaves out was removed (0) if the list holds all it kept, else it is small (null).
 */
function candidates({ stages, token }) {
  const named = new Map([token, ...stages.flatMap(({ alternatives }) => alternatives)].map((one) => [one.id, one]));
  const at = ({ chosen, alternatives, kept }, id) => {
    if (id === token.id) return chosen;
    return alternatives.find((other) => other.id === id)?.probability ?? (kept <= alternatives.length ? 0 : null);
  };
  return [...named.values()]
    .map(({ id, text, bytes }) => ({ id, text, bytes, probabilities: stages.map((stage) => at(stage, id)) }))
    .sort((a, b) => b.probabilities[0] - a.probabilities[0]);
}

const shown = (p) => (p === null ? "·" : p === 0 ? t("choice.removed") : percent(p));

const bars = (rows, stages) => (palette) => ({
  grid: { left: 8, right: 56, top: 30, bottom: 4, containLabel: true },
  legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 8, textStyle: { color: palette.soft } },
  tooltip: { show: false },
  xAxis: { type: "value", show: false, min: 0, max: "dataMax" },
  yAxis: {
    type: "category",
    inverse: true,
    data: rows.map(visible),
    axisLine: { lineStyle: { color: palette.line } },
    axisTick: { show: false },
    axisLabel: { color: palette.ink, fontFamily: palette.mono },
  },
  series: [
    { name: t("choice.before"), at: 0, color: palette["steel-dim"] },
    { name: t("choice.after"), at: stages.length - 1, color: palette.cut },
  ].map(({ name, at, color }) => ({
    name,
    type: "bar",
    barMaxWidth: 9,
    itemStyle: { color, borderRadius: 2 },
    data: rows.map(({ probabilities }) => probabilities[at]),
    label: { show: true, position: "right", fontSize: 11, color: palette.soft, formatter: ({ value }) => (value ? percent(value) : "") },
  })),
});
