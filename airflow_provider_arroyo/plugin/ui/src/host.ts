/* What Airflow gives us: its React for the adapter, its theme, its addresses. Nothing else of it is used. */

/** The part of the host's React that the adapter uses; any React since 16.8 has it. */
export interface HostReact {
  createElement: (type: string, props: Record<string, unknown>) => unknown;
  useEffect: (effect: () => (() => void) | undefined, inputs: unknown[]) => void;
  useRef: <T>(initial: T) => { current: T };
}

/** Where Airflow shows a component: all empty on a page of its own. */
export interface HostProps {
  dagId?: string;
  runId?: string;
  taskId?: string;
  mapIndex?: string;
}

/** Return an address of Airflow's UI, with the base path in front. */
export function airflowUrl(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** Return the address of a DAG run's or a task instance's page. Airflow leaves run ids as they are, and so do we. */
export function taskUrl(dag: string, run: string, task?: string, mapIndex = -1): string {
  const parts = ["dags", encodeURIComponent(dag), "runs", run.replaceAll(/[%?#/\\]/g, encodeURIComponent)];
  if (task !== undefined) {
    parts.push("tasks", encodeURIComponent(task));
    if (mapIndex >= 0) parts.push("mapped", String(mapIndex));
  }
  return airflowUrl(parts.join("/"));
}

/** Return the address of our own page. */
export function pageUrl(search: URLSearchParams): string {
  const query = search.toString();
  return airflowUrl(`plugin/arroyo${query ? `?${query}` : ""}`);
}

/** Go to an address of Airflow's UI without loading it anew. */
export function navigate(url: string): void {
  const state = history.state as { idx?: number } | null;
  const key = Math.random().toString(36).slice(2, 10);
  history.pushState({ idx: (state?.idx ?? 0) + 1, key, usr: null }, "", url);
  dispatchEvent(new PopStateEvent("popstate", { state: history.state as unknown }));
}

/** Change the query of the address, without another entry in the history. */
export function replaceSearch(search: URLSearchParams): void {
  const query = search.toString();
  // From the whole path: a bare "?x" would be resolved against <base href>.
  history.replaceState(history.state, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
}

/** Call back whenever Airflow changes between light and dark. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.documentElement, { attributeFilter: ["class"] });
  return () => {
    observer.disconnect();
  };
}
