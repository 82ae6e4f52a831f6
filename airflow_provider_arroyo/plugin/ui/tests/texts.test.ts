import { describe, expect, test } from "vitest";

import { countText } from "../src/components/Toolbar";
import { emptyText } from "../src/ListPage";
import { ago, bytes, count, duration, percent } from "../src/format";
import { pipelineOf, pipelineUrl, taskUrl, webAddress } from "../src/host";
import { readTransitions } from "../src/lanes";
import { rank, STATE_ORDER, stateInfo } from "../src/states";

test.each([
  [-5, "0.0 s"],
  [0.42, "0.4 s"],
  [9.97, "10 s"],
  [59.6, "1 min"],
  [185, "3 min 5 s"],
  [3600, "1 h"],
  [7800, "2 h 10 min"],
  [90_000, "1 d 1 h"],
])("%d s is %s", (seconds, text) => {
  expect(duration(seconds)).toBe(text);
});

test.each([
  [-3, "0 s ago"],
  [59.9, "59 s ago"],
  [838, "13 min ago"],
  [90_000, "1 d ago"],
])("%d s is %s", (seconds, text) => {
  expect(ago(seconds)).toBe(text);
});

test.each([
  [0, "0"],
  [0.4763, "0.48"],
  [10, "10"],
  [999.4, "999"],
  [999.6, "1 k"],
  [12_345, "12.3 k"],
  [4_000_000, "4 M"],
  [-1500, "−1.5 k"],
])("%d is %s", (value, text) => {
  expect(count(value)).toBe(text);
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [12_345, "12.3 kB"],
  [4_000_000, "4 MB"],
])("%d bytes are %s", (value, text) => {
  expect(bytes(value)).toBe(text);
});

test.each([
  [0, "0 %"],
  [0.004, "<1 %"],
  [0.5, "50 %"],
  [1, "100 %"],
])("a share of %d is %s", (share, text) => {
  expect(percent(share)).toBe(text);
});

test.each([
  ["https://arroyo.example.com/x/", "https://arroyo.example.com/x"],
  ["javascript:alert(1)", null],
  ["data:text/html,x", null],
  ["not an address", null],
  [null, null],
])("%s is linked as %s", (text, expected) => {
  expect(webAddress(text)).toBe(expected);
});

describe("states", () => {
  test("every known one has a colour and a meaning of its own kind", () => {
    expect(STATE_ORDER).toHaveLength(14);
    for (const state of STATE_ORDER) expect(stateInfo(state).group).not.toBe("unknown");
  });

  test.each(["SomethingNew", "constructor", "__proto__", "", null])("%s is unknown and comes last", (state) => {
    expect(stateInfo(state).group).toBe("unknown");
    expect(rank(state)).toBe(STATE_ORDER.length);
  });
});

test("links to Airflow leave a run's id readable, and nothing of it can leave the path", () => {
  document.head.append(Object.assign(document.createElement("base"), { href: "http://air.example.com/base/" }));
  expect(taskUrl("shop", "manual__2026-11-28T10:00:00+00:00", "submit", 2)).toBe(
    "http://air.example.com/base/dags/shop/runs/manual__2026-11-28T10:00:00+00:00/tasks/submit/mapped/2",
  );
  expect(taskUrl("a/b", "x?y#z/..", "t")).toBe("http://air.example.com/base/dags/a%2Fb/runs/x%3Fy%23z%2F../tasks/t");
});

test.each([
  ["/plugin/arroyo", null],
  ["/air/flow/plugin/arroyo/", null],
  ["/plugin/arroyo/pipelines/", null],
  ["/plugin/arroyo/pipelines/pl_1", "pl_1"],
  ["/air/flow/plugin/arroyo/pipelines/a%2Fb%3F", "a/b?"],
  ["/plugin/arroyo/pipelines/%E0%A4%A", "%E0%A4%A"],
  ["/plugin/arroyo_pipeline", undefined],
  ["/dags/shop", undefined],
])("%s is the page of %s", (path, pipeline) => {
  expect(pipelineOf(path)).toBe(pipeline);
});

test.each(["pl_1", "a/b?c#d", "<img>", "100 %", "ü"])("the page of %s has an address that leads to it", (id) => {
  const url = new URL(pipelineUrl(id, new URLSearchParams({ connection: "a&b" })));
  expect(pipelineOf(url.pathname)).toBe(id);
  expect(url.searchParams.get("connection")).toBe("a&b");
});

test("of the transitions of a task only what can be read is shown", () => {
  const found = readTransitions([
    { at: 5, state: "Created", run_id: 0 },
    { at: "2026-11-28T10:00:00Z", state: "Running" },
    { at: "nonsense", state: "Running" },
    { state: "Running" },
    "Running",
    null,
    { at: 7, state: { html: "<b>" } },
  ]);
  expect(found).toEqual([
    { at: 5, state: "Created", run: 0 },
    { at: 1_795_860_000, state: "Running", run: null },
  ]);
});

test.each([
  [null, null, 0, "Waiting for Arroyo…"],
  [null, "refused", 0, "No data yet."],
  [5, null, 0, "There are no pipelines on this Arroyo."],
  [5, "refused", 3, "No pipeline matches these filters."],
])("a list without rows, last seen at %s, failing with %s, of %d pipelines, says %s", (seen_at, error, all, text) => {
  const status = { now: 6, seen_at, error, console: null, namespace: null, may_act: true };
  expect(emptyText(status, all)).toBe(text);
});

test.each([
  [0, 0, "0 pipelines"],
  [1, 1, "1 pipeline"],
  [0, 1, "0 of 1 pipeline"],
  [3, 1000, "3 of 1000 pipelines"],
])("%d of %d is %s", (shown, all, text) => {
  expect(countText(shown, all)).toBe(text);
});
