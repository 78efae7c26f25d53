// The picture of each view of the model: lines by layer, or a map. `picture(view)` gives its caption and Chart's `draw`.
import { kindName, t } from "./i18n.js";

const MOST = 64; // columns of a map; more would not be legible

/** What to draw of the plain data of a view (docs/api.md). */
export function picture({ what, data, rows }) {
  return { caption: t(`picture.${what}`), draw: PICTURES[what](data, rows) };
}

const PICTURES = {
  activations: ({ activations }) => lines(grouped(activations, ({ kind }) => kindName(kind), ({ layer, std }) => [layer, std]), { log: true }),
  gradients: ({ tokens, stream }) => map(tokens, count(stream), stream.map((row) => row.map(log10))),
  jacobian: ({ blocks }) => lines({
    [t("picture.whole")]: blocks.map(({ layer, spectral_norm }) => [layer, spectral_norm]),
    [t("picture.last")]: blocks.map(({ layer, at_last_position }) => [layer, at_last_position[0]]),
  }, { log: true }),
  pca: ({ layers }) => lines({
    [t("picture.first")]: layers.map(({ layer, explained }) => [layer, explained[0]]),
    [t("picture.cosine")]: layers.map(({ layer, anisotropy }) => [layer, anisotropy]),
  }),
  spectrum: ({ matrices }) => lines(grouped(matrices, ({ name }) => name.split(".").at(-1),
    ({ effective_rank, shape }, i) => [i, effective_rank / Math.min(...shape)])),
  units: ({ networks }) => lines({ [t("picture.dead")]: networks.map(({ dead, units }, i) => [i + 1, dead.length / units]) }),
  experts: ({ load }) => map(count(Object.values(load)[0]), Object.keys(load), Object.values(load)),
  neighbours: ({ tokens }) => map(tokens.map(({ text }) => text), count(tokens[0].neighbours),
    transposed(tokens.map(({ neighbours }) => neighbours.map(({ cosine }) => cosine)))),
  attention: ({ maps }, rows) => map(count(maps[0].weights), count(maps),
    maps.map(({ name }) => rows.filter((row) => row[0] === name).map((row) => row[2]))),
};

const log10 = (value) => (value > 0 ? Math.log10(value) : null);
const count = (all) => all.map((_, i) => i + 1);
const transposed = (rows) => rows[0].map((_, i) => rows.map((row) => row[i]));

/** {name: [[x, y], …]}; `point` gets an item and its number in its group, from 1. */
function grouped(items, name, point) {
  const groups = Map.groupBy(items, name);
  return Object.fromEntries([...groups].map(([key, all]) => [key, all.map((item, i) => point(item, i + 1))]));
}

const lines = (series, { log = false } = {}) => (palette) => {
  const colours = [palette.steel, palette.cut, palette.good, palette.warn, palette.faint, palette.ink, palette["steel-dim"], palette.soft];
  return {
    color: colours,
    grid: { left: 8, right: 16, top: 36, bottom: 8, containLabel: true },
    legend: { top: 0, left: 0, type: "scroll", textStyle: { color: palette.soft } },
    xAxis: { ...axis(palette), type: "value", min: "dataMin", max: "dataMax", minInterval: 1, splitLine: { show: false } },
    yAxis: { ...axis(palette), type: log ? "log" : "value", splitLine: { lineStyle: { color: palette.line } } },
    series: Object.entries(series).map(([name, data], i) => ({
      name,
      type: "line",
      lineStyle: { type: i < 5 ? "solid" : "dashed" }, // the later greys resemble the earlier
      symbolSize: 4,
      data: log ? data.filter(([, y]) => y > 0) : data,
    })),
  };
};

/** @param rows one list of values per name in `down`, first at the bottom. */
const map = (across, down, rows) => (palette) => {
  const cells = rows.flatMap((row, y) => row.slice(0, MOST).map((value, x) => [x, y, value])).filter(([, , value]) => value !== null);
  const values = cells.map(([, , value]) => value);
  const category = { ...axis(palette), type: "category", axisLine: { show: false }, axisTick: { show: false } };
  return {
    grid: { left: 8, right: 8, top: 8, bottom: 48, containLabel: true },
    xAxis: { ...category, data: across.slice(0, MOST), axisLabel: { ...category.axisLabel, rotate: across.length > 12 ? 60 : 0 } },
    yAxis: { ...category, data: down },
    visualMap: {
      min: Math.min(...values),
      max: Math.max(...values),
      calculable: false,
      orient: "horizontal",
      left: "center",
      bottom: 0,
      itemHeight: 90,
      itemWidth: 8,
      text: [Math.max(...values).toPrecision(3), Math.min(...values).toPrecision(3)],
      textStyle: { color: palette.soft },
      inRange: { color: [palette.sunken, palette.steel] },
    },
    series: [{ type: "heatmap", data: cells }],
  };
};

const axis = (palette) => ({
  axisLine: { lineStyle: { color: palette.line } },
  axisLabel: { color: palette.faint, fontSize: 11 },
});
