/* uPlot as a component: it follows the width of its container and Airflow's colors. A table has the same data. */

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

import { onThemeChange } from "../host";
import { useWidth } from "../hooks";

/** Returns a color of the theme by the name of its variable. */
export type Color = (variable: string) => () => string;

interface Props {
  height: number;
  label: string;
  data: uPlot.AlignedData;
  /** All options except the size; called once. */
  options: (color: Color) => Omit<uPlot.Options, "width" | "height">;
}

export function Plot({ height, label, data, options }: Props) {
  const [place, setPlace] = useState<HTMLDivElement | null>(null);
  const width = useWidth(place);
  const isReady = width > 0;
  const plot = usePlot(isReady ? place : null, data, (color) => ({ ...options(color), width, height }));
  useEffect(() => {
    if (isReady) plot.current?.setSize({ width, height });
  }, [width, height, isReady]);
  return <div class="plot" ref={setPlace} role="img" aria-label={label} />;
}

/** Keep a plot in a place, with the newest data and Airflow's colours.
 *
 * @param place the element; null while there is no room.
 * @param options called once.
 */
export function usePlot(place: HTMLElement | null, data: uPlot.AlignedData, options: (color: Color) => uPlot.Options) {
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    if (!place) return undefined;
    const known = new Map<string, string>();
    // A canvas does not support CSS variables.
    const color: Color = (variable) => () => {
      const found = known.get(variable) ?? computed(place, variable);
      known.set(variable, found);
      return found;
    };
    const made = new uPlot(options(color), data, place);
    plot.current = made;
    const stop = onThemeChange(() => {
      known.clear();
      made.redraw(true, true);
    });
    return () => {
      stop();
      made.destroy();
      plot.current = null;
    };
  }, [place]);
  useEffect(() => plot.current?.setData(data), [data]);
  return plot;
}

function computed(place: HTMLElement, variable: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${variable})`;
  place.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- uPlot's enumeration is of its types alone
export const RIGHT_SIDE = 1 as uPlot.Axis.Side;

/** Return the legend's text for a series: the value under the pointer, otherwise the last value.
 *
 * @param slots how many points at the end to search, as the newest may not be measured yet.
 */
export function legendValue(write: (value: number) => string, slots = 1): uPlot.Series.Value {
  return (plot, _value, series, index) => {
    const values = plot.data[series] ?? [];
    const value = index == null ? [...values].slice(-slots).findLast((one) => one != null) : values[index];
    return value == null ? "–" : write(value);
  };
}

/** Return the options that all axes share. */
export function axis(color: Color, more: uPlot.Axis): uPlot.Axis {
  return {
    stroke: color("--muted"),
    grid: { stroke: color("--border"), width: 1 },
    ticks: { stroke: color("--border"), width: 1, size: 4 },
    font: "12px system-ui, sans-serif",
    ...more,
  };
}
