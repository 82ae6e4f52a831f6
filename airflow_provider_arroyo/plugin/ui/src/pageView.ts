/* The parts of a pipeline's page that are kept in the address. The list's parts are kept for the way back. */

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
