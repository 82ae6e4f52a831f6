/* An action from its request until the state says what it came to. */

import { isTerminal } from "./states";
import type { ActionName, Row } from "./types";

export const PATIENCE_SECONDS = 120;
const OUTCOME_SECONDS = 6;

export interface PendingAction {
  pipeline: string;
  name: string;
  action: ActionName;
  /** The row as it was when the action was requested. */
  before: Row;
  /** The browser's clock, in seconds. */
  at: number;
  outcome: Outcome | null;
  settledAt: number | null;
}

export interface Outcome {
  ok: boolean;
  text: string;
}

/** Return what an action came to; null while that does not show yet. */
export function outcomeOf(pending: PendingAction, row: Row | undefined, now: number): Outcome | null {
  const { action, before } = pending;
  if (row === undefined) {
    return action === "delete" ? { ok: true, text: "Deleted." } : { ok: false, text: "It has been deleted." };
  }
  const isNewRun = row.run > before.run || row.job !== before.job;
  if (action === "stop" && isTerminal(row.state)) {
    return { ok: row.state !== "Failed", text: `It is now ${row.state ?? ""}.` };
  }
  if (action === "resume" || action === "restart" || action === "rescale") {
    if (row.state === "Failed" && (isNewRun || before.state !== "Failed")) {
      return { ok: false, text: "It failed instead of running." };
    }
    if (isNewRun && row.state === "Running") return { ok: true, text: "It is running again." };
    if (action === "rescale" && row.parallelism !== before.parallelism && isTerminal(row.state)) {
      return { ok: true, text: "The new parallelism takes effect when it is started again." };
    }
    if (isNewRun && row.state === "Finished") return { ok: true, text: "It has finished." };
  }
  if (now - pending.at > PATIENCE_SECONDS) {
    return { ok: false, text: `No effect seen after ${PATIENCE_SECONDS} s. Check Arroyo's console.` };
  }
  return null;
}

/** Return an action after a response, with what it came to; null once that was there long enough to be read. */
export function settledAction(action: PendingAction, row: Row | undefined, now: number): PendingAction | null {
  const outcome = action.outcome ?? outcomeOf(action, row, now);
  if (outcome === null) return action;
  if (action.settledAt === null) return { ...action, outcome, settledAt: now };
  return now - action.settledAt < OUTCOME_SECONDS ? action : null;
}

const DOING: Record<ActionName, string> = {
  stop: "Stopping",
  resume: "Resuming",
  restart: "Restarting",
  rescale: "Rescaling",
  delete: "Deleting",
};

/** Return what is going on, for the row. */
export function doing(pending: PendingAction): string {
  return `${DOING[pending.action]}…`;
}

/** Return the actions that make sense for a row as it is. */
export function possibleActions(row: Row): ActionName[] {
  if (row.state === null) return [];
  if (row.state === "Stopped") return ["resume", "rescale", "delete"];
  if (row.state === "Failed") return ["restart", "rescale", "delete"];
  if (row.state === "Finished") return ["delete"];
  return ["stop", "restart", "rescale"];
}
