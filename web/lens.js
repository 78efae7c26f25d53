// The logit lens: what each layer would have said.
import { Chart } from "./chart.js";
import { html, useMemo } from "./html.js";
import { language } from "./preferences.js";
import { percent, t } from "./i18n.js";
import { visible } from "./run.js";

const SHOWN = 4;

export function Lens({ report }) {
  const { logit_lens: layers, token } = report;
  const draw = useMemo(() => rise(layers), [report, language.value]);
  return html`
    <section class="part lens" aria-labelledby="part-lens">
      <h3 id="part-lens">${t("lens.title")}</h3>
      <p class="muted">${t("lens.intro")}</p>
      <h4>${t("lens.chart")}</h4>
      <${Chart} draw=${draw} height="10rem" label=${t("lens.chart")} />
      <div class="scroll" tabindex="0" role="region" aria-label=${t("lens.title")}>
        <table class="layers">
          <thead>
            <tr><th scope="col">${t("lens.layer")}</th><th scope="col" colspan=${SHOWN}>${t("lens.guess")}</th>
              <th scope="col">${t("inspect.rank")}</th></tr>
          </thead>
          <tbody>
            ${layers.toReversed().map(({ layer, top, rank }) => html`
              <tr key=${layer}>
                <th scope="row">${layer}</th>
                ${top.slice(0, SHOWN).map((guess) => html`
                  <td class=${guess.id === token.id ? "chosen" : ""} style=${{ "--p": guess.probability }}
                    title=${percent(guess.probability)}><code>${visible(guess)}</code></td>
                `)}
                <td class="rank">${rank.toLocaleString()}</td>
              </tr>
            `)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

const rise = (layers) => (palette) => ({
  grid: { left: 8, right: 16, top: 12, bottom: 4, containLabel: true },
  xAxis: {
    type: "category",
    data: layers.map(({ layer }) => layer),
    axisLine: { lineStyle: { color: palette.line } },
    axisTick: { show: false },
    axisLabel: { color: palette.faint, fontSize: 11 },
  },
  yAxis: {
    type: "log",
    inverse: true,
    min: 1,
    axisLabel: { color: palette.faint, fontSize: 11, formatter: (rank) => rank.toLocaleString() },
    splitLine: { lineStyle: { color: palette.line } },
  },
  series: [{
    type: "line",
    data: layers.map(({ rank }) => rank),
    symbolSize: 4,
    lineStyle: { color: palette.cut, width: 2 },
    itemStyle: { color: palette.cut },
  }],
});
