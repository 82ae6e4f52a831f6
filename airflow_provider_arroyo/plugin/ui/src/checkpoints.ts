/* Checkpoints as the series of a bar chart. */

import type { PipelineLive } from "./types";

export type Checkpoint = PipelineLive["checkpoints"][number];

/** How long a checkpoint took, or has taken so far, in seconds. */
export function lengthOf(checkpoint: Checkpoint, now: number): number {
  return Math.max(0, (checkpoint.finished ?? now) - checkpoint.began);
}

export interface CheckpointSeries {
  index: number[];
  scheduled: (number | null)[];
  /** The last one of a run: before a stop, a restart or a rescale. */
  stopping: (number | null)[];
  underWay: (number | null)[];
  bytes: (number | null)[];
}

/** Return the last checkpoints as series: each is a bar of one of three kinds. */
export function seriesOf(checkpoints: Checkpoint[], now: number): CheckpointSeries {
  const isLasting = (one: Checkpoint) => one.finished === null;
  const lengths = (wanted: (one: Checkpoint) => boolean) =>
    checkpoints.map((one) => (wanted(one) ? lengthOf(one, now) : null));
  return {
    index: checkpoints.map((_one, index) => index),
    scheduled: lengths((one) => !isLasting(one) && one.type !== "stopping"),
    stopping: lengths((one) => !isLasting(one) && one.type === "stopping"),
    underWay: lengths(isLasting),
    bytes: checkpoints.map((one) => one.bytes),
  };
}

/** Return the last finished checkpoint, and the one in progress. */
export function newestOf(checkpoints: Checkpoint[]): { finished: Checkpoint | null; underWay: Checkpoint | null } {
  const last = checkpoints.at(-1);
  return {
    finished: checkpoints.findLast((one) => one.finished !== null) ?? null,
    underWay: last?.finished === null ? last : null,
  };
}
