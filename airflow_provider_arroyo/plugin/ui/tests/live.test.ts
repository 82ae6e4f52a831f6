import { describe, expect, test } from "vitest";

import { NOTHING_YET, withAnswer } from "../src/live";
import { formatPageView, listSearch, parsePageView } from "../src/view";
import { live } from "./rows";

const running = withAnswer(NOTHING_YET, live({ errors: [] }), 990);

describe("what a page knows", () => {
  test("a pipeline that is gone keeps what was known of it", () => {
    const gone = withAnswer(running, live({ row: null, seen_at: 1001, changes: [], sentence: "It is gone." }), 992);
    expect(gone.goneAt).toBe(1001);
    expect(gone.row?.name).toBe("orders");
    expect(gone.live?.changes).toEqual([[100, "Running", 1]]);
    expect(gone.live?.sentence).toBe("It is gone.");
    // It was gone from the first moment on that this was seen.
    expect(withAnswer(gone, live({ row: null, seen_at: 1005 }), 996).goneAt).toBe(1001);
    expect(withAnswer(gone, live({}), 996).goneAt).toBeNull();
  });

  test.each([
    [{ error: "Arroyo is away." }, null],
    [{ seen_at: null }, null],
    [{}, 999],
  ])("without a row and with %o it is gone since %s", (part, goneAt) => {
    expect(withAnswer(running, live({ row: null, ...part }), 992).goneAt).toBe(goneAt);
  });
});

test("the address keeps the page's own state and the list's", () => {
  const search = "connection=a&state=Failed&q=orders&window=1h&table=graph&table=rates";
  expect(parsePageView(search)).toEqual({ connection: "a", window: "1h", tables: ["graph", "rates"] });
  expect(formatPageView(parsePageView(search), search).toString()).toBe(search);
  expect(listSearch(search).toString()).toBe("connection=a&state=Failed&q=orders");
});
