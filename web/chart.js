// One chart: ECharts, fetched when the first chart is drawn, in the colours of the page.
import { html, useEffect, useRef, useState } from "./html.js";
import { colour, dark } from "./theme.js";

const NAMES = ["ink", "soft", "faint", "line", "raised", "sunken", "steel", "steel-dim", "cut", "cut-wash", "good", "warn", "sans", "mono"];

/**
 * @param draw    palette => ECharts option; called again when the page turns dark or light.
 * @param height  CSS length.
 * @param label   what the chart shows, for those who do not see it.
 * @param onPick  gets ECharts' parameters of the item clicked.
 */
export function Chart({ draw, height, label, onPick }) {
  const box = useRef(null);
  const [chart, setChart] = useState(null);
  const isDark = dark.value;

  useEffect(() => {
    let made = null;
    let gone = false;
    const resizing = new ResizeObserver(() => made?.resize());
    import("./vendor/echarts.js").then(({ init }) => {
      if (gone) return;
      made = init(box.current, null, { renderer: "svg" });
      resizing.observe(box.current);
      setChart(made);
    });
    return () => {
      gone = true;
      resizing.disconnect();
      made?.dispose();
    };
  }, []);

  useEffect(() => chart?.setOption(dressed(draw), { notMerge: true }), [chart, draw, isDark]);

  useEffect(() => {
    if (!chart || !onPick) return;
    chart.on("click", onPick);
    return () => chart.off("click", onPick);
  }, [chart, onPick]);

  return html`<div class="chart" ref=${box} style=${{ height }} role="img" aria-label=${label}></div>`;
}

function dressed(draw) {
  const palette = Object.fromEntries(NAMES.map((name) => [name, colour(name)]));
  return { animation: false, textStyle: { fontFamily: palette.sans, color: palette.soft }, ...draw(palette) };
}
