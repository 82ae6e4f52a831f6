/* A small line without axes, drawn by uPlot. The numbers beside it say the same. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

import { onThemeChange } from "../host";

const WIDTH = 64;
const HEIGHT = 24;

export function Sparkline({ values }: { values: number[] }) {
  const place = useRef<HTMLSpanElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const color = () => getComputedStyle(element).color;
    const made = new uPlot(
      {
        width: WIDTH,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        padding: [2, 0, 2, 0],
        axes: [{ show: false }, { show: false }],
        scales: { x: { time: false }, y: { range: (_plot, _least, most) => [0, Math.max(most, 1e-9)] } },
        series: [{}, { stroke: color, width: 1.5, points: { show: false } }],
      },
      [[], []],
      element,
    );
    plot.current = made;
    const stop = onThemeChange(() => {
      made.redraw(true, true);
    });
    return () => {
      stop();
      made.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => {
    plot.current?.setData([values.map((_value, index) => index), values]);
  }, [values]);
  return <span class="spark" ref={place} aria-hidden="true" />;
}
