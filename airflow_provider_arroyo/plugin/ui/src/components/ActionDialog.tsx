/* Confirms an action: names the pipeline, says what will happen, and asks for what the action needs. */

import { useState } from "preact/hooks";

import { ACTIONS, possibleActions, withResponse } from "../actions";
import type { PendingAction } from "../actions";
import { act, ApiError, CAUTION } from "../api";
import { isTerminal } from "../states";
import type { ActionName, ActionOptions, Row, StopMode } from "../types";
import { Dialog } from "./Dialog";
import { Notice } from "./Notice";
import { StateBadge } from "./StateBadge";

interface Props {
  connection: string;
  /** As it is now: it may have changed since the action was chosen. */
  row: Row;
  action: ActionName;
  onDone: (pending: PendingAction) => void;
  onClose: () => void;
}

const STOP_MODES: { mode: StopMode; word: string; meaning: string }[] = [
  {
    mode: "checkpoint",
    word: "With a final checkpoint",
    meaning: "Takes a checkpoint, then stops. It can be resumed exactly where it was. The safe choice.",
  },
  {
    mode: "graceful",
    word: "Gracefully",
    meaning: "Processes the rows in flight, then stops. Resuming starts from the last regular checkpoint, so rows may be processed twice.",
  },
  {
    mode: "immediate",
    word: "Immediately",
    meaning: "Stops at once. Rows in flight are dropped, and read again after a resume.",
  },
  {
    mode: "force",
    word: "By force",
    meaning: "Kills its workers. For a pipeline that does not stop in any other way.",
  },
];

function meaning(action: ActionName, row: Row): string {
  switch (action) {
    case "resume":
      return "It starts again from its last checkpoint.";
    case "restart":
      return row.state === "Failed"
        ? "It starts again from its last checkpoint. If the cause is still there, it fails again."
        : "It takes a checkpoint, stops, and starts again from there. Its output pauses for a few seconds.";
    case "rescale":
      return isTerminal(row.state)
        ? "The new parallelism takes effect when it is started again."
        : "It takes a checkpoint, stops, and starts again with the new parallelism. Its output pauses for a few seconds.";
    case "delete":
      return "Its checkpoints and history are deleted with it. This cannot be undone.";
    default:
      return "";
  }
}

export function ActionDialog({ connection, row, action, onDone, onClose }: Props) {
  const [mode, setMode] = useState<StopMode>("checkpoint");
  const [force, setForce] = useState(false);
  const [parallelism, setParallelism] = useState(String(row.parallelism ?? 1));
  const [problem, setProblem] = useState("");
  const [isSending, setIsSending] = useState(false);
  /* Whether it may have been carried out: repeated at once, it could be done twice. */
  const [isUnknown, setIsUnknown] = useState(false);
  const wanted = Number(parallelism);
  const isWrong = action === "rescale" && !(Number.isInteger(wanted) && wanted >= 1 && wanted <= 10_000);
  const send = async () => {
    const options: ActionOptions =
      action === "stop" ? { mode } : action === "rescale" ? { parallelism: wanted } : action === "restart" ? { force } : {};
    setIsSending(true);
    setProblem("");
    try {
      const acted = await act(connection, row.id, action, options);
      onDone(withResponse(row.id, action, acted));
      if (acted.lost == null) {
        onClose();
        return;
      }
      setProblem(`${CAUTION} ${acted.lost}`);
      setIsUnknown(true);
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : "This page has failed. Reload it.");
      setIsUnknown(error instanceof ApiError && error.status === 0);
    }
    setIsSending(false);
  };
  // A request that was sent cannot be taken back, and its outcome is to be seen.
  const close = () => {
    if (!isSending) onClose();
  };
  return (
    <Dialog title={ACTIONS[action].title} onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isWrong && !isSending && !isUnknown) void send();
        }}
      >
        <p class="named">{row.name || row.id}</p>
        <p class="faint id">{row.id}</p>
        <StateBadge state={row.state} isStopping={!row.wanted && !isTerminal(row.state)} />
        {!possibleActions(row).includes(action) && (
          <Notice kind="warning" text="Its state has changed in the meantime. Arroyo may refuse this." />
        )}
        {meaning(action, row) && <p>{meaning(action, row)}</p>}
        {action === "stop" && <StopModes mode={mode} onChange={setMode} />}
        {action === "restart" && row.state !== "Failed" && (
          <label class="check">
            <input
              type="checkbox"
              checked={force}
              onChange={(event) => setForce(event.currentTarget.checked)}
            />
            Skip the checkpoint, for a pipeline that hangs. Rows since the last checkpoint are processed again.
          </label>
        )}
        {action === "rescale" && (
          <label class="field">
            <span>Parallelism (now {row.parallelism ?? "unknown"})</span>
            <input
              type="number"
              min={1}
              max={10_000}
              step={1}
              required
              value={parallelism}
              aria-invalid={isWrong}
              onInput={(event) => setParallelism(event.currentTarget.value)}
            />
          </label>
        )}
        {row.owner && (
          <p class="faint">
            {row.owner.deployment
              ? `It is a deployment, created by task ${row.owner.task} of DAG ${row.owner.dag}. Another DAG may deploy it now.`
              : `It belongs to task ${row.owner.task} of DAG ${row.owner.dag}.`}{" "}
            A task that is waiting for it will notice.
          </p>
        )}
        {problem && <Notice kind="error" text={problem} />}
        <div class="buttons">
          <button type="button" disabled={isSending} onClick={close}>
            {isUnknown ? "Close" : "Cancel"}
          </button>
          {!isUnknown && (
            <button type="submit" class={action === "delete" ? "primary danger" : "primary"} disabled={isWrong || isSending}>
              {isSending ? "Waiting for Arroyo…" : ACTIONS[action].button}
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}

function StopModes({ mode, onChange }: { mode: StopMode; onChange: (mode: StopMode) => void }) {
  return (
    <fieldset class="modes">
      <legend>How to stop it</legend>
      {STOP_MODES.map((one) => (
        <label key={one.mode} class="mode">
          <input
            type="radio"
            name="mode"
            value={one.mode}
            checked={mode === one.mode}
            onChange={() => onChange(one.mode)}
          />
          <span>
            <strong>{one.word}</strong>
            <span class="second">{one.meaning}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
