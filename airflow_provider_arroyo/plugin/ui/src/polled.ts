/* Requests repeatedly while the page is visible, and keeps the last response when one fails. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { ApiError } from "./api";

const UNUSABLE = "This page cannot use the response of Airflow's API server. Reload the page.";

export interface Polled<T> {
  value: T | null;
  /** Why the last request failed; empty if it succeeded. */
  problem: string;
}

/** Request at once, then at an interval while the page is visible.
 *
 * @param key identifies what is requested; with another key, everything starts over.
 * @param ms time between two requests; null requests once, and again only after a failure.
 * @param ask sends the request; null sends none.
 * @returns what is known, and a function that requests again soon.
 */
export function usePolled<T>(
  key: string,
  ms: number | null,
  ask: ((signal: AbortSignal) => Promise<T>) | null,
): Polled<T> & { soon: () => void } {
  const [polled, setPolled] = useState<Polled<T> & { key: string }>({ key, value: null, problem: "" });
  const wake = useRef<(delay: number) => void>(() => undefined);
  useEffect(() => {
    if (!ask) return undefined;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isAsking = false;
    let isDone = false;
    const schedule = (delay: number) => {
      clearTimeout(timer);
      if (!isAsking && !isDone) timer = setTimeout(() => void poll(), delay);
    };
    const poll = async () => {
      // The page requests again as soon as it is visible.
      if (document.visibilityState !== "visible") return;
      isAsking = true;
      try {
        const value = await ask(abort.signal);
        isDone = ms === null;
        if (!abort.signal.aborted) setPolled({ key, value, problem: "" });
      } catch (error) {
        const problem = error instanceof ApiError ? error.message : UNUSABLE;
        if (!abort.signal.aborted) setPolled((last) => ({ key, value: last.key === key ? last.value : null, problem }));
      }
      isAsking = false;
      if (!abort.signal.aborted) schedule(ms ?? RETRY_MS);
    };
    const onVisible = () => {
      if (document.visibilityState === "visible") schedule(0);
    };
    wake.current = schedule;
    document.addEventListener("visibilitychange", onVisible);
    void poll();
    return () => {
      document.removeEventListener("visibilitychange", onVisible);
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, ms, ask === null]);
  const soon = useCallback(() => wake.current(300), []);
  const { value, problem } = polled.key === key ? polled : { value: null, problem: "" };
  return { value, problem, soon };
}

const RETRY_MS = 10_000;
