/* What is known of one Arroyo: asks for changes every two seconds while the page is visible, and tells who listens. */

import { ApiError, fetchPipelines } from "./api";
import type { Details, PipelinesResponse, Row, Status } from "./types";

export const REFRESH_MS = 2000;

export interface FeedState {
  rows: ReadonlyMap<string, Row>;
  details: ReadonlyMap<string, Details>;
  totals: Record<string, number>;
  jobs: number;
  /** When this API server began to watch; null before the first response. */
  began: number | null;
  status: Status | null;
  /** Why the last request failed; null where it succeeded. */
  problem: ApiError | null;
  /** The server's clock less the browser's, in seconds. */
  skew: number;
}

export const EMPTY: FeedState = {
  rows: new Map(),
  details: new Map(),
  totals: {},
  jobs: 0,
  began: null,
  status: null,
  problem: null,
  skew: 0,
};

/** Return the state after a response; maps that did not change stay the same objects. */
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
  const { now, seen_at, error, console: consoleUrl, may_act } = response;
  return {
    ...state,
    rows,
    details,
    totals: response.totals,
    jobs: response.jobs,
    began: response.began,
    status: { now, seen_at, error, console: consoleUrl, may_act },
    problem: null,
    skew: now - browserNow,
  };
}

/** Asks for the pipelines of one connection for as long as it is started. */
export class Feed {
  state = EMPTY;
  private shown: string[] = [];
  private known = { epoch: "", version: 0 };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private abort: AbortController | undefined;

  constructor(
    readonly connection: string,
    private readonly onChange: (state: FeedState) => void,
  ) {}

  start(): void {
    document.addEventListener("visibilitychange", this.wake);
    void this.poll();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.wake);
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = undefined;
  }

  /** Say which pipelines are in view: only they get details. */
  show(ids: string[]): void {
    const isNew = ids.some((id) => !this.state.details.has(id) && !this.shown.includes(id));
    this.shown = ids;
    if (isNew && this.abort === undefined) this.schedule(150);
  }

  /** Ask again soon. */
  soon(): void {
    this.schedule(300);
  }

  private readonly wake = (): void => {
    if (document.visibilityState === "visible") this.schedule(0);
  };

  private schedule(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.poll(), ms);
  }

  private set(state: FeedState): void {
    this.state = state;
    this.onChange(state);
  }

  private async poll(): Promise<void> {
    if (document.visibilityState === "hidden" || this.abort !== undefined) return;
    const abort = (this.abort = new AbortController());
    const lacking = this.shown.filter((id) => !this.state.details.has(id));
    try {
      const shown = { all: this.shown, new: lacking };
      const response = await fetchPipelines(this.connection, this.known, shown, abort.signal);
      this.known = { epoch: response.epoch, version: response.version };
      this.set(merged(this.state, response, Date.now() / 1000));
    } catch (error) {
      if (abort.signal.aborted) return;
      const problem = error instanceof ApiError ? error : new ApiError("This page failed; reload it.", 0);
      this.set({ ...this.state, problem });
    } finally {
      if (this.abort === abort) this.abort = undefined;
    }
    // Details that are still to come are fetched sooner.
    this.schedule(lacking.length && !this.state.problem ? REFRESH_MS / 2 : REFRESH_MS);
  }
}
