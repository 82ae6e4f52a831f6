/* The states of a pipeline on a timeline: one lane for what Arroyo showed, and one for what each task saw. */

import { isTime } from "./format";
import { taskName, taskUrl } from "./host";
import type { PipelineLive, PipelineTasks } from "./types";

export interface Span {
  state: string;
  run: number | null;
  from: number;
  /** Null if the state still lasts, as far as is known. */
  to: number | null;
}

export interface Lane {
  name: string;
  link: string | null;
  spans: Span[];
}

export interface Change {
  /** Seconds since the epoch. */
  at: number;
  state: string;
  run: number | null;
}

/** Return the state changes that a task pushed, as far as they can be read: an XCom may hold anything. */
export function readTransitions(values: unknown[]): Change[] {
  return values.map(readOne).filter((one) => one !== null);
}

function readOne(value: unknown): Change | null {
  if (typeof value !== "object" || value === null) return null;
  const { at, state, run_id: run } = value as Record<string, unknown>;
  const seconds = typeof at === "string" ? Date.parse(at) / 1000 : at;
  if (typeof seconds !== "number" || !isTime(seconds) || typeof state !== "string") return null;
  return { at: seconds, state, run: typeof run === "number" ? run : null };
}

/** Return the spans between changes. */
export function spansOf(changes: Change[], end: number | null): Span[] {
  const sorted = [...changes].sort((a, b) => a.at - b.at);
  return sorted.map(({ at, state, run }, index) => {
    const next = sorted[index + 1];
    return { state, run, from: at, to: next ? next.at : end === null ? null : Math.max(at, end) };
  });
}

/** Return the lane of what Arroyo showed. Its last state still lasts, unless the pipeline was deleted. */
export function arroyoLane(changes: PipelineLive["changes"], goneAt: number | null): Lane {
  const read = changes.map(([at, state, run]) => ({ at, state, run }));
  return { name: "Arroyo", link: null, spans: spansOf(read, goneAt) };
}

type Task = PipelineTasks["tasks"][number];

/** Return a lane for each task that saw states; its last state ends with the task. */
export function taskLanes(tasks: Task[]): Lane[] {
  return tasks
    .map((task) => {
      const seen = readTransitions(task.transitions);
      const last = seen.reduce((latest, one) => Math.max(latest, one.at), 0);
      return {
        name: taskName(task.dag_id, task.task_id, task.map_index),
        link: taskUrl(task.dag_id, task.run_id, task.task_id, task.map_index),
        spans: spansOf(seen, task.end ?? (task.state === "running" || task.state === "deferred" ? null : last)),
      };
    })
    .filter((lane) => lane.spans.length > 0);
}

export const WINDOWS = [
  { key: "10m", seconds: 600, word: "10 minutes" },
  { key: "1h", seconds: 3600, word: "hour" },
  { key: "1d", seconds: 86_400, word: "day" },
] as const;

export interface Axis {
  from: number;
  to: number;
}

/** Return the time range of the lanes: all of it, or the last seconds. */
export function axisOf(lanes: Lane[], now: number, seconds: number | null): Axis {
  const begins = lanes.flatMap((lane) => lane.spans.map((span) => span.from)).filter((at) => at <= now);
  const first = Math.min(now - 1, ...begins);
  return { from: seconds === null ? first : Math.max(first, now - seconds), to: now };
}

/** Return the position of a span on the axis, in percent; null if it is outside. */
export function placeOf(span: Span, axis: Axis): { left: number; width: number } | null {
  const from = Math.max(span.from, axis.from);
  const to = Math.min(span.to ?? axis.to, axis.to);
  if (to < from || from > axis.to) return null;
  const whole = axis.to - axis.from;
  return { left: (100 * (from - axis.from)) / whole, width: (100 * (to - from)) / whole };
}
