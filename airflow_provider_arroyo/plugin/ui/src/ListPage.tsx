/* The page "Arroyo": the pipelines of one connection. */

import { useMemo, useState } from "preact/hooks";

import { useActions } from "./actions";
import { fetchConnections } from "./api";
import { ActionDialog } from "./components/ActionDialog";
import { Freshness } from "./components/Freshness";
import { Notice } from "./components/Notice";
import { PipelineTable } from "./components/PipelineTable";
import { ReasonDialog } from "./components/ReasonDialog";
import { Toolbar } from "./components/Toolbar";
import { Totals } from "./components/Totals";
import { useFeed } from "./feed";
import { pipelineOf } from "./host";
import { useAddressView, useFocus, useNow, useOrphans, useTitle } from "./hooks";
import { usePolled } from "./polled";
import type { ActionName, Row, Status } from "./types";
import { filterRows, formatView, parseView } from "./view";
import type { View } from "./view";

interface Props {
  /** The pipeline whose page was left for the list; null if the list was opened directly. */
  left: string | null;
}

export function ListPage({ left }: Props) {
  const [view, change] = useAddressView((pathname) => pipelineOf(pathname) === null, parseView, formatView);
  const { value: connections, problem } = usePolled("", null, fetchConnections);
  const heading = useFocus(left !== null);
  useTitle("Arroyo");
  const connection = view.connection || (connections?.length === 1 ? (connections[0] ?? "") : "");
  return (
    <main class="page" aria-label="Arroyo pipelines">
      <header class="head">
        <h1 ref={heading} tabIndex={-1}>
          Arroyo
        </h1>
        <ConnectionChooser
          connections={connections ?? []}
          chosen={connection}
          onChoose={(name) => change({ connection: name })}
        />
      </header>
      {problem && <Notice kind="error" text={problem} />}
      {connection ? (
        <Pipelines key={connection} connection={connection} view={view} left={left} onChange={change} />
      ) : (
        connections !== null && <NoConnection some={connections.length > 0} />
      )}
    </main>
  );
}

function ConnectionChooser(props: { connections: string[]; chosen: string; onChoose: (name: string) => void }) {
  const { chosen } = props;
  const names = chosen && !props.connections.includes(chosen) ? [chosen, ...props.connections] : props.connections;
  if (names.length === 0) return null;
  return (
    <label class="chooser">
      <span>Connection</span>
      <select
        value={chosen}
        onChange={(event) => props.onChoose(event.currentTarget.value)}
      >
        {!chosen && <option value="">Choose…</option>}
        {names.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function NoConnection({ some }: { some: boolean }) {
  return some ? (
    <Notice kind="info" text="Choose a connection to see its pipelines." />
  ) : (
    <Notice
      kind="info"
      text={
        "There is no Airflow connection of type Arroyo that you may read. Someone with the right to edit " +
        "connections can create one under Admin, Connections. To open one from a secrets backend, add " +
        "?connection=its_id to the address."
      }
    />
  );
}

function Pipelines(props: {
  connection: string;
  view: View;
  left: string | null;
  onChange: (part: Partial<View>) => void;
}) {
  const { connection, view, onChange } = props;
  const { state, problem, soon, show } = useFeed(connection);
  const { pending, begin } = useActions(connection, soon);
  const orphans = useOrphans(connection, view.orphans && state.rows.size > 0);
  const now = useNow() + state.skew;
  const [chosen, setChosen] = useState<{ row: Row; action: ActionName } | null>(null);
  const [explained, setExplained] = useState<Row | null>(null);
  const all = useMemo(() => [...state.rows.values()], [state.rows]);
  const rows = useMemo(() => filterRows(all, view, orphans.missing), [all, view, orphans.missing]);
  const mayAct = state.status?.may_act ?? false;
  return (
    <>
      <Freshness status={state.status} problem={problem} began={state.began} now={now} />
      {state.limit !== null && <Notice kind="info" text={`Only ${state.limit} pipelines are listed. This Arroyo may have more.`} />}
      <Totals totals={state.totals} view={view} onChange={onChange} />
      <Toolbar rows={all} shown={state.status?.seen_at == null ? null : rows.length} view={view} problem={orphans.problem} onChange={onChange} />
      <PipelineTable
        connection={connection}
        rows={rows}
        state={state}
        pending={pending}
        now={now}
        view={view}
        missing={orphans.missing}
        left={props.left}
        emptyText={emptyText(state.status, all.length)}
        onSort={(sort, descending) => onChange({ sort, descending })}
        onShow={show}
        onAct={
          mayAct
            ? (row, action) => setChosen({ row, action })
            : undefined
        }
        onExplain={setExplained}
      />
      {chosen && (
        <ActionDialog
          connection={connection}
          row={state.rows.get(chosen.row.id) ?? chosen.row}
          action={chosen.action}
          onDone={begin}
          onClose={() => setChosen(null)}
        />
      )}
      {explained && (
        <ReasonDialog
          row={explained}
          details={state.details.get(explained.id)}
          onClose={() => setExplained(null)}
        />
      )}
    </>
  );
}

export function emptyText(status: Status | null, count: number): string {
  // Before Arroyo has responded, nothing is known, and the notice says what is missing.
  if (status?.seen_at == null) return status?.error == null ? "Waiting for Arroyo…" : "No data yet.";
  return count ? "No pipeline matches these filters." : "There are no pipelines on this Arroyo.";
}
