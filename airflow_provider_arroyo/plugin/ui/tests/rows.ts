import type { GraphNode, PipelineDefinition, PipelineLive, Row } from "../src/types";

/** Return a row; what a test does not care for is filled in. */
export function row(part: Partial<Row> = {}): Row {
  return {
    id: "pl_1",
    name: "orders",
    created: 0,
    owner: null,
    parallelism: 1,
    interval: 10,
    job: "job_1",
    state: "Running",
    wanted: true,
    run: 1,
    restarts: 0,
    since: 100,
    failure: null,
    ...part,
  };
}

/** Return what the page of a pipeline gets every two seconds. */
export function live(part: Partial<PipelineLive> = {}): PipelineLive {
  return {
    now: 1000,
    seen_at: 999,
    error: null,
    console: null,
    namespace: null,
    may_act: true,
    row: row(),
    details: null,
    changes: [[100, "Running", 1]],
    sentence: "It runs.",
    diagnosis: null,
    missing: [],
    began: 50,
    nodes: [],
    rates: null,
    checkpoints: [],
    errors: [],
    ...part,
  };
}

/** Return a pipeline with two nodes. */
export function definition(part: Partial<PipelineDefinition> = {}): PipelineDefinition {
  return {
    tags: {},
    label: null,
    sql: "SELECT 1",
    sql_truncated: false,
    udfs: [],
    graph: { nodes: [graphNode(0), graphNode(1)], edges: [{ from: 0, to: 1, type: "Forward" }], truncated: false },
    diff: null,
    missing: [],
    ...part,
  };
}

export function graphNode(id: number): GraphNode {
  return { id, operator: "chained_op", description: `node ${id}`, parallelism: 1 };
}
