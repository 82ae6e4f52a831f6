/* What the page of a pipeline knows: the last answer, and what was known before it. */

import { useRef } from "preact/hooks";

import { fetchDefinition, fetchLive } from "./api";
import { statusOf } from "./feed";
import { usePolled } from "./polled";
import type { Polled } from "./polled";
import type { Rates } from "./rates";
import { mergedRates, NO_RATES } from "./rates";
import type { Part, PipelineDefinition, PipelineLive, Row } from "./types";

export interface LiveState {
  live: PipelineLive | null;
  /** As last known; kept after the pipeline was deleted. */
  row: Row | null;
  /** When the pipeline was first missing, seconds since the epoch. */
  goneAt: number | null;
  rates: Rates;
  /** The server's clock minus the browser's, in seconds. */
  skew: number;
}

export const NOTHING_YET: LiveState = {
  live: null,
  row: null,
  goneAt: null,
  rates: NO_RATES,
  skew: 0,
};

/** Return the state after a response. */
export function withAnswer(state: LiveState, live: PipelineLive, browserNow: number): LiveState {
  // While Arroyo is unreachable, a deletion cannot be seen.
  const isGone = live.row === null && live.error === null && live.seen_at !== null;
  const known = state.live;
  const keeps = live.row === null && known !== null;
  return {
    live: keeps
      ? { ...known, ...statusOf(live), row: null, sentence: live.sentence, diagnosis: live.diagnosis, missing: live.missing }
      : live,
    row: live.row ?? state.row,
    goneAt: isGone ? (state.goneAt ?? live.seen_at) : null,
    rates: mergedRates(state.rates, live.rates),
    skew: live.now - browserNow,
  };
}

/** Return what to show instead of a part that was never read; null if it was, or if there is no job to read. */
export function unreadText(live: PipelineLive, part: Part): string | null {
  if (live.row?.job == null) return null;
  const reason = live.details ? live.details.unread[part] : "";
  return reason ? `Could not be read: ${reason}` : reason === undefined ? null : "Loading…";
}

const LIVE_MS = 2000;

/** Follow a pipeline while the component lives; `soon` asks again soon. */
export function useLive(connection: string, pipeline: string | null) {
  const last = useRef(NOTHING_YET);
  const ask = async (signal: AbortSignal) => {
    const answer = await fetchLive(connection, pipeline ?? "", signal);
    return (last.current = withAnswer(last.current, answer, Date.now() / 1000));
  };
  const { value, problem, soon } = usePolled(
    JSON.stringify([connection, pipeline]),
    LIVE_MS,
    pipeline === null ? null : ask,
  );
  return { state: value ?? NOTHING_YET, problem, soon };
}

/** Return the parts of a row that require a new definition when they change. */
function identityOf({ created, job, parallelism, interval }: Row): string {
  return JSON.stringify([created, job, parallelism, interval]);
}

/** Follow a pipeline's definition; the old one stays while a new one is fetched. */
export function useDefinition(connection: string, pipeline: string, row: Row | null): Polled<PipelineDefinition> {
  const found = usePolled(
    row ? JSON.stringify([connection, pipeline, identityOf(row)]) : "",
    null,
    row ? (signal) => fetchDefinition(connection, pipeline, signal) : null,
  );
  const last = useRef<PipelineDefinition | null>(null);
  last.current = found.value ?? last.current;
  return { value: last.current, problem: found.problem };
}
