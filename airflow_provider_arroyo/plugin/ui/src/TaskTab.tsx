/* The tab on a task instance: its pipeline as it is now, and the states that this task saw. */

import { useEffect, useState } from "preact/hooks";

import { fetchPipeline, fetchTask } from "./api";
import { Notice } from "./components/Notice";
import { PipelineCard } from "./components/PipelineCard";
import { Timeline } from "./components/Timeline";
import type { HostProps } from "./host";
import { useNow } from "./hooks";
import { readTransitions } from "./transitions";
import type { PipelineResponse, TaskResponse } from "./types";

const PIPELINE_MS = 2000;
const TASK_MS = 5000;

interface Polled<T> {
  value: T | null;
  problem: string;
}

/** Ask again and again while the page is visible; keep the last answer when one fails. */
function usePolled<T>(key: string, ms: number, ask: ((signal: AbortSignal) => Promise<T>) | null): Polled<T> {
  const [polled, setPolled] = useState<Polled<T>>({ value: null, problem: "" });
  useEffect(() => {
    setPolled({ value: null, problem: "" });
    if (!ask) return undefined;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const poll = async () => {
      if (document.visibilityState === "visible") {
        try {
          const value = await ask(abort.signal);
          setPolled({ value, problem: "" });
        } catch (error) {
          const problem = error instanceof Error ? error.message : String(error);
          if (!abort.signal.aborted) setPolled((last) => ({ ...last, problem }));
        }
      }
      if (!abort.signal.aborted) timer = setTimeout(() => void poll(), ms);
    };
    void poll();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, ms]);
  return polled;
}

export function TaskTab({ host }: { host: HostProps }) {
  const { dagId = "", runId = "", taskId = "" } = host;
  const mapIndex = Number(host.mapIndex ?? -1);
  const task = { dag: dagId, run: runId, task: taskId, mapIndex: Number.isInteger(mapIndex) ? mapIndex : -1 };
  const asked = usePolled(JSON.stringify(task), TASK_MS, (signal) => fetchTask(task, signal));
  if (asked.value === null) {
    return (
      <main class="page" aria-label="Arroyo pipeline of this task">
        {asked.problem ? <Notice kind="error" text={asked.problem} /> : <p class="faint">Asking Airflow …</p>}
      </main>
    );
  }
  return <Found task={asked.value} problem={asked.problem} />;
}

function Found({ task, problem }: { task: TaskResponse; problem: string }) {
  const { connection_id: connection, pipeline_id: pipeline, may_read: mayRead } = task;
  const isAskable = pipeline !== null && mayRead;
  const live = usePolled<PipelineResponse>(
    JSON.stringify([connection, isAskable ? pipeline : null]),
    PIPELINE_MS,
    isAskable ? (signal) => fetchPipeline(connection, pipeline, signal) : null,
  );
  const now = useNow();
  const transitions = readTransitions(task.transitions);
  if (pipeline === null && transitions.length === 0) {
    return (
      <main class="page" aria-label="Arroyo pipeline of this task">
        {problem && <Notice kind="warning" text={problem} />}
        <Notice kind="info" text={nothingText(task.state)} />
      </main>
    );
  }
  return (
    <main class="page" aria-label="Arroyo pipeline of this task">
      {problem && <Notice kind="warning" text={problem} />}
      {live.problem && <Notice kind="warning" text={live.problem} />}
      {!mayRead && (
        <Notice
          kind="info"
          text={`The connection ${connection} is not yours to read, so the pipeline is not shown as it is now.`}
        />
      )}
      <PipelineCard task={task} live={live.value} now={now} />
      <section class="card" aria-label="States that this task saw">
        <h2>What this task saw</h2>
        {transitions.length ? (
          <Timeline transitions={transitions} />
        ) : (
          <p class="faint">No change of state yet. They are listed here as the task sees them.</p>
        )}
      </section>
    </main>
  );
}

function nothingText(state: string | null): string {
  const isOver = state === "success" || state === "failed" || state === "skipped" || state === "upstream_failed";
  return isOver
    ? "This task has no Arroyo pipeline."
    : "This task has no Arroyo pipeline yet. Once it knows one, it is shown here.";
}
