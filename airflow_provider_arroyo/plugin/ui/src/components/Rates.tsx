/* Rows per second in and out, with a small line chart that uPlot draws. */

import { useMemo, useState } from "preact/hooks";

import { count, orDash } from "../format";
import type { Details } from "../types";
import { usePlot } from "./Plot";

const WIDTH = 64;
const HEIGHT = 24;

export function Rates({ details }: { details: Details | undefined }) {
  if (!details) return <Unread reason="" />;
  const { rates, unread } = details;
  if (unread.metrics !== undefined) return <Unread reason={unread.metrics} />;
  if (rates?.in == null && rates?.out == null) return <span class="faint">not measured yet</span>;
  return (
    <span class="rates">
      <span class="numbers">
        {orDash(rates.in, count)} → {orDash(rates.out, count)}
      </span>
      <Sparkline values={rates.series} />
    </span>
  );
}

/** Stands for a part that was never read. */
export function Unread({ reason }: { reason: string }) {
  return reason ? (
    <span class="warn" title={reason}>
      cannot be read
    </span>
  ) : (
    <span class="faint">…</span>
  );
}

/** The numbers beside it say the same. */
function Sparkline({ values }: { values: number[] }) {
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
