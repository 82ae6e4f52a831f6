/* Checkpoints as bars: duration, size and kind of each, and the one in progress. */

import { useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

import type { Checkpoint } from "../checkpoints";
import { lengthOf, newestOf, seriesOf } from "../checkpoints";
import { ago, bytes, duration, moment, orDash } from "../format";
import { useWidth } from "../hooks";
import { Chart, DataTable } from "./Chart";
import type { TableToggle } from "./Chart";
import { axis, legendValue, Plot, RIGHT_SIDE } from "./Plot";
import type { Color } from "./Plot";

interface Props extends TableToggle {
  checkpoints: Checkpoint[];
  now: number;
  /** Shown instead if they were never read. */
  unread: string | null;
  height?: number;
}

const AXES_PX = 140;
const BAR_PX = 7;
const BARS = uPlot.paths.bars?.({ size: [0.7, 28, 2] });

export function CheckpointsChart({ checkpoints, now, unread, height = 220, ...rest }: Props) {
  const [place, setPlace] = useState<HTMLDivElement | null>(null);
  const width = useWidth(place);
  // Bars need a few pixels to be told apart.
  const most = Math.max(10, Math.floor((width - AXES_PX) / BAR_PX));
  const shown = useMemo(() => checkpoints.slice(-most), [checkpoints, most]);
  const { finished, underWay } = newestOf(shown);
  const hasSizes = shown.some((one) => one.bytes !== null);
  // A checkpoint in progress grows; nothing else changes with time.
  const until = underWay ? now : 0;
  const data = useMemo<uPlot.AlignedData>(() => {
    const series = seriesOf(shown, until);
    const bars: uPlot.AlignedData = [series.index, series.scheduled, series.stopping, series.underWay];
    return hasSizes ? [...bars, series.bytes] : bars;
  }, [shown, until, hasSizes]);
  const epochs = useRef<number[]>([]);
  epochs.current = shown.map((one) => one.epoch);
  const label =
    `The last ${shown.length} checkpoints as bars. ` +
    (finished?.finished != null
      ? `The last finished one took ${duration(lengthOf(finished, now))}, ${ago(now - finished.finished)}. `
      : "None has finished. ") +
    (underWay ? `One has been in progress for ${duration(lengthOf(underWay, now))}. ` : "") +
    "The table has the same.";
  return (
    <Chart title="Checkpoints" table={() => <CheckpointsTable checkpoints={checkpoints} now={now} />} {...rest}>
      {shown.length === 0 ? (
        <p class="faint">{unread ?? "No checkpoints yet."}</p>
      ) : (
        <div ref={setPlace}>
          <Plot
            key={hasSizes ? "sizes" : ""}
            height={height}
            label={label}
            data={data}
            options={(color) => options(color, hasSizes, (index) => epochs.current[index])}
          />
          <p class="faint">
            {finished?.finished != null
              ? `The last one finished ${ago(now - finished.finished)} and took ${duration(lengthOf(finished, now))}.`
              : "None has finished."}
            {underWay && ` Epoch ${underWay.epoch} has been in progress for ${duration(lengthOf(underWay, now))}.`}
          </p>
        </div>
      )}
    </Chart>
  );
}

function options(
  color: Color,
  hasSizes: boolean,
  epochAt: (index: number) => number | undefined,
): Omit<uPlot.Options, "width" | "height"> {
  const bar = (label: string, name: string): uPlot.Series => ({
    label,
    scale: "seconds",
    stroke: color(name),
    fill: color(name),
    width: 1,
    points: { show: false },
    value: legendValue(duration),
    ...(BARS && { paths: BARS }),
  });
  const sizes: uPlot.Series = {
    label: "Size",
    scale: "bytes",
    stroke: color("--series-out"),
    width: 1,
    points: { show: true, size: 6, fill: color("--series-out") },
    value: legendValue(bytes),
  };
  const upToMost = (_plot: uPlot, _least: number, most: number): [number, number] => [0, (most || 1) * 1.15];
  return {
    padding: [12, 8, 0, 0],
    scales: {
      x: { time: false, range: (plot) => [-0.6, (plot.data[0].length || 1) - 0.4] },
      seconds: { range: upToMost },
      bytes: { range: upToMost },
    },
    axes: [
      axis(color, {
        grid: { show: false },
        size: 30,
        incrs: [1, 2, 5, 10, 20],
        values: (_plot, values) => values.map((index) => epochAt(index)?.toString() ?? ""),
      }),
      axis(color, { scale: "seconds", size: 64, values: (_plot, values) => values.map(tick) }),
      axis(color, {
        scale: "bytes",
        show: hasSizes,
        side: RIGHT_SIDE,
        size: 64,
        grid: { show: false },
        values: (_plot, values) => values.map((value) => bytes(value)),
      }),
    ],
    series: [
      { label: "Epoch", value: legendValue((index) => String(epochAt(index) ?? "")) },
      bar("Scheduled", "--series-in"),
      bar("Before a stop or restart", "--series-stopping"),
      bar("In progress", "--series-under-way"),
      ...(hasSizes ? [sizes] : []),
    ],
  };
}

/** Return a label for the axis: checkpoints may take only milliseconds. */
function tick(seconds: number): string {
  return seconds > 0 && seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${Number(seconds.toFixed(1))} s`;
}

function CheckpointsTable({ checkpoints, now }: { checkpoints: Checkpoint[]; now: number }) {
  return (
    <DataTable
      name="Checkpoints, newest first"
      head={["Epoch", "Type", "Started", "Duration", "Size"]}
      empty="No checkpoints yet."
      rows={[...checkpoints].reverse().map((one) => [
        one.epoch,
        one.type ?? "–",
        moment(one.began),
        one.finished === null ? `${duration(lengthOf(one, now))}, in progress` : duration(lengthOf(one, now)),
        orDash(one.bytes, bytes),
      ])}
    />
  );
}
