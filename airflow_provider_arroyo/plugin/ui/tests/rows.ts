import type { Row } from "../src/types";

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
    tasks: 2,
    restarts: 0,
    since: 100,
    failure: null,
    ...part,
  };
}
