/* The states that a task saw of its pipeline, as it pushed them. */

export interface Transition {
  /** Seconds since the epoch. */
  at: number;
  state: string;
  run: number | null;
}

/** Return the readable transitions: an XCom may hold anything. */
export function readTransitions(values: unknown[]): Transition[] {
  return values.map(readOne).filter((one) => one !== null);
}

function readOne(value: unknown): Transition | null {
  if (typeof value !== "object" || value === null) return null;
  const { at, state, run_id: run } = value as Record<string, unknown>;
  const seconds = typeof at === "string" ? Date.parse(at) / 1000 : at;
  if (typeof seconds !== "number" || !Number.isFinite(seconds) || typeof state !== "string") return null;
  return { at: seconds, state, run: typeof run === "number" ? run : null };
}
