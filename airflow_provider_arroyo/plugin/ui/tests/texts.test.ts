import { describe, expect, test } from "vitest";

import { ago, count, duration, percent, webAddress } from "../src/format";
import { taskUrl } from "../src/host";
import { rank, STATE_ORDER, stateInfo } from "../src/states";
import { readTransitions } from "../src/transitions";

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
