/* Search, owner, orphans, and how many rows are left. */

import { memo } from "preact/compat";
import { useMemo } from "preact/hooks";

import type { Row } from "../types";
import type { View } from "../view";
import { ownerKey } from "../view";
import { Notice } from "./Notice";

interface Props {
  rows: Row[];
  /** How many of them are shown; null before Arroyo has responded. */
  shown: number | null;
  view: View;
  /** Why the orphans could not be found; empty if they could. */
  problem: string;
  onChange: (part: Partial<View>) => void;
}

export const Toolbar = memo(function Toolbar({ rows, shown, view, problem, onChange }: Props) {
  const owners = useMemo(() => [...new Set(rows.map(ownerKey))].sort(), [rows]);
  const choices = view.owner && !owners.includes(view.owner) ? [view.owner, ...owners] : owners;
  const isFiltered = view.states.length > 0 || view.owner !== "" || view.text !== "" || view.orphans;
  return (
    <>
      <div class="toolbar" role="search">
        <input
          type="search"
          class="search"
          placeholder="Search by name, owner, ID or reason"
          aria-label="Search pipelines"
          value={view.text}
          onInput={(event) => onChange({ text: event.currentTarget.value })}
        />
        <select
          aria-label="Filter by owner"
          value={view.owner}
          onChange={(event) => onChange({ owner: event.currentTarget.value })}
        >
          <option value="">All owners</option>
          {choices.map((owner) => (
            <option key={owner} value={owner}>
              {ownerLabel(owner)}
            </option>
          ))}
        </select>
        <label class="check" title="Pipelines whose DAG, run or task no longer exists in Airflow">
          <input
            type="checkbox"
            checked={view.orphans}
            onChange={(event) => onChange({ orphans: event.currentTarget.checked })}
          />
          Orphans only
        </label>
        {isFiltered && (
          <button
            type="button"
            class="plain"
            onClick={() => onChange({ states: [], owner: "", text: "", orphans: false })}
          >
            Clear filters
          </button>
        )}
        <span class="count" role="status">
          {shown !== null && countText(shown, rows.length)}
        </span>
      </div>
      {problem && <Notice kind="warning" text={problem} />}
      {view.orphans && (
        <Notice
          kind="info"
          text={
            "Orphans belong to a DAG, run or task that no longer exists in this Airflow, so nothing here will stop " +
            "them. A deployment whose DAG was renamed, or a pipeline that another Airflow created, can look the " +
            "same: check before you delete it."
          }
        />
      )}
    </>
  );
});

export function countText(shown: number, all: number): string {
  return `${shown === all ? "" : `${shown} of `}${all} ${all === 1 ? "pipeline" : "pipelines"}`;
}

function ownerLabel(key: string): string {
  if (key === "none") return "No owner in Airflow";
  const name = key.slice(key.indexOf(":") + 1);
  return key.startsWith("group:") ? `Deployment group ${name}` : `DAG ${name}`;
}
