import { expect, test } from "vitest";

import { EMPTY, merged } from "../src/feed";
import type { Details, PipelinesResponse } from "../src/types";
import { row } from "./rows";

const DETAILS: Details = { checkpoint: null, rates: null, error: null, unread: {} };

function response(part: Partial<PipelinesResponse>): PipelinesResponse {
  return {
    now: 1000,
    seen_at: 999,
    error: null,
    console: null,
    namespace: null,
    may_act: true,
    epoch: "e",
    version: 1,
    complete: false,
    rows: [],
    gone: [],
    details: {},
    totals: {},
    limit: null,
    began: 900,
    ...part,
  };
}

const two = merged(EMPTY, response({ complete: true, rows: [row({ id: "a" }), row({ id: "b" })] }), 990);

test("changes replace rows, and what is gone goes with its details", () => {
  const withDetails = merged(two, response({ details: { a: DETAILS, b: DETAILS } }), 990);
  const next = merged(withDetails, response({ rows: [row({ id: "b", state: "Failed" })], gone: ["a"] }), 990);
  expect([...next.rows.keys()]).toEqual(["b"]);
  expect(next.rows.get("b")?.state).toBe("Failed");
  expect([...next.details.keys()]).toEqual(["b"]);
});

test("a complete response leaves nothing of the old ones", () => {
  const next = merged(two, response({ complete: true, rows: [row({ id: "c" })] }), 990);
  expect([...next.rows.keys()]).toEqual(["c"]);
});

test("without a change the rows stay the same object, so that nothing is drawn anew", () => {
  const next = merged(two, response({}), 992);
  expect(next.rows).toBe(two.rows);
  expect(next.details).toBe(two.details);
});

test("the clock of the browser need not be right", () => {
  expect(merged(EMPTY, response({ now: 1000 }), 400).skew).toBe(600);
});
