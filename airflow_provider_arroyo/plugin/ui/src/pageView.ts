/* What of a pipeline's page is kept in the address. The rest of it is the list's, for the way back. */

export interface PageView {
  connection: string;
  /** Which time the line of states covers; empty for all that is known. */
  window: string;
  /** Which drawings are shown as tables. */
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

/** Return the query of the page; what is the list's stays as it is. */
export function formatPageView(view: PageView, search: string): URLSearchParams {
  const query = listSearch(search);
  if (view.connection) query.set("connection", view.connection);
  if (view.window) query.set("window", view.window);
  for (const table of view.tables) query.append("table", table);
  return query;
}

/** Return what of the page's query is the list's. */
export function listSearch(search: string): URLSearchParams {
  const query = new URLSearchParams(search);
  query.delete("window");
  query.delete("table");
  return query;
}
