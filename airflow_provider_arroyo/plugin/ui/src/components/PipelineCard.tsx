/* One pipeline in its current state, as in the list. */

import { ago, duration, moment, percent } from "../format";
import { pipelineUrl, webAddress } from "../host";
import { isTerminal } from "../states";
import type { PipelineLive, TaskResponse } from "../types";
import { Fact } from "./Fact";
import { ConsoleLink, Link } from "./Link";
import { Diagnosis } from "./PipelineHead";
import { Rates } from "./Rates";
import { StateBadge } from "./StateBadge";

interface Props {
  task: TaskResponse;
  id: string;
  live: PipelineLive | null;
  now: number;
}

export function PipelineCard({ task, id, live, now }: Props) {
  const { row = null, details = null } = live ?? {};
  const isEnded = isTerminal(row?.state ?? null);
  return (
    <section class="card" aria-label="The pipeline now">
      <h2>{[row?.name, task.pipeline_name, id].find(Boolean)}</h2>
      {live?.error && <p class="warn">{live.error}</p>}
      {live && <p>{live.sentence}</p>}
      {live?.diagnosis?.is_fault && <Diagnosis diagnosis={live.diagnosis} />}
      <dl class="facts">
        {row && (
          <Fact name="State">
            <StateBadge state={row.state} isStopping={!row.wanted && !isEnded} />
          </Fact>
        )}
        {row?.since != null && (
          <Fact name="In this state for">
            <span title={moment(row.since)}>{duration(now - row.since)}</span>
          </Fact>
        )}
        {row && <Fact name="Run">{row.run}</Fact>}
        {row?.parallelism != null && <Fact name="Parallelism">{row.parallelism}</Fact>}
        {details?.checkpoint?.at != null && (
          <Fact name="Last checkpoint">
            {ago(now - details.checkpoint.at)}, took {duration(details.checkpoint.seconds ?? 0)}
          </Fact>
        )}
        {details && !isEnded && (
          <Fact name="Rows/s in → out">
            <Rates details={details} />
          </Fact>
        )}
        {details?.rates?.backpressure != null && !isEnded && (
          <Fact name="Backpressure">{percent(details.rates.backpressure)}</Fact>
        )}
        <Fact name="Connection">{task.connection_id}</Fact>
        <Fact name="ID">{id}</Fact>
      </dl>
      {row?.failure && !live?.diagnosis && <pre class="words">{row.failure.text}</pre>}
      <p>
        <Link to={pipelineUrl(id, new URLSearchParams({ connection: task.connection_id }))}>Open pipeline page</Link>
        {webAddress(live?.console ?? null) && " · "}
        <ConsoleLink base={live?.console ?? null} id={id} text="Arroyo console" />
      </p>
    </section>
  );
}
