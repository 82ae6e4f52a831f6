/* The responses of the API server's routes. */

export interface Owner {
  dag: string;
  task: string;
  run: string;
  map_index: number;
  namespace: string;
  deployment: { group: string; name: string; generation: number } | null;
}

export interface Row {
  id: string;
  name: string;
  created: number;
  owner: Owner | null;
  parallelism: number | null;
  interval: number | null;
  job: string | null;
  state: string | null;
  wanted: boolean;
  run: number;
  restarts: number;
  since: number | null;
  failure: { text: string; domain: string | null } | null;
}

export type Part = "metrics" | "checkpoints" | "errors";

export interface Details {
  checkpoint: {
    epoch: number | null;
    at: number | null;
    seconds: number | null;
    under_way_since: number | null;
  } | null;
  rates: {
    in: number | null;
    out: number | null;
    series: number[];
    backpressure: number | null;
  } | null;
  error: { at: number; operator: string; message: string; details: string; domain: string | null } | null;
  /** The parts that were never read, with the reason; empty if they are still to come. */
  unread: Partial<Record<Part, string>>;
}

/** How fresh the data is, and what the user may do with it. */
export interface Status {
  now: number;
  seen_at: number | null;
  error: string | null;
  console: string | null;
  /** This Airflow's: owners in another one are of another Airflow. Null if it is not known yet. */
  namespace: string | null;
  may_act: boolean;
}

export interface PipelinesResponse extends Status {
  epoch: string;
  version: number;
  complete: boolean;
  rows: Row[];
  gone: string[];
  details: Record<string, Details>;
  totals: Record<string, number>;
  /** How many pipelines are read at most, if that many are; null if all are read. */
  limit: number | null;
  began: number;
}

/** GET api/pipeline/live: requested every two seconds while a page shows the pipeline. Missing values are null
 *  or empty, and `missing` says why. */
export interface PipelineLive extends Status {
  row: Row | null;
  /** As in the list. */
  details: Details | null;
  /** When, state, run. */
  changes: [number, string, number][];
  /** The current state in one sentence; if `row` is null, the reason. If `seen_at` is null, nothing is known yet. */
  sentence: string;
  /** Null if too little could be read. `is_fault`: someone should act. */
  diagnosis: { kind: string; summary: string; details: string[]; advice: string; is_fault: boolean } | null;
  /** A sentence for each part that could not be read: "Checkpoints: Arroyo responded 500 …". */
  missing: string[];
  /** Since when this API server has been watching. */
  began: number;
  /** Current rows per second and backpressure (0 to 1) of each node; empty while nothing runs. In any order. */
  nodes: { id: number; in: number | null; out: number | null; backpressure: number | null }[];
  /** What Arroyo holds, some five minutes: a point about every two seconds, oldest first, null for a hole. The moments
   *  of points stay the same from response to response. The page keeps what it has had. */
  rates: {
    at: number[];
    in: (number | null)[];
    out: (number | null)[];
    backpressure: (number | null)[];
  } | null;
  /** Oldest first, the newest 60 at most. `type`: "scheduled", "stopping", null on 0.15. `bytes` come one by one. */
  checkpoints: { epoch: number; type: string | null; began: number; finished: number | null; bytes: number | null }[];
  /** Newest first, 20 at most. */
  errors: {
    at: number;
    operator: string;
    message: string;
    details: string;
    domain: string | null;
    task: number | null;
  }[];
}

/** GET api/pipeline/definition: asked once, and again when the row's created, job, parallelism or interval changes.
 *  404 where there is no such pipeline, 502 where Arroyo does not respond, each with a detail. */
export interface PipelineDefinition {
  /** The user's own. */
  tags: Record<string, string>;
  /** The ownership label, which is not part of the SQL and tags shown; null if there is none. */
  label: Record<string, string> | null;
  /** Without the label; secrets are ***. */
  sql: string;
  /** Whether the SQL is longer than what is shown. */
  sql_truncated: boolean;
  udfs: { name: string; language: string; definition: string }[];
  /** May have cycles, edges to missing nodes, or no nodes at all. At most 1,000 nodes and 5,000 edges. */
  graph: {
    nodes: { id: number; operator: string; description: string; parallelism: number }[];
    edges: { from: number; to: number; type: string }[];
    truncated: boolean;
  };
  /** To the other generation that is kept, in unified format ("@@ … @@", lines begin with "-", "+" or a blank); empty
   *  where SQL and UDFs are the same. */
  diff: { from_generation: number; to_generation: number; other_id: string; text: string } | null;
  /** A sentence for each missing part, such as the diff. */
  missing: string[];
}

export type Graph = PipelineDefinition["graph"];
export type GraphNode = Graph["nodes"][number];

/** GET api/pipeline/tasks: the task instances that touched it, newest first; asked every ten seconds at most. Only
 *  those of DAGs whose task instances and XComs the user may read. */
export interface PipelineTasks {
  tasks: {
    dag_id: string;
    run_id: string;
    task_id: string;
    map_index: number;
    operator: string | null;
    state: string | null;
    start: number | null;
    end: number | null;
    via: "owner" | "xcom";
    /** As in TaskResponse. */
    transitions: unknown[];
  }[];
  more: boolean;
}

export interface TaskResponse {
  connection_id: string;
  pipeline_id: string | null;
  pipeline_name: string | null;
  transitions: unknown[];
  state: string | null;
  may_read: boolean;
}

export type ActionName = "stop" | "resume" | "restart" | "rescale" | "delete";
export type StopMode = "checkpoint" | "graceful" | "immediate" | "force";

export interface ActionOptions {
  mode?: StopMode;
  parallelism?: number;
  force?: boolean;
}

/** The outcome of an action, or what to send back to learn it, which only the server reads; the other one is null. */
export interface Acted {
  outcome: { ok: boolean; text: string } | null;
  follow: unknown;
  /** Why Arroyo's response to the request is unknown; null if Arroyo accepted it. */
  lost?: string | null;
}

export interface Orphan {
  id: string;
  missing: "dag" | "run" | "task";
}
