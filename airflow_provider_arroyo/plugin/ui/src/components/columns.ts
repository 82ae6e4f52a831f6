/* The columns of the table, and how each is sorted. */

import { createColumnHelper, createSortedRowModel, rowSortingFeature, tableFeatures } from "@tanstack/preact-table";

import { taskName } from "../host";
import { rank } from "../states";
import type { Row } from "../types";

export const FEATURES = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel() });

const helper = createColumnHelper<typeof FEATURES, Row>();
const text = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function by(compare: (a: Row, b: Row) => number) {
  return (a: { original: Row }, b: { original: Row }): number =>
    compare(a.original, b.original) || byName(a.original, b.original);
}

function byName(a: Row, b: Row): number {
  return text.compare(a.name, b.name) || text.compare(a.id, b.id);
}

export function ownerText(row: Row): string {
  const { owner } = row;
  if (!owner) return "";
  const { deployment } = owner;
  return deployment ? `${deployment.group} / ${deployment.name}` : taskName(owner.dag, owner.task, owner.map_index);
}

/* Only values of every row can be sorted by: details are known only for the rows in view. */
export const COLUMNS = helper.columns([
  helper.accessor("state", { header: "State", sortFn: by((a, b) => rank(a.state) - rank(b.state)) }),
  helper.accessor("name", { header: "Pipeline", sortFn: by(byName) }),
  helper.accessor("since", {
    header: "In state",
    // The shortest time first.
    sortFn: by((a, b) => (b.since ?? 0) - (a.since ?? 0)),
    sortDescFirst: false,
  }),
  helper.accessor("restarts", { header: "Restarts", sortFn: by((a, b) => a.restarts - b.restarts), sortDescFirst: true }),
  helper.display({ id: "checkpoint", header: "Checkpoint" }),
  helper.display({ id: "rates", header: "Rows/s in → out" }),
  helper.display({ id: "backpressure", header: "Backpressure" }),
  helper.accessor("owner", {
    header: "Owner",
    sortFn: by((a, b) => text.compare(ownerText(a), ownerText(b))),
    sortDescFirst: false,
  }),
  helper.display({ id: "failure", header: "Reason" }),
  helper.display({ id: "actions", header: "Actions" }),
]);
