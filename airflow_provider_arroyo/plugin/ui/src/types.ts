/* What the routes of the API server return. */

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
  tasks: number | null;
  restarts: number;
  since: number | null;
  failure: { text: string; domain: string | null } | null;
}

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
    at: number | null;
    backpressure: number | null;
  } | null;
  error: { at: number; operator: string; message: string; details: string; domain: string | null } | null;
}

/** How fresh the data is, and what the user may do with it. */
export interface Status {
  now: number;
  seen_at: number | null;
  error: string | null;
  console: string | null;
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
  jobs: number;
  began: number;
}

export interface PipelineResponse extends Status {
  row: Row | null;
  details: Details | null;
  changes: [number, string, number][];
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

export interface Orphan {
  id: string;
  missing: "dag" | "run" | "task";
}
