/* A small line chart without axes, drawn by uPlot. The numbers beside it say the same. */

import { useMemo, useState } from "preact/hooks";

import { usePlot } from "./Plot";

const WIDTH = 64;
const HEIGHT = 24;

export function Sparkline({ values }: { values: number[] }) {
  const [place, setPlace] = useState<HTMLSpanElement | null>(null);
  const data = useMemo<[number[], number[]]>(() => [values.map((_value, index) => index), values], [values]);
  usePlot(place, data, (color) => ({
    width: WIDTH,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [2, 0, 2, 0],
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: false }, y: { range: (_plot, _least, most) => [0, Math.max(most, 1e-9)] } },
    series: [{}, { stroke: color("--brand-fg"), width: 1.5, points: { show: false } }],
  }));
  return <span class="spark" ref={setPlace} aria-hidden="true" />;
}
