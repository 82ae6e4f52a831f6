import { describe, expect, test } from "vitest";

import { outcomeOf, PATIENCE_SECONDS, possibleActions } from "../src/progress";
import type { ActionName, Row } from "../src/types";
import { row } from "./rows";

function outcome(action: ActionName, before: Partial<Row>, after: Partial<Row> | null, seconds = 1) {
  const pending = {
    pipeline: "pl_1",
    name: "orders",
    action,
    before: row(before),
    at: 0,
    outcome: null,
    settledAt: null,
  };
  return outcomeOf(pending, after === null ? undefined : row(after), seconds)?.ok ?? null;
}

describe("what an action came to", () => {
  test.each<[ActionName, Partial<Row>, Partial<Row> | null, boolean | null]>([
    // The old state still shows: nothing is known.
    ["stop", {}, { wanted: false }, null],
    ["stop", {}, { state: "Stopping" }, null],
    ["stop", {}, { state: "Stopped" }, true],
    ["stop", {}, { state: "Failed" }, false],
    ["stop", {}, null, false],
    ["restart", {}, {}, null],
    ["restart", {}, { state: "Scheduling", run: 2 }, null],
    ["restart", {}, { run: 2 }, true],
    ["restart", { state: "Failed" }, { state: "Failed" }, null],
    ["restart", { state: "Failed" }, { state: "Failed", run: 2 }, false],
    // A restart without state replaces the job.
    ["restart", {}, { job: "job_2", run: 1 }, true],
    ["resume", { state: "Stopped" }, { state: "Stopped", wanted: true }, null],
    ["resume", { state: "Stopped" }, { run: 2 }, true],
    ["rescale", { parallelism: 1 }, { run: 2, parallelism: 4 }, true],
    ["rescale", { state: "Stopped", parallelism: 1 }, { state: "Stopped", parallelism: 4 }, true],
    ["delete", { state: "Stopped" }, { state: "Stopped" }, null],
    ["delete", { state: "Stopped" }, null, true],
  ])("%s from %o to %o", (action, before, after, expected) => {
    expect(outcome(action, before, after)).toBe(expected);
  });

  test("nobody waits for ever", () => {
    expect(outcome("stop", {}, {}, PATIENCE_SECONDS + 1)).toBe(false);
  });
});

test.each([
  ["Running", ["stop", "restart", "rescale"]],
  ["Stopped", ["resume", "rescale", "delete"]],
  ["Failed", ["restart", "rescale", "delete"]],
  ["Finished", ["delete"]],
  [null, []],
  ["SomethingNew", ["stop", "restart", "rescale"]],
])("%s allows %o", (state, actions) => {
  expect(possibleActions(row({ state }))).toEqual(actions);
});
