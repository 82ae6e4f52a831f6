/* What our pages show, as far as it is kept in the address, so that it can be shared and reloaded. */

import type { Row } from "./types";

/** Which rows the list shows, and in which order. */
export interface View {
  connection: string;
  states: string[];
  /** "dag:<id>", "group:<deployments>", "none" for pipelines without a label, or empty for all. */
  owner: string;
  text: string;
  sort: string;
  descending: boolean;
  orphans: boolean;
}

const DEFAULT_SORT = "state";

export function parseView(search: string): View {
  const query = new URLSearchParams(search);
  const sort = query.get("sort") ?? DEFAULT_SORT;
  return {
    connection: query.get("connection") ?? "",
    states: query.getAll("state"),
    owner: query.get("owner") ?? "",
    text: query.get("q") ?? "",
    sort: sort.replace(/^-/, ""),
    descending: sort.startsWith("-"),
    orphans: query.get("orphans") === "1",
  };
}

export function formatView(view: View): URLSearchParams {
  const query = new URLSearchParams();
  if (view.connection) query.set("connection", view.connection);
  for (const state of view.states) query.append("state", state);
  if (view.owner) query.set("owner", view.owner);
  if (view.text) query.set("q", view.text);
  const sort = (view.descending ? "-" : "") + view.sort;
  if (sort !== DEFAULT_SORT) query.set("sort", sort);
  if (view.orphans) query.set("orphans", "1");
  return query;
}

/** Return the rows that a view shows, in no particular order. */
export function filterRows(rows: Row[], view: View, orphans: Pick<ReadonlySet<string>, "has">): Row[] {
  const states = new Set(view.states);
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(
    (row) =>
      (!view.orphans || orphans.has(row.id)) &&
      (states.size === 0 || states.has(row.state ?? "")) &&
      (view.owner === "" || ownerKey(row) === view.owner) &&
      (words.length === 0 || hasWords(row, words)),
  );
}

function hasWords(row: Row, words: string[]): boolean {
  const text = searchable(row);
  return words.every((word) => text.includes(word));
}

const texts = new WeakMap<Row, string>();

/** Return all text of a row that the search covers. Rows never change, so this is computed once. */
function searchable(row: Row): string {
  let text = texts.get(row);
  if (text === undefined) {
    const { owner } = row;
    const parts = [row.name, row.id, row.state, row.failure?.text, owner?.dag, owner?.task, owner?.run];
    if (owner?.deployment) parts.push(owner.deployment.group, owner.deployment.name);
    text = parts.filter(Boolean).join("\n").toLowerCase();
    texts.set(row, text);
  }
  return text;
}

export function ownerKey(row: Row): string {
  const { owner } = row;
  if (!owner) return "none";
  return owner.deployment ? `group:${owner.deployment.group}` : `dag:${owner.dag}`;
}

/** A pipeline's own page. Its address also keeps the list's part, for the way back. */
export interface PageView {
  connection: string;
  /** The time range of the timeline; empty for all of it. */
  window: string;
  /** Which charts are shown as tables. */
  tables: string[];
}

export function parsePageView(search: string): PageView {
  const query = new URLSearchParams(search);
  return {
    connection: query.get("connection") ?? "",
    window: query.get("window") ?? "",
    tables: query.getAll("table"),
  };
}

/** Return the page's query; the list's part of it stays unchanged. */
export function formatPageView(view: PageView, search: string): URLSearchParams {
  const query = listSearch(search);
  if (view.connection) query.set("connection", view.connection);
  if (view.window) query.set("window", view.window);
  for (const table of view.tables) query.append("table", table);
  return query;
}

/** Return the list's part of the page's query. */
export function listSearch(search: string): URLSearchParams {
  const query = new URLSearchParams(search);
  query.delete("window");
  query.delete("table");
  return query;
}
