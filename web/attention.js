// Attention by layer and head: heat over the text, and a map of all heads to choose from.
import { Chart } from "./chart.js";
import { html, useCallback, useMemo, useState } from "./html.js";
import { language } from "./preferences.js";
import { percent, t } from "./i18n.js";
import { TokenRun, visible } from "./run.js";
import { openToken } from "./tokens.js";

const MEAN = -1; // instead of the number of a layer or a head

export function Attention({ turn, report }) {
  const [layer, setLayer] = useState(MEAN);
  const [head, setHead] = useState(MEAN);
  const { attention } = report;
  const weights = useMemo(() => averaged(attention, layer, head), [report, layer, head]);
  const draw = useMemo(() => headMap(attention), [report, language.value]);
  const onPick = useCallback(({ value }) => {
    setHead(value[0]);
    setLayer(value[1]);
  }, []);
  return html`
    <section class="part attention" aria-labelledby="part-attention">
      <h3 id="part-attention">${t("attention.title")}</h3>
      <p class="muted">${t("attention.intro")}</p>
      <div class="choosers">
        <${Chooser} name="attention.layer" count=${attention.length} value=${layer} onChange=${setLayer} />
        <${Chooser} name="attention.head" count=${attention[0].length} value=${head} onChange=${setHead} />
      </div>
      <${TokenRun} kind="heat" label=${t("attention.text")} tokens=${heated(report, weights)} current=${null}
        onOpen=${(i) => openToken(turn, i - report.prompt_length)}>
        <span class="here">${visible(report.token)}</span>
      <//>
      <h4>${t("attention.heads")}</h4>
      <p class="muted">${t("attention.chart")}</p>
      <${Chart} draw=${draw} height="${5 + attention.length * 0.5}rem" label=${t("attention.chart")} onPick=${onPick} />
    </section>
  `;
}

/** The first token has nothing before it and cannot be opened; heads rest on it, so the scale leaves it out. */
function heated({ tokens, prompt_length }, weights) {
  const most = Math.max(...weights.slice(1));
  return tokens.map((token, i) => ({
    bytes: token.bytes,
    title: `${visible(token)}, ${percent(weights[i])}`,
    style: { "--heat": Math.sqrt(Math.min(1, weights[i] / most)) },
    className: i === prompt_length ? "first" : "",
    locked: i === 0,
  }));
}

const Chooser = ({ name, count, value, onChange }) => html`
  <label>
    ${t(name)}
    <select value=${value} onChange=${(event) => onChange(Number(event.target.value))}>
      <option value=${MEAN}>${t("attention.mean")}</option>
      ${Array.from({ length: count }, (_, i) => html`<option key=${i} value=${i}>${i + 1}</option>`)}
    </select>
  </label>
`;

/** Weights over the tokens of one head, or the mean over heads, layers or both. */
function averaged(attention, layer, head) {
  const layers = layer === MEAN ? attention : [attention[layer]];
  const rows = layers.flatMap((heads) => (head === MEAN ? heads : [heads[head]]));
  return rows[0].map((_, token) => rows.reduce((sum, row) => sum + row[token], 0) / rows.length);
}

/** How many tokens back a head looks on average, the first token (where heads rest that look for nothing) left out. */
function reach(row) {
  let mass = 0;
  let distance = 0;
  for (let i = 1; i < row.length; i++) {
    mass += row[i];
    distance += row[i] * (row.length - 1 - i);
  }
  return mass > 0 ? distance / mass : 0;
}

const headMap = (attention) => (palette) => {
  const cells = attention.flatMap((heads, layer) => heads.map((row, head) => [head, layer, reach(row)]));
  const axis = {
    type: "category",
    axisLine: { show: false },
    axisTick: { show: false },
    axisLabel: { color: palette.faint, fontSize: 11 },
    nameTextStyle: { color: palette.soft },
  };
  const count = (n) => Array.from({ length: n }, (_, i) => i + 1);
  return {
    grid: { left: 8, right: 8, top: 8, bottom: 48, containLabel: true },
    xAxis: { ...axis, data: count(attention[0].length) },
    yAxis: { ...axis, data: count(attention.length) },
    visualMap: {
      min: 0,
      max: Math.max(1, ...cells.map(([, , value]) => value)),
      calculable: false,
      orient: "horizontal",
      left: "center",
      bottom: 0,
      itemHeight: 90,
      itemWidth: 8,
      precision: 0,
      text: [t("attention.far"), t("attention.near")],
      textStyle: { color: palette.soft },
      inRange: { color: [palette.sunken, palette.steel] },
    },
    series: [{ type: "heatmap", data: cells, itemStyle: { borderColor: palette.raised, borderWidth: 1 },
      emphasis: { itemStyle: { borderColor: palette.cut, borderWidth: 2 } } }],
  };
};
