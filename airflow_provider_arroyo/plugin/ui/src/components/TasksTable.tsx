/* The task instances that touched a pipeline. */

import { duration, moment, orDash } from "../format";
import { taskName, taskUrl } from "../host";
import { colorOf } from "../states";
import type { PipelineTasks } from "../types";
import { DataTable } from "./Chart";
import { Link } from "./Link";

const VIA = { owner: "created it", xcom: "has its ID in an XCom" };
const TOKENS = new Set(
  "success failed running deferred queued scheduled up_for_retry up_for_reschedule skipped restarting removed".split(" "),
);

export function TasksTable({ found, problem, now }: { found: PipelineTasks | null; problem: string; now: number }) {
  return (
    <section class="card" aria-label="Task instances">
      <h2>Task instances</h2>
      {problem && <p class="warn">{problem}</p>}
      {found ? <Tasks found={found} now={now} /> : !problem && <p class="faint">Loading…</p>}
    </section>
  );
}

function Tasks({ found, now }: { found: PipelineTasks; now: number }) {
  return (
    <>
      <DataTable
        name="Task instances, scrollable"
        head={["Task", "State", "Run", "Started", "Duration", "Operator", "Relation"]}
        empty="No task instance that you may see has worked with this pipeline."
        rows={found.tasks.map((task) => [
          <Link key="task" to={taskUrl(task.dag_id, task.run_id, task.task_id, task.map_index)}>
            {taskName(task.dag_id, task.task_id, task.map_index)}
          </Link>,
          <TaskState key="state" state={task.state} />,
          task.run_id,
          orDash(task.start, moment),
          task.start === null ? "–" : duration((task.end ?? now) - task.start),
          task.operator ?? "–",
          VIA[task.via],
        ])}
      />
      {found.more && <p class="faint">There are more; these are the newest.</p>}
    </>
  );
}

/** The state of a task instance, in Airflow's own color. */
function TaskState({ state }: { state: string | null }) {
  const token = state !== null && TOKENS.has(state) ? state : "none";
  return (
    <span class="badge" style={colorOf(token)}>
      <span class="mark" aria-hidden="true" />
      <span class="word">{state ?? "no state"}</span>
    </span>
  );
}
