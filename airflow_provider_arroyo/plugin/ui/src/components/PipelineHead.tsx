/* Facts about a pipeline, its current state, and what is wrong with it. */

import { ACTIONS, possibleActions } from "../actions";
import type { PendingAction } from "../actions";
import { duration, moment } from "../format";
import { useFocus, useTitle } from "../hooks";
import { elsewhereText, taskName, taskUrl, webAddress } from "../host";
import { isTerminal } from "../states";
import type { ActionName, Owner, PipelineDefinition, PipelineLive, Row, Status } from "../types";
import { Fact } from "./Fact";
import { ConsoleLink, Link } from "./Link";
import { Notice } from "./Notice";
import { Progress } from "./Progress";
import { StateBadge } from "./StateBadge";

interface HeadProps {
  id: string;
  /** Null if it is unknown or was deleted. */
  row: Row | null;
  /** As last known. */
  name: string;
  now: number;
  pending: PendingAction | null;
  /** Whether the heading gets the focus. */
  isFocused: boolean;
  /** Undefined if the user may not act. */
  onAct: ((action: ActionName) => void) | undefined;
}

/** The heading, shown from the beginning, whatever is known. */
export function PipelineHead({ id, row, name, now, pending, isFocused, onAct }: HeadProps) {
  const title = name || id;
  const isStopping = row !== null && !row.wanted && !isTerminal(row.state);
  const heading = useFocus(isFocused);
  useTitle(`${title} - Arroyo`);
  return (
    <header class="page-head">
      <h1 ref={heading} tabIndex={-1} title={title}>
        {title}
      </h1>
      {row && <StateBadge state={row.state} isStopping={isStopping} />}
      {row?.since != null && (
        <span class="faint" title={moment(row.since)}>
          for {duration(now - row.since)}
        </span>
      )}
      {row && onAct && <Actions row={row} pending={pending} onAct={onAct} />}
    </header>
  );
}

interface Props {
  id: string;
  row: Row | null;
  live: PipelineLive;
  definition: PipelineDefinition | null;
  isGone: boolean;
}

/** The current state, the problem if there is one, and facts about the pipeline. */
export function PipelineNow({ id, row, live, definition, isGone }: Props) {
  // What was never read says so in its own place.
  const unread = Object.values(live.details?.unread ?? {}).filter(Boolean);
  const outdated = live.missing.filter((one) => !unread.some((reason) => one.endsWith(reason)));
  return (
    <>
      {live.sentence && !isGone && (row !== null || live.error === null) && <p class="sentence">{live.sentence}</p>}
      {live.diagnosis?.is_fault && <Diagnosis diagnosis={live.diagnosis} />}
      {row?.failure && !live.diagnosis && <Notice kind="error" text={row.failure.text} />}
      {outdated.length > 0 && <Notice kind="warning" text={`Could not be read: ${outdated.join(" ")}`} />}
      {row && <Facts id={id} row={row} definition={definition} status={live} />}
    </>
  );
}

function Facts(props: { id: string; row: Row; definition: PipelineDefinition | null; status: Status }) {
  const { id, row, definition, status } = props;
  const { owner, run, restarts } = row;
  return (
    <dl class="facts">
      <OwnerFacts owner={owner} namespace={status.namespace} />
      <Fact name="Parallelism">{row.parallelism ?? "?"}</Fact>
      <Fact name="Checkpoint interval">{row.interval === null ? "?" : duration(row.interval)}</Fact>
      <Fact name="Run">
        {run}
        {restarts > 0 && `, ${restarts} ${restarts === 1 ? "restart" : "restarts"} seen`}
      </Fact>
      {row.created > 0 && <Fact name="Created">{moment(row.created)}</Fact>}
      <Fact name="ID">{id}</Fact>
      {webAddress(status.console) && (
        <Fact name="Arroyo">
          <ConsoleLink base={status.console} id={id} text="Console" />
        </Fact>
      )}
      <Tags tags={definition?.tags ?? {}} />
    </dl>
  );
}

function Actions(props: { row: Row; pending: PendingAction | null; onAct: (action: ActionName) => void }) {
  const { row, pending } = props;
  return (
    <span class="actions">
      {pending && <Progress pending={pending} />}
      {possibleActions(row).map((action) => (
        <button
          key={action}
          type="button"
          class={action === "delete" ? "small danger" : "small"}
          disabled={pending !== null && !pending.outcome}
          onClick={() => props.onAct(action)}
        >
          {ACTIONS[action].menu}
        </button>
      ))}
    </span>
  );
}

/** The problem; if there is none, the sentence says so. */
export function Diagnosis({ diagnosis }: { diagnosis: NonNullable<PipelineLive["diagnosis"]> }) {
  const { summary, details, advice } = diagnosis;
  return (
    <div class="notice error" role="region" aria-label="What is wrong">
      <p class="strong">{summary}</p>
      {details.length > 0 && (
        <ul>
          {details.map((one, index) => (
            <li key={index}>{one}</li>
          ))}
        </ul>
      )}
      {advice && <p>{advice}</p>}
    </div>
  );
}

function OwnerFacts({ owner, namespace: ours }: { owner: Owner | null; namespace: string | null }) {
  if (!owner) return <Fact name="Owner">none in Airflow</Fact>;
  const { dag, task, run, map_index: index, deployment, namespace } = owner;
  return (
    <>
      {deployment && (
        <Fact name="Deployment">
          {deployment.group} / {deployment.name}, generation {deployment.generation}
        </Fact>
      )}
      <Fact name={deployment ? "Deployed by" : "Owner"}>
        {elsewhereText(owner, ours) === null ? (
          <Link to={taskUrl(dag, run, task, index)} title={run}>
            {taskName(dag, task, index)}
          </Link>
        ) : (
          <span title={run}>{taskName(dag, task, index)}</span>
        )}
      </Fact>
      {namespace && <Fact name="Namespace">{namespace}</Fact>}
    </>
  );
}

function Tags({ tags }: { tags: Record<string, string> }) {
  const all = Object.entries(tags);
  if (all.length === 0) return null;
  return (
    <Fact name="Tags" isWide>
      <span class="tags">
        {all.map(([name, value]) => (
          <code key={name}>
            {name}={value}
          </code>
        ))}
      </span>
    </Fact>
  );
}
