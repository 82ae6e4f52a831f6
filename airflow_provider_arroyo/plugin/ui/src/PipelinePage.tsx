/* A pipeline's own page: what it is, what it does now, since when, and what changed. */

import { useEffect, useMemo, useState } from "preact/hooks";

import { fetchPipelineTasks } from "./api";
import { ActionDialog } from "./components/ActionDialog";
import { CheckpointsDrawing } from "./components/CheckpointsDrawing";
import { Errors } from "./components/Errors";
import { Freshness } from "./components/Freshness";
import { GraphDrawing } from "./components/GraphDrawing";
import { Notice } from "./components/Notice";
import { Part } from "./components/Part";
import { PipelineHead } from "./components/PipelineHead";
import { RatesDrawing } from "./components/RatesDrawing";
import { StatesDrawing } from "./components/StatesDrawing";
import { TasksTable } from "./components/TasksTable";
import { Texts } from "./components/Texts";
import { useNow } from "./hooks";
import { onAddressChange, onNavigate, pageUrl, pipelineOf, replaceSearch } from "./host";
import { arroyoLane, taskLanes } from "./lanes";
import { useDefinition, useLive } from "./live";
import { formatPageView, listSearch, parsePageView } from "./pageView";
import type { PageView } from "./pageView";
import { usePolled } from "./polled";
import { isTerminal } from "./states";
import type { ActionName, Row } from "./types";

const TASKS_MS = 10_000;

export function PipelinePage({ pipeline }: { pipeline: string }) {
  const [view, setView] = useState(() => parsePageView(location.search));
  useEffect(
    () =>
      onAddressChange(() => {
        if (pipelineOf(location.pathname) === pipeline) setView(parsePageView(location.search));
      }),
    [],
  );
  const change = (part: Partial<PageView>) => {
    const next = { ...view, ...part };
    setView(next);
    replaceSearch(formatPageView(next, location.search));
  };
  const list = pageUrl(listSearch(location.search));
  return (
    <main class="page" aria-label="Arroyo pipeline">
      <nav class="head" aria-label="Back">
        <a href={list} onClick={onNavigate(list)}>
          ← All pipelines
        </a>
        {view.connection && <span class="faint">Connection {view.connection}</span>}
      </nav>
      {view.connection ? (
        <Found key={view.connection} pipeline={pipeline} view={view} onChange={change} />
      ) : (
        <Notice
          kind="info"
          text="This address does not name a connection. Choose one in the list, and the pipeline there."
        />
      )}
    </main>
  );
}

function Found(props: { pipeline: string; view: PageView; onChange: (part: Partial<PageView>) => void }) {
  const { pipeline, view, onChange } = props;
  const { connection } = view;
  const { state, problem, begin } = useLive(connection, pipeline);
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
      <Freshness status={live} problem={problem} began={live?.began ?? null} now={now} />
      {!live && !problem && <p class="faint">Asking Arroyo …</p>}
      {live && isGone && <Notice kind="warning" text={goneText(live.sentence, row)} />}
      {live && (
        <PipelineHead
          id={pipeline}
          row={row}
          live={live}
          definition={definition}
          isGone={isGone}
          now={now}
          pending={state.pending}
          onAct={setChosen}
        />
      )}
      {live && row && (
        <>
          <div class="drawings">
            <Part name="The states">
              <StatesDrawing
                lanes={lanes}
                now={now}
                began={live.began}
                window={view.window}
                onWindow={(window) => {
                  onChange({ window });
                }}
                {...asTable("states")}
              />
            </Part>
            {definition && (
              <Part name="The graph">
                <GraphDrawing graph={definition.graph} nodes={isEnded ? [] : live.nodes} {...asTable("graph")} />
              </Part>
            )}
            <Part name="The rates">
              <RatesDrawing rates={state.rates} isEnded={isEnded} {...asTable("rates")} />
            </Part>
            <Part name="The checkpoints">
              <CheckpointsDrawing checkpoints={live.checkpoints} now={now} {...asTable("checkpoints")} />
            </Part>
          </div>
          <Part name="The errors">
            <Errors errors={live.errors} now={now} />
          </Part>
        </>
      )}
      {live && (row !== null || hasTasks) && (
        <Part name="What touched it in Airflow">
          <TasksTable found={tasks.value} problem={tasks.problem} now={now} />
        </Part>
      )}
      {definitionProblem && <Notice kind="warning" text={`Its SQL and graph: ${definitionProblem}`} />}
      {definition && (
        <Part name="Its SQL">
          <Texts definition={definition} search={listSearch(location.search)} />
        </Part>
      )}
      {chosen && row && (
        <ActionDialog
          connection={connection}
          chosen={{ row, action: chosen }}
          onDone={(pending) => {
            begin(pending);
            setChosen(null);
          }}
          onClose={() => {
            setChosen(null);
          }}
        />
      )}
    </>
  );
}

function goneText(sentence: string, row: Row | null): string {
  return row ? `${sentence} What is shown is the last that was known of it.` : sentence;
}
