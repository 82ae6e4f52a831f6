/* Rates over time, as far back as this page has seen them, at most an hour. */

import type { PipelineLive } from "./types";

export const KEPT_SECONDS = 3600;
/* Arroyo measures every two seconds; a longer distance is a gap. */
const GAP_SECONDS = 10;

export interface Rates {
  at: number[];
  in: (number | null)[];
  out: (number | null)[];
  backpressure: (number | null)[];
}

export const NO_RATES: Rates = { at: [], in: [], out: [], backpressure: [] };

const SERIES = ["in", "out", "backpressure"] as const;

/** Return the rates after a response: it replaces everything from its first point on. */
export function mergedRates(known: Rates, news: PipelineLive["rates"]): Rates {
  const first = news?.at[0];
  const last = news?.at.at(-1);
  if (!news || first === undefined || last === undefined) return known;
  const before = known.at.filter((at) => at < first && at >= last - KEPT_SECONDS);
  const begin = known.at.indexOf(before[0] ?? -1);
  const merged: Rates = { at: [...before], in: [], out: [], backpressure: [] };
  for (const name of SERIES) merged[name] = before.map((_at, index) => known[name][begin + index] ?? null);
  news.at.forEach((at, index) => {
    const previous = merged.at.at(-1);
    if (at < last - KEPT_SECONDS || (previous !== undefined && at <= previous)) return;
    if (previous !== undefined && at - previous > GAP_SECONDS) push(merged, previous + 1, {});
    push(merged, at, { in: news.in[index], out: news.out[index], backpressure: news.backpressure[index] });
  });
  return merged;
}

function push(rates: Rates, at: number, values: Partial<Record<(typeof SERIES)[number], number | null | undefined>>): void {
  rates.at.push(at);
  for (const name of SERIES) rates[name].push(values[name] ?? null);
}

/** Return the newest point with a measured value. */
export function lastRates(rates: Rates): { in: number | null; out: number | null; backpressure: number | null } {
  const last = { in: null, out: null, backpressure: null } as Record<(typeof SERIES)[number], number | null>;
  for (const name of SERIES) last[name] = rates[name].findLast((value) => value !== null) ?? null;
  return last;
}
