/* The hooks of our own components. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { fetchOrphans } from "./api";
import { onAddressChange, replaceSearch } from "./host";
import { usePolled } from "./polled";
import type { Orphan } from "./types";

/** Keep a page's view in the query of the address, and follow the address while it is the page's own.
 *
 * @returns the view, and a function that changes parts of it.
 */
export function useAddressView<View extends object>(
  isOurs: (pathname: string) => boolean,
  parse: (search: string) => View,
  format: (view: View, search: string) => URLSearchParams,
): [View, (part: Partial<View>) => void] {
  const [view, setView] = useState(() => parse(location.search));
  useEffect(
    () =>
      onAddressChange(() => {
        if (isOurs(location.pathname)) setView(parse(location.search));
      }),
    [],
  );
  const change = (part: Partial<View>) => {
    const next = { ...view, ...part };
    setView(next);
    replaceSearch(format(next, location.search));
  };
  return [view, change];
}

/** Put a title before Airflow's own, for the window and for screen readers, while the component is mounted. */
export function useTitle(title: string): void {
  useEffect(() => {
    const before = document.title;
    const whole = `${title} - ${before}`;
    document.title = whole;
    return () => {
      // Airflow may have set another title.
      if (document.title === whole) document.title = before;
    };
  }, [title]);
}

/** Return whether nothing has the focus, for example after one page replaced another, or only the page's heading. */
export function isFocusFree(): boolean {
  const { activeElement: host } = document;
  const active = host?.shadowRoot?.activeElement ?? host;
  return active === null || active === document.body || active.tagName === "H1";
}

/** Focus a heading when wanted, unless the user has moved the focus in the meantime. */
export function useFocus(isWanted: boolean) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (!isWanted) return undefined;
    const focus = () => {
      if (isFocusFree()) heading.current?.focus();
    };
    focus();
    // The host may have removed the page from the document, where nothing can have the focus.
    return onAddressChange(focus);
  }, [isWanted]);
  return heading;
}

/** Return the browser's time in seconds, once a second while the page is visible. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") setNow(Date.now() / 1000);
    }, 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export interface Orphans {
  missing: ReadonlyMap<string, Orphan["missing"]>;
  problem: string;
}

const ORPHANS_MS = 10_000;

/** Return the pipelines whose owner is gone from Airflow, while they are wanted. */
export function useOrphans(connection: string, isWanted: boolean): Orphans {
  const ask = isWanted ? (signal: AbortSignal) => fetchOrphans(connection, signal) : null;
  const { value, problem } = usePolled(connection, ORPHANS_MS, ask);
  const missing = useMemo(
    () => new Map((isWanted && value ? value : []).map((one) => [one.id, one.missing])),
    [isWanted, value],
  );
  return { missing, problem: isWanted ? problem : "" };
}

/** Follow the width of an element. */
export function useWidth(element: HTMLElement | null): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return width;
}
