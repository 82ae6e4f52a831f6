/* What is known of one Arroyo: the changes are asked for every two seconds while the page is visible. */

import { useEffect, useRef } from "preact/hooks";

import { fetchPipelines } from "./api";
import { usePolled } from "./polled";
import type { Details, PipelinesResponse, Row, Status } from "./types";

const REFRESH_MS = 2000;
/** For more pipelines at once, the server refuses details. */
const MAX_SHOWN = 100;

export interface FeedState {
  rows: ReadonlyMap<string, Row>;
  details: ReadonlyMap<string, Details>;
  totals: Record<string, number>;
  limit: number | null;
  /** When this API server began to watch; null before the first response. */
  began: number | null;
  status: Status | null;
  /** The server's clock less the browser's, in seconds. */
  skew: number;
}

export const EMPTY: FeedState = {
  rows: new Map(),
  details: new Map(),
  totals: {},
  limit: null,
  began: null,
  status: null,
  skew: 0,
};

/** Return the state after a response; unchanged maps stay the same objects. */
export function merged(state: FeedState, response: PipelinesResponse, browserNow: number): FeedState {
  const { rows: changed, gone, details: news, complete } = response;
  let rows = state.rows;
  if (complete || changed.length || gone.length) {
    const next = new Map(complete ? [] : state.rows);
    for (const row of changed) next.set(row.id, row);
    for (const id of gone) next.delete(id);
    rows = next;
  }
  let details = state.details;
  if (complete || gone.length || Object.keys(news).length) {
    const next = new Map(complete ? [] : state.details);
    for (const [id, detail] of Object.entries(news)) next.set(id, detail);
    for (const id of gone) next.delete(id);
    details = next;
  }
  return {
    ...state,
    rows,
    details,
    totals: response.totals,
    limit: response.limit,
    began: response.began,
    status: statusOf(response),
    skew: response.now - browserNow,
  };
}

/** Return how fresh a response is, without the rest of it. */
export function statusOf({ now, seen_at, error, console: consoleUrl, namespace, may_act }: Status): Status {
  return { now, seen_at, error, console: consoleUrl, namespace, may_act };
}

/** Follow the pipelines of a connection while the component lives.
 *
 * @returns what is known, why the last request failed, a function that asks again soon, and one that sets which
 *   pipelines are in view: only they get details.
 */
export function useFeed(connection: string) {
  const last = useRef(EMPTY);
  const known = useRef({ epoch: "", version: 0 });
  const shown = useRef<string[]>([]);
  const lacking = () => shown.current.filter((id) => !last.current.details.has(id));
  const { value, problem, soon } = usePolled(connection, REFRESH_MS, async (signal) => {
    const response = await fetchPipelines(connection, known.current, { all: shown.current, new: lacking() }, signal);
    known.current = { epoch: response.epoch, version: response.version };
    return (last.current = merged(last.current, response, Date.now() / 1000));
  });
  useEffect(() => {
    if (!value || lacking().length === 0) return undefined;
    // Details that are still to come are fetched sooner.
    const timer = setTimeout(soon, REFRESH_MS / 3);
    return () => clearTimeout(timer);
  }, [value]);
  const show = (inView: string[]) => {
    const ids = inView.slice(0, MAX_SHOWN);
    const isNew = ids.some((id) => !last.current.details.has(id) && !shown.current.includes(id));
    shown.current = ids;
    if (isNew) soon();
  };
  return { state: value ?? EMPTY, problem, soon, show };
}
