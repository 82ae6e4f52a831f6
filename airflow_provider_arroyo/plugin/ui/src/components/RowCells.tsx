/* One row of the table. */

import { memo } from "preact/compat";

import type { PendingAction } from "../actions";
import { ago, duration, moment, percent } from "../format";
import { elsewhereText, pipelineUrl, taskUrl } from "../host";
import { isTerminal } from "../states";
import type { ActionName, Details, Orphan, Owner, Row } from "../types";
import { ActionMenu } from "./ActionMenu";
import { ownerText } from "./columns";
import { ConsoleLink, Link } from "./Link";
import { Pressure } from "./Pressure";
import { Progress } from "./Progress";
import { Rates, Unread } from "./Rates";
import { StateBadge } from "./StateBadge";

export interface RowProps {
  index: number;
  row: Row;
  details: Details | undefined;
  pending: PendingAction | undefined;
  missing: Orphan["missing"] | undefined;
  now: number;
  began: number | null;
  consoleUrl: string | null;
  namespace: string | null;
  /** The query of the list, kept by the pipeline's own page for the way back. */
  search: string;
  onAct: ((row: Row, action: ActionName) => void) | undefined;
  onExplain: (row: Row) => void;
}

export const RowCells = memo(function RowCells(props: RowProps) {
  const { row, details, pending, now } = props;
  const outcome = pending?.outcome;
  const isEnded = isTerminal(row.state);
  return (
    <tr aria-rowindex={props.index} data-id={row.id} class={outcome && !outcome.ok ? "row failed" : "row"}>
      <td class="c-state">
        <StateBadge state={row.state} isStopping={!row.wanted && !isEnded} />
        {pending && <Progress pending={pending} />}
        {!pending && !row.wanted && !isEnded && <span class="progress">stop requested</span>}
      </td>
      <td class="c-name">
        <Name row={row} consoleUrl={props.consoleUrl} search={props.search} />
      </td>
      <td class="c-since" data-label="In state">
        <Since row={row} now={now} began={props.began} />
      </td>
      <td class="c-restarts" data-label="Restarts">
        <span class={row.restarts ? "strong" : "faint"}>{row.restarts}</span>
        {row.run > 1 && <span class="second">run {row.run}</span>}
      </td>
      <td class="c-checkpoint" data-label="Checkpoint">
        <Checkpoint details={details} now={now} />
      </td>
      <td class="c-rates" data-label="Rows/s">
        {isEnded ? <span class="faint">–</span> : <Rates details={details} />}
        {!isEnded && details?.rates?.backpressure != null && (
          <span class="second pressure-below">backpressure {percent(details.rates.backpressure)}</span>
        )}
      </td>
      <td class="c-backpressure" data-label="Backpressure">
        {isEnded || details?.rates?.backpressure == null ? (
          <span class="faint">–</span>
        ) : (
          <Pressure share={details.rates.backpressure} />
        )}
      </td>
      <td class="c-owner" data-label="Owner">
        <OwnerLink row={row} missing={props.missing} namespace={props.namespace} />
      </td>
      <td class="c-failure">
        <Reason row={row} details={details} onExplain={props.onExplain} />
      </td>
      <td class="c-actions">
        {props.onAct && <ActionMenu row={row} isBusy={pending !== undefined && !outcome} onAct={props.onAct} />}
      </td>
    </tr>
  );
});

function Name({ row, consoleUrl, search }: { row: Row; consoleUrl: string | null; search: string }) {
  const name = row.name || row.id;
  return (
    <>
      <Link class="name" to={pipelineUrl(row.id, new URLSearchParams(search))} title={`${name}\n${row.id}`}>
        {name}
      </Link>
      <ConsoleLink class="console" base={consoleUrl} id={row.id} name={name} text="console" />
    </>
  );
}

function Since({ row, now, began }: { row: Row; now: number; began: number | null }) {
  if (row.state === null) return <span class="faint">…</span>;
  if (row.since !== null) return <span title={moment(row.since)}>{duration(now - row.since)}</span>;
  if (began === null) return null;
  return <span title={`Already in this state at ${moment(began)}, when this API server began to watch`}>&gt; {duration(now - began)}</span>;
}

function Checkpoint({ details, now }: { details: Details | undefined; now: number }) {
  if (!details) return <Unread reason="" />;
  const { checkpoint, unread } = details;
  if (!checkpoint) return unread.checkpoints === undefined ? <span class="faint">none</span> : <Unread reason={unread.checkpoints} />;
  const { at, seconds, epoch, under_way_since: since } = checkpoint;
  if (at === null) {
    return (
      <span class="warn">
        none yet{since !== null && <span class="second">first: {duration(now - since)} so far</span>}
      </span>
    );
  }
  const underWay = since !== null && now - since > 10 ? `\nAnother one has been in progress for ${duration(now - since)}` : "";
  return (
    <span title={`Epoch ${epoch ?? ""}, finished ${moment(at)}${underWay}`} class={underWay ? "warn" : ""}>
      {ago(now - at)}
      <span class="second">took {duration(seconds ?? 0)}</span>
    </span>
  );
}

const GONE: Record<Orphan["missing"], string> = { dag: "its DAG is gone", run: "its run is gone", task: "its task is gone" };

/** Return what is missing, in short and in full. A deployment belongs to whichever DAG deploys it now. */
function goneTexts({ dag, deployment }: Owner, missing: Orphan["missing"]): { short: string; full: string } {
  if (!deployment) return { short: GONE[missing], full: GONE[missing] };
  return { short: "first DAG is gone", full: `Created by DAG ${dag}, which is gone. Another DAG may deploy it now.` };
}

function OwnerLink(props: { row: Row; missing: Orphan["missing"] | undefined; namespace: string | null }) {
  const { row, missing } = props;
  const { owner } = row;
  if (!owner) return <span class="faint">none</span>;
  const text = ownerText(row);
  const elsewhere = elsewhereText(owner, props.namespace);
  const made = owner.deployment ? `generation ${owner.deployment.generation}, by ${owner.dag}` : owner.run;
  const gone = missing && goneTexts(owner, missing);
  const second = gone ? <span class="second warn">{gone.short}</span> : <span class="second">{elsewhere ?? made}</span>;
  if (missing === "dag" || elsewhere !== null) {
    return (
      <span title={[text, owner.run, gone?.full, elsewhere].filter(Boolean).join("\n")}>
        <span class="line">{text}</span>
        {second}
      </span>
    );
  }
  return (
    <Link to={taskUrl(owner.dag, owner.run, missing ? undefined : owner.task, owner.map_index)} title={`${text}\n${owner.run}`}>
      <span class="line">{text}</span>
      {second}
    </Link>
  );
}

function Reason(props: { row: Row; details: Details | undefined; onExplain: (row: Row) => void }) {
  const { row, details } = props;
  const text = row.failure?.text ?? details?.error?.message;
  if (!text) return null;
  return (
    <button
      type="button"
      class="reason"
      title={text}
      aria-label={`Reason for ${row.name || row.id}: ${text.slice(0, 200)}`}
      onClick={() => props.onExplain(row)}
    >
      {text}
    </button>
  );
}
