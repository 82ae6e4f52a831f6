/* The actions on a pipeline: which are possible, their names, and following them until the server reports an outcome. */

import { useEffect, useState } from "preact/hooks";

import { ApiError, fetchOutcome } from "./api";
import type { ActionName, Acted, Row } from "./types";

const ASK_MS = 2000;
/** For how many rounds an outcome is shown. */
const OUTCOME_ROUNDS = 3;

export interface PendingAction extends Acted {
  pipeline: string;
  action: ActionName;
  /** For how many more rounds its outcome is shown. */
  rounds: number;
}

export type Pending = ReadonlyMap<string, PendingAction>;

/** Return an action with the last response about it. */
export function withResponse(pipeline: string, action: ActionName, acted: Acted): PendingAction {
  return { ...acted, pipeline, action, rounds: OUTCOME_ROUNDS };
}

/** Return an action a round later; null once its outcome has been shown long enough. */
async function later(connection: string, one: PendingAction, signal: AbortSignal): Promise<PendingAction | null> {
  if (one.outcome !== null) return one.rounds > 1 ? { ...one, rounds: one.rounds - 1 } : null;
  try {
    return withResponse(one.pipeline, one.action, await fetchOutcome(connection, one.follow, signal));
  } catch (error) {
    // While the API server does not respond, the outcome is unknown.
    if (!(error instanceof ApiError) || error.status < 400 || error.status >= 500) return one;
    return withResponse(one.pipeline, one.action, { outcome: { ok: false, text: error.message }, follow: null });
  }
}

/** Follow the actions on a connection's pipelines while the component lives.
 *
 * @param soon called when a pipeline is about to change, or has just changed.
 * @returns the actions in progress and those that have just ended, by pipeline, and a function that adds one.
 */
export function useActions(connection: string, soon: () => void) {
  const [pending, setPending] = useState<Pending>(new Map());
  useEffect(() => {
    if (pending.size === 0) return undefined;
    const abort = new AbortController();
    const ask = async () => {
      const all = await Promise.all([...pending.values()].map((one) => later(connection, one, abort.signal)));
      if (abort.signal.aborted) return;
      const left = all.filter((one) => one !== null);
      if (left.some((one) => one.outcome !== null && pending.get(one.pipeline)?.outcome === null)) soon();
      setPending(new Map(left.map((one) => [one.pipeline, one])));
    };
    const timer = setTimeout(() => void ask(), ASK_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [connection, pending]);
  const begin = (one: PendingAction) => {
    setPending((last) => new Map(last).set(one.pipeline, one));
    soon();
  };
  return { pending, begin };
}

interface Words {
  menu: string;
  title: string;
  button: string;
  /** While it is in progress. */
  doing: string;
}

export const ACTIONS: Record<ActionName, Words> = {
  stop: { menu: "Stop…", title: "Stop this pipeline?", button: "Stop pipeline", doing: "Stopping…" },
  resume: { menu: "Resume…", title: "Resume this pipeline?", button: "Resume pipeline", doing: "Resuming…" },
  restart: { menu: "Restart…", title: "Restart this pipeline?", button: "Restart pipeline", doing: "Restarting…" },
  rescale: {
    menu: "Change parallelism…",
    title: "Change this pipeline's parallelism?",
    button: "Change parallelism",
    doing: "Rescaling…",
  },
  delete: { menu: "Delete…", title: "Delete this pipeline?", button: "Delete pipeline", doing: "Deleting…" },
};

/** Return the actions that make sense for a row in its state. */
export function possibleActions(row: Row): ActionName[] {
  if (row.state === null) return [];
  if (row.state === "Stopped") return ["resume", "rescale", "delete"];
  if (row.state === "Failed") return ["restart", "rescale", "delete"];
  if (row.state === "Finished") return ["delete"];
  return ["stop", "restart", "rescale"];
}
