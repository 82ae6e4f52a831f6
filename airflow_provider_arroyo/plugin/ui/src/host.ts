/* What we use of Airflow: its React for the adapter, its theme, its addresses. */

import type { Owner } from "./types";

/** The part of the host's React that the adapter uses; any React since 16.8 has it. */
export interface HostReact {
  createElement: (type: string, props: Record<string, unknown>) => unknown;
  useEffect: (effect: () => (() => void) | undefined, inputs: unknown[]) => void;
  useRef: <T>(initial: T) => { current: T };
}

/** Where Airflow shows a component; all empty on its own page. */
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

/** Return the address of a DAG run's or task instance's page. Like Airflow, we do not escape run ids. */
export function taskUrl(dag: string, run: string, task?: string, mapIndex = -1): string {
  const parts = ["dags", encodeURIComponent(dag), "runs", run.replaceAll(/[%?#/\\]/g, encodeURIComponent)];
  if (task !== undefined) {
    parts.push("tasks", encodeURIComponent(task));
    if (mapIndex >= 0) parts.push("mapped", String(mapIndex));
  }
  return airflowUrl(parts.join("/"));
}

/** Return the name of a task instance. */
export function taskName(dag: string, task: string, mapIndex: number): string {
  return `${dag}.${task}${mapIndex >= 0 ? `[${mapIndex}]` : ""}`;
}

/** Return where an owner is, if that is not this Airflow: a DAG of the same name here is a different one. */
export function elsewhereText(owner: Owner, namespace: string | null): string | null {
  if (namespace === null || owner.namespace === namespace) return null;
  return owner.namespace ? `namespace ${owner.namespace}` : "without a namespace";
}

/** Return a link only if it leads to a web page: an address from a connection may be anything. */
export function webAddress(text: string | null): string | null {
  if (text === null) return null;
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href.replace(/\/$/, "") : null;
  } catch {
    return null;
  }
}

const PAGE = "plugin/arroyo";

function withQuery(path: string, search: URLSearchParams): string {
  const query = search.toString();
  return airflowUrl(query ? `${path}?${query}` : path);
}

/** Return the address of the list. */
export function pageUrl(search: URLSearchParams): string {
  return withQuery(PAGE, search);
}

/** Return the address of a pipeline's own page. */
export function pipelineUrl(pipeline: string, search: URLSearchParams): string {
  return withQuery(`${PAGE}/pipelines/${encodeURIComponent(pipeline)}`, search);
}

/** Return which of our pages an address shows: a pipeline's (its id), the list (null), or none (undefined). */
export function pipelineOf(pathname: string): string | null | undefined {
  const found = /\/plugin\/arroyo(?:\/(.*))?$/.exec(pathname);
  if (!found) return undefined;
  const [, id] = /^pipelines\/([^/]+)\/?$/.exec(found[1] ?? "") ?? [];
  if (id === undefined) return null;
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** Go to an address of Airflow's UI without reloading it. */
export function navigate(url: string): void {
  const state = history.state as { idx?: number } | null;
  const key = Math.random().toString(36).slice(2, 10);
  history.pushState({ idx: (state?.idx ?? 0) + 1, key, usr: null }, "", url);
  dispatchEvent(new PopStateEvent("popstate", { state: history.state as unknown }));
}

/** Change the query of the address without adding a history entry. */
export function replaceSearch(search: URLSearchParams): void {
  const query = search.toString();
  // With the whole path: a bare "?x" would be resolved against <base href>.
  history.replaceState(history.state, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
}

const SHOWN = "arroyo:shown";

/** Notify our pages that the host has just shown them, perhaps at another address: its own links do not. */
export function announceShown(): void {
  dispatchEvent(new Event(SHOWN));
}

/** Call back whenever the address may have changed. */
export function onAddressChange(callback: () => void): () => void {
  addEventListener("popstate", callback);
  addEventListener(SHOWN, callback);
  return () => {
    removeEventListener("popstate", callback);
    removeEventListener(SHOWN, callback);
  };
}

/** Return the time zone that the user chose in Airflow, as Airflow stores it; null for the browser's own. */
export function chosenTimeZone(): string | null {
  try {
    return localStorage.getItem("timezone");
  } catch {
    return null;
  }
}

/** Call back whenever Airflow changes between light and dark. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.documentElement, { attributeFilter: ["class"] });
  return () => observer.disconnect();
}
