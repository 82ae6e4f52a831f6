/* The tab on a task instance: the current state of its pipeline, and the states that this task saw. */

import { fetchTask } from "./api";
import { CheckpointsChart } from "./components/CheckpointsChart";
import { GraphChart } from "./components/GraphChart";
import { Notice } from "./components/Notice";
import { Boundary } from "./components/Boundary";
import { PipelineCard } from "./components/PipelineCard";
import { RatesChart } from "./components/RatesChart";
import { Timeline } from "./components/Timeline";
import type { HostProps } from "./host";
import { useNow } from "./hooks";
import { unreadText, useDefinition, useLive } from "./live";
import type { LiveState } from "./live";
import { readTransitions } from "./lanes";
import { usePolled } from "./polled";
import { isTerminal } from "./states";
import type { TaskResponse } from "./types";

const SMALL_PX = 150;

const TASK_MS = 5000;

export function TaskTab({ host }: { host: HostProps }) {
  const { dagId = "", runId = "", taskId = "" } = host;
  const mapIndex = Number(host.mapIndex ?? -1);
  const asked = { dag: dagId, run: runId, task: taskId, mapIndex: Number.isInteger(mapIndex) ? mapIndex : -1 };
  const { value: task, problem } = usePolled(JSON.stringify(asked), TASK_MS, (signal) => fetchTask(asked, signal));
  return (
    <main class="page" aria-label="Arroyo pipeline of this task">
      {problem && <Notice kind={task ? "warning" : "error"} text={problem} />}
      {task ? (
        <Content key={JSON.stringify([task.connection_id, task.pipeline_id])} task={task} problem={problem} />
      ) : (
        !problem && <p class="faint">Loading…</p>
      )}
    </main>
  );
}

function Content({ task, problem }: { task: TaskResponse; problem: string }) {
  const { connection_id: connection, pipeline_id: pipeline, may_read: mayRead } = task;
  const { state, problem: liveProblem } = useLive(connection, mayRead ? pipeline : null);
  const { live, row } = state;
  const now = useNow() + state.skew;
  const transitions = readTransitions(task.transitions);
  if (pipeline === null && transitions.length === 0) return <Notice kind="info" text={nothingText(task.state)} />;
  return (
    <>
      {liveProblem && liveProblem !== problem && <Notice kind="warning" text={liveProblem} />}
      {!mayRead && (
        <Notice
          kind="info"
          text={`You may not read the Airflow connection ${connection}, so the pipeline's current state is not shown.`}
        />
      )}
      {pipeline !== null && <PipelineCard task={task} id={pipeline} live={live} now={now} />}
      <section class="card" aria-label="States this task saw">
        <h2>States this task saw</h2>
        {transitions.length ? (
          <Timeline transitions={transitions} />
        ) : (
          <p class="faint">
            {isOver(task.state) ? "It recorded none." : "No state changes yet. They appear here as the task sees them."}
          </p>
        )}
      </section>
      {live && row && pipeline !== null && (
        <Boundary name="The charts">
          <div class="charts in-tab">
            <RatesChart
              rates={state.rates}
              isEnded={isTerminal(row.state)}
              unread={unreadText(live, "metrics")}
              height={SMALL_PX}
            />
            <CheckpointsChart
              checkpoints={live.checkpoints}
              now={now}
              unread={unreadText(live, "checkpoints")}
              height={SMALL_PX}
            />
            <SmallGraph connection={connection} pipeline={pipeline} state={state} />
          </div>
        </Boundary>
      )}
    </>
  );
}

function SmallGraph(props: { connection: string; pipeline: string; state: LiveState }) {
  const { connection, pipeline, state } = props;
  const definition = useDefinition(connection, pipeline, state.row);
  const isEnded = state.goneAt !== null || isTerminal(state.row?.state ?? null);
  return definition.value && <GraphChart graph={definition.value.graph} nodes={isEnded ? [] : (state.live?.nodes ?? [])} />;
}

function isOver(state: string | null): boolean {
  return state === "success" || state === "failed" || state === "skipped" || state === "upstream_failed";
}

function nothingText(state: string | null): string {
  return isOver(state)
    ? "This task has no Arroyo pipeline."
    : "This task has no Arroyo pipeline yet. It appears here as soon as the task knows it.";
}
