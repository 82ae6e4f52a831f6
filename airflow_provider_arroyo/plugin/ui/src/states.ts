/* The states of a pipeline: their order, color and meaning. */

export type Group = "trouble" | "busy" | "running" | "ended" | "unknown";

interface StateInfo {
  group: Group;
  /** Airflow's own color with the same meaning: --chakra-colors-<token>-solid. */
  token: string;
  /** The meaning, for people who do not know Arroyo's terms. */
  meaning: string;
}

const STATES: Record<string, StateInfo> = {
  Failed: { group: "trouble", token: "failed", meaning: "It failed. Arroyo does not restart it." },
  Failing: { group: "trouble", token: "failed", meaning: "It is failing." },
  Recovering: { group: "trouble", token: "up_for_retry", meaning: "It failed and is being restarted." },
  Restarting: { group: "busy", token: "restarting", meaning: "It is being restarted, as requested." },
  Rescaling: { group: "busy", token: "restarting", meaning: "Its parallelism is being changed." },
  Created: { group: "busy", token: "queued", meaning: "It is waiting to be started." },
  Compiling: { group: "busy", token: "queued", meaning: "It is being compiled." },
  Scheduling: { group: "busy", token: "scheduled", meaning: "Its workers are being started." },
  CheckpointStopping: { group: "busy", token: "deferred", meaning: "It is taking a final checkpoint, then stops." },
  Stopping: { group: "busy", token: "deferred", meaning: "It is stopping." },
  Finishing: { group: "busy", token: "deferred", meaning: "One of its sources has ended. It finishes when the last one ends." },
  Running: { group: "running", token: "running", meaning: "It is running." },
  Stopped: { group: "ended", token: "skipped", meaning: "It was stopped, and can be resumed." },
  Finished: { group: "ended", token: "success", meaning: "All its sources have ended." },
};

/** The known states, in the order in which they deserve attention. */
export const STATE_ORDER = Object.keys(STATES);

const TERMINAL = new Set(["Stopped", "Finished", "Failed"]);

export function stateInfo(state: string | null): StateInfo {
  const unknown: StateInfo = { group: "unknown", token: "none", meaning: "A state that this page does not know." };
  if (state === null) return { ...unknown, meaning: "Arroyo has not reported a state yet." };
  return (Object.hasOwn(STATES, state) ? STATES[state] : undefined) ?? unknown;
}

export function isTerminal(state: string | null): boolean {
  return state !== null && TERMINAL.has(state);
}

/** Return Airflow's color of a state, as the style of an element. */
export function colorOf(token: string): { "--state": string } {
  return { "--state": `var(--chakra-colors-${token}-solid, #71717a)` };
}

/** Return a state's position in that order; unknown states come last. */
export function rank(state: string | null): number {
  const index = state === null ? -1 : STATE_ORDER.indexOf(state);
  return index < 0 ? STATE_ORDER.length : index;
}
