import { describe, expect, test } from "vitest";

import { repeatedErrors } from "../src/components/Errors";
import { newestOf, seriesOf } from "../src/checkpoints";
import { arroyoLane, axisOf, placeOf, spansOf, taskLanes } from "../src/lanes";
import { KEPT_SECONDS, lastRates, mergedRates, NO_RATES } from "../src/rates";
import type { PipelineTasks } from "../src/types";

describe("rates", () => {
  const rates = (...at: number[]) => ({
    at,
    in: at.map((one) => one),
    out: at.map((one) => 2 * one),
    backpressure: at.map(() => 0.5),
  });

  test("a later answer replaces what it tells anew, and keeps what it no longer tells", () => {
    const first = mergedRates(NO_RATES, rates(2, 4, 6));
    const next = mergedRates(first, { ...rates(6, 8), in: [60, 80] });
    expect(next.at).toEqual([2, 4, 6, 8]);
    expect(next.in).toEqual([2, 4, 60, 80]);
    expect(next.out).toEqual([4, 8, 12, 16]);
  });

  test("what was not seen is a hole, not a line", () => {
    const next = mergedRates(mergedRates(NO_RATES, rates(2, 4)), rates(100, 102, 200));
    expect(next.at).toEqual([2, 4, 5, 100, 102, 103, 200]);
    expect(next.in).toEqual([2, 4, null, 100, 102, null, 200]);
  });

  test("an hour is kept", () => {
    let known = NO_RATES;
    for (let at = 0; at <= 2 * KEPT_SECONDS; at += 60) known = mergedRates(known, rates(at, at + 2, at + 4));
    expect(known.at[0]).toBeGreaterThanOrEqual(KEPT_SECONDS);
    expect(known.at.at(-1)).toBe(2 * KEPT_SECONDS + 4);
    expect(known.in).toHaveLength(known.at.length);
  });

  test("without news nothing changes, so that nothing is drawn anew", () => {
    const known = mergedRates(NO_RATES, rates(2));
    expect(mergedRates(known, null)).toBe(known);
    expect(mergedRates(known, rates())).toBe(known);
  });

  test("times that are out of order, and values that lack, do no harm", () => {
    const found = mergedRates(NO_RATES, { at: [2, 1, 4], in: [1], out: [null, null, 3], backpressure: [] });
    expect(found).toEqual({ at: [2, 4], in: [1, null], out: [null, 3], backpressure: [null, null] });
    expect(lastRates(found)).toEqual({ in: 1, out: 3, backpressure: null });
  });
});

describe("checkpoints", () => {
  const one = (epoch: number, type: string | null, finished: number | null, bytes: number | null = null) => ({
    epoch,
    type,
    began: 10 * epoch,
    finished,
    bytes,
  });
  const all = [one(1, "scheduled", 12, 500), one(2, "stopping", 25), one(3, null, 30), one(4, "scheduled", null)];

  test("each is one bar of its kind", () => {
    expect(seriesOf(all, 47)).toEqual({
      index: [0, 1, 2, 3],
      scheduled: [2, null, 0, null],
      stopping: [null, 5, null, null],
      underWay: [null, null, null, 7],
      bytes: [500, null, null, null],
    });
  });

  test("the last finished one and the one under way", () => {
    expect(newestOf(all)).toEqual({ finished: all[2], underWay: all[3] });
    expect(newestOf([])).toEqual({ finished: null, underWay: null });
  });
});

describe("lanes of states", () => {
  const task = (part: Partial<PipelineTasks["tasks"][number]>) => ({
    dag_id: "shop",
    run_id: "manual__1",
    task_id: "submit",
    map_index: -1,
    operator: null,
    state: "success",
    start: 0,
    end: 90,
    via: "owner" as const,
    transitions: [] as unknown[],
    ...part,
  });

  test("the last state lasts, unless the pipeline is gone", () => {
    const changes: [number, string, number][] = [[10, "Created", 0], [12, "Running", 1]]; // prettier-ignore
    expect(arroyoLane(changes, null).spans).toEqual([
      { state: "Created", run: 0, from: 10, to: 12 },
      { state: "Running", run: 1, from: 12, to: null },
    ]);
    expect(arroyoLane(changes, 50).spans.at(-1)?.to).toBe(50);
    expect(arroyoLane([], null).spans).toEqual([]);
  });

  test("a task's last state ends with the task, and one that saw nothing has no lane", () => {
    const transitions = [{ at: 20, state: "Running", run_id: 1 }, "nonsense", { at: 10, state: "Created" }];
    const lanes = taskLanes([task({ transitions, map_index: 3 }), task({}), task({ transitions, end: null, state: "running" })]);
    expect(lanes.map((lane) => lane.name)).toEqual(["shop.submit[3]", "shop.submit"]);
    expect(lanes.map((lane) => lane.spans.map((span) => span.to))).toEqual([[20, 90], [20, null]]); // prettier-ignore
  });

  test("the axis reaches from the first that is known to now, or over the time that is wanted", () => {
    const lanes = [{ name: "a", link: null, spans: spansOf([{ at: 100, state: "Running", run: 1 }], null) }];
    expect(axisOf(lanes, 1000, null)).toEqual({ from: 100, to: 1000 });
    expect(axisOf(lanes, 1000, 600)).toEqual({ from: 400, to: 1000 });
    expect(axisOf(lanes, 1000, 3600)).toEqual({ from: 100, to: 1000 });
    // A clock that is ahead, and nothing at all.
    expect(axisOf(lanes, 50, null)).toEqual({ from: 49, to: 50 });
    expect(axisOf([], 50, null)).toEqual({ from: 49, to: 50 });
  });

  test.each([
    [0, 50, null],
    [50, 150, { left: 0, width: 50 }],
    [120, null, { left: 20, width: 80 }],
    [300, null, null],
  ])("a span from %d to %s", (from, to, place) => {
    expect(placeOf({ state: "Running", run: 1, from, to }, { from: 100, to: 200 })).toEqual(place);
  });
});

test("errors that say the same are one, with how often and since when", () => {
  const error = { operator: "source_0", message: "no broker", details: "", domain: null, task: 0 };
  const found = repeatedErrors([
    { ...error, at: 10 },
    { ...error, at: 30 },
    { ...error, at: 20, task: 1 },
    { ...error, at: 5 },
  ]);
  expect(found.map(({ last, times, first }) => [last.at, times, first])).toEqual([[30, 3, 5], [20, 1, 20]]); // prettier-ignore
});
