/* Rows per second in and out, and backpressure, over the time that this page has seen. */

import { useMemo } from "preact/hooks";
import type uPlot from "uplot";

import { count, moment, orDash, percent, timeOfDay } from "../format";
import { lastRates } from "../rates";
import type { Rates } from "../rates";
import { Chart, DataTable, MAX_ROWS } from "./Chart";
import type { TableToggle } from "./Chart";
import { axis, legendValue, Plot, RIGHT_SIDE } from "./Plot";
import type { Color } from "./Plot";

interface Props extends TableToggle {
  rates: Rates;
  isEnded: boolean;
  /** Shown instead if the metrics were never read. */
  unread: string | null;
  height?: number;
}

function options(color: Color): Omit<uPlot.Options, "width" | "height"> {
  const rows = legendValue((value) => `${count(value)}/s`, 2);
  const share = legendValue(percent, 2);
  return {
    padding: [12, 8, 0, 0],
    scales: {
      rows: { range: (_plot, _least, most) => [0, Math.max(1, (most || 0) * 1.1)] },
      share: { range: () => [0, 1] },
    },
    axes: [
      axis(color, {
        space: 90,
        size: 30,
        incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800],
        values: (_plot, splits, _axis, _space, seconds) => splits.map((at) => timeOfDay(at, seconds < 60)),
      }),
      axis(color, { scale: "rows", size: 56, values: (_plot, values) => values.map((value) => count(value)) }),
      axis(color, {
        scale: "share",
        side: RIGHT_SIDE,
        size: 48,
        grid: { show: false },
        values: (_plot, values) => values.map((value) => percent(value)),
      }),
    ],
    series: [
      { label: "Time", value: legendValue(moment) },
      {
        label: "Backpressure",
        scale: "share",
        stroke: color("--series-pressure"),
        fill: color("--series-pressure-fill"),
        width: 1,
        points: { show: false },
        value: share,
      },
      { label: "Rows in", scale: "rows", stroke: color("--series-in"), width: 2, points: { show: false }, value: rows },
      {
        label: "Rows out",
        scale: "rows",
        stroke: color("--series-out"),
        width: 2,
        dash: [6, 3],
        points: { show: false },
        value: rows,
      },
    ],
  };
}

export function RatesChart({ rates, isEnded, unread, height = 240, ...rest }: Props) {
  const data = useMemo<uPlot.AlignedData>(() => [rates.at, rates.backpressure, rates.in, rates.out], [rates]);
  const last = lastRates(rates);
  const label =
    `Rows per second over time. The last: ${said(last.in, count)} in, ${said(last.out, count)} out, ` +
    `backpressure ${said(last.backpressure, percent)}. The table has the same.`;
  return (
    <Chart title="Rates" table={() => <RatesTable rates={rates} />} {...rest}>
      {rates.at.length < 2 ? (
        <p class="faint">
          {unread ?? (isEnded ? "Nothing is measured while the pipeline is not running." : "Nothing has been measured yet.")}
        </p>
      ) : (
        <Plot height={height} label={label} data={data} options={options} />
      )}
    </Chart>
  );
}

function said(value: number | null, format: (value: number) => string): string {
  return value === null ? "not measured" : format(value);
}

function RatesTable({ rates }: { rates: Rates }) {
  const shown = rates.at.map((at, index) => ({ at, index })).slice(-MAX_ROWS).reverse();
  return (
    <DataTable
      name="Rates, newest first"
      head={["Time", "Rows/s in", "Rows/s out", "Backpressure"]}
      empty="Nothing has been measured yet."
      total={rates.at.length}
      rows={shown.map(({ at, index }) => [
        moment(at),
        orDash(rates.in[index], count),
        orDash(rates.out[index], count),
        orDash(rates.backpressure[index], percent),
      ])}
    />
  );
}
