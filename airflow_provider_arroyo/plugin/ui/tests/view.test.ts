import { describe, expect, test } from "vitest";

import { filterRows, formatView, parseView } from "../src/view";
import { row } from "./rows";

const owner = { dag: "shop", task: "submit", run: "manual__1", map_index: -1, namespace: "", deployment: null };

describe("the address", () => {
  test.each([
    "",
    "connection=arroyo_default",
    "connection=a&state=Failed&state=Running&owner=dag%3Ashop&q=orders+now&sort=-since&orphans=1",
  ])("keeps the view: %s", (search) => {
    expect(formatView(parseView(search)).toString()).toBe(search);
  });

  test("takes anything, and nothing of it is lost or believed", () => {
    const view = parseView("?q=%3Cimg%20src%3Dx%3E&sort=--&state=");
    expect(view.text).toBe("<img src=x>");
    expect(filterRows([row()], view, new Set())).toEqual([]);
  });
});

describe("filters", () => {
  const rows = [
    row({ id: "a", name: "Orders per minute", owner }),
    row({ id: "b", name: "clicks", state: "Failed", failure: { text: "topic is gone", domain: "external" } }),
    row({ id: "c", name: "orders late", state: "Stopped" }),
    row({ id: "d", name: "totals", owner: { ...owner, deployment: { group: "daily", name: "totals", generation: 2 } } }),
  ];
  test.each([
    ["q=orders", ["a", "c"]],
    ["q=ORDERS minute", ["a"]],
    ["q=shop", ["a", "d"]],
    ["q=topic", ["b"]],
    ["state=Failed&state=Stopped", ["b", "c"]],
    ["owner=dag:shop", ["a"]],
    ["owner=none", ["b", "c"]],
    ["owner=none&q=orders", ["c"]],
    ["orphans=1", ["c"]],
    ["owner=group:daily", ["d"]],
    ["q=daily", ["d"]],
    ["", ["a", "b", "c", "d"]],
  ])("%s", (search, ids) => {
    expect(filterRows(rows, parseView(search), new Set(["c"])).map((one) => one.id)).toEqual(ids);
  });

  test("a thousand rows take a moment", () => {
    const many = Array.from({ length: 1000 }, (_, n) => row({ id: `pl_${n}`, name: `orders ${n}` }));
    filterRows(many, parseView("q=orders 99"), new Set());
    const began = performance.now();
    expect(filterRows(many, parseView("q=orders 999"), new Set())).toHaveLength(1);
    // It is 0.2 ms here; the margin is for a machine that does much else.
    expect(performance.now() - began).toBeLessThan(50);
  });
});
