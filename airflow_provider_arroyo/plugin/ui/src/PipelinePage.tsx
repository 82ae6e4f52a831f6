/* A pipeline's own page: its definition, its current state, and its history. */

import { useMemo, useState } from "preact/hooks";

import { useActions } from "./actions";
import { fetchPipelineTasks } from "./api";
import { ActionDialog } from "./components/ActionDialog";
import { CheckpointsChart } from "./components/CheckpointsChart";
import { Errors } from "./components/Errors";
import { Freshness } from "./components/Freshness";
import { GraphChart } from "./components/GraphChart";
import { Link } from "./components/Link";
import { Notice } from "./components/Notice";
import { Boundary } from "./components/Boundary";
import { PipelineHead, PipelineNow } from "./components/PipelineHead";
import { RatesChart } from "./components/RatesChart";
import { StatesChart } from "./components/StatesChart";
import { TasksTable } from "./components/TasksTable";
import { Definition } from "./components/Definition";
import { useAddressView, useNow } from "./hooks";
import { pageUrl, pipelineOf } from "./host";
import { arroyoLane, taskLanes } from "./lanes";
import { unreadText, useDefinition, useLive } from "./live";
import { usePolled } from "./polled";
import { isTerminal } from "./states";
import type { ActionName, Row } from "./types";
import { formatPageView, listSearch, parsePageView } from "./view";
import type { PageView } from "./view";

const TASKS_MS = 10_000;

interface Props {
  pipeline: string;
  /** Whether it replaces another of our pages, and so takes the focus. */
  isArrival: boolean;
}

export function PipelinePage({ pipeline, isArrival }: Props) {
  const isOurs = (pathname: string) => pipelineOf(pathname) === pipeline;
  const [view, change] = useAddressView(isOurs, parsePageView, formatPageView);
  return (
    <main class="page" aria-label="Arroyo pipeline">
      <nav class="head" aria-label="Back">
        <Link to={pageUrl(listSearch(location.search))}>← All pipelines</Link>
        {view.connection && <span class="faint">Connection {view.connection}</span>}
      </nav>
      {view.connection ? (
        <Content key={view.connection} pipeline={pipeline} view={view} isArrival={isArrival} onChange={change} />
      ) : (
        <>
          <PipelineHead id={pipeline} name="" row={null} now={0} pending={null} isFocused={isArrival} onAct={undefined} />
          <Notice
            kind="info"
            text="This address does not name a connection. Choose a connection in the list, then the pipeline."
          />
        </>
      )}
    </main>
  );
}

function Content(props: Props & { view: PageView; onChange: (part: Partial<PageView>) => void }) {
  const { pipeline, view, isArrival, onChange } = props;
  const { connection } = view;
  const { state, problem, soon } = useLive(connection, pipeline);
  const { pending, begin } = useActions(connection, soon);
  const { live, row, goneAt } = state;
  const { value: definition, problem: definitionProblem } = useDefinition(connection, pipeline, row);
  const tasks = usePolled(pipeline, TASKS_MS, live ? (signal) => fetchPipelineTasks(connection, pipeline, signal) : null);
  const now = useNow() + state.skew;
  const [chosen, setChosen] = useState<ActionName | null>(null);
  const lanes = useMemo(
    () => [arroyoLane(live?.changes ?? [], goneAt), ...taskLanes(tasks.value?.tasks ?? [])],
    [live?.changes, goneAt, tasks.value],
  );
  const hasTasks = (tasks.value?.tasks.length ?? 0) > 0;
  const isGone = goneAt !== null;
  const isEnded = isGone || isTerminal(row?.state ?? null);
  const asTable = (name: string) => ({
    isTable: view.tables.includes(name),
    onTable: (isTable: boolean) => {
      onChange({ tables: isTable ? [...view.tables, name] : view.tables.filter((one) => one !== name) });
    },
  });
  return (
    <>
      <PipelineHead
        id={pipeline}
        name={row?.name ?? ""}
        row={isGone ? null : row}
        now={now}
        pending={pending.get(pipeline) ?? null}
        isFocused={isArrival && (live !== null || problem !== "")}
        onAct={live?.may_act ? setChosen : undefined}
      />
      <Freshness status={live} problem={problem} began={live?.began ?? null} now={now} />
      {!live && !problem && <p class="faint">Waiting for Arroyo…</p>}
      {live && isGone && <Notice kind="warning" text={goneText(live.sentence, row)} />}
      {live && (
        <PipelineNow id={pipeline} row={row} live={live} definition={definition} isGone={isGone} />
      )}
      {live && row && (
        <>
          <div class="charts">
            <Boundary name="The states">
              <StatesChart
                lanes={lanes}
                now={now}
                began={live.began}
                window={view.window}
                onWindow={(window) => onChange({ window })}
                {...asTable("states")}
              />
            </Boundary>
            {definition && (
              <Boundary name="The graph">
                <GraphChart graph={definition.graph} nodes={isEnded ? [] : live.nodes} {...asTable("graph")} />
              </Boundary>
            )}
            <Boundary name="The rates">
              <RatesChart rates={state.rates} isEnded={isEnded} unread={unreadText(live, "metrics")} {...asTable("rates")} />
            </Boundary>
            <Boundary name="The checkpoints">
              <CheckpointsChart
                checkpoints={live.checkpoints}
                now={now}
                unread={unreadText(live, "checkpoints")}
                {...asTable("checkpoints")}
              />
            </Boundary>
          </div>
          <Boundary name="The errors">
            <Errors errors={live.errors} unread={unreadText(live, "errors")} now={now} />
          </Boundary>
        </>
      )}
      {live && (row !== null || hasTasks) && (
        <Boundary name="The task instances">
          <TasksTable found={tasks.value} problem={tasks.problem} now={now} />
        </Boundary>
      )}
      {definitionProblem && <Notice kind="warning" text={`SQL and graph: ${definitionProblem}`} />}
      {definition && (
        <Boundary name="The SQL">
          <Definition definition={definition} search={listSearch(location.search)} />
        </Boundary>
      )}
      {chosen && row && (
        <ActionDialog
          connection={connection}
          row={row}
          action={chosen}
          onDone={begin}
          onClose={() => setChosen(null)}
        />
      )}
    </>
  );
}

function goneText(sentence: string, row: Row | null): string {
  return row ? `${sentence} This page shows what was last known about it.` : sentence;
}
