/* One pipeline in its current state, as in the list. */

import { ago, count, duration, moment, percent, webAddress } from "../format";
import { onNavigate, pipelineUrl } from "../host";
import { isTerminal } from "../states";
import type { PipelineLive, TaskResponse } from "../types";
import { Fact } from "./Fact";
import { Sparkline } from "./Sparkline";
import { StateBadge } from "./StateBadge";

interface Props {
  task: TaskResponse;
  live: PipelineLive | null;
  now: number;
}

export function PipelineCard({ task, live, now }: Props) {
  const { row = null, details = null } = live ?? {};
  const id = task.pipeline_id ?? "";
  const base = webAddress(live?.console ?? null);
  const page = pipelineUrl(id, new URLSearchParams({ connection: task.connection_id }));
  return (
    <section class="card" aria-label="The pipeline now">
      <h2>{row?.name ?? task.pipeline_name ?? id}</h2>
      {live?.error && <p class="warn">{live.error}</p>}
      {live && <p>{live.sentence}</p>}
      <dl class="facts">
        {row && (
          <Fact name="State">
            <StateBadge state={row.state} isStopping={!row.wanted && !isTerminal(row.state)} />
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
        {details?.rates && !isTerminal(row?.state ?? null) && (
          <Fact name="Rows/s in → out">
            <span class="rates">
              {details.rates.in === null ? "?" : count(details.rates.in)} →{" "}
              {details.rates.out === null ? "?" : count(details.rates.out)}
              <Sparkline values={details.rates.series} />
            </span>
          </Fact>
        )}
        {details?.rates?.backpressure != null && !isTerminal(row?.state ?? null) && (
          <Fact name="Backpressure">{percent(details.rates.backpressure)}</Fact>
        )}
        <Fact name="Connection">{task.connection_id}</Fact>
        <Fact name="ID">{id}</Fact>
      </dl>
      {row?.failure && <pre class="words">{row.failure.text}</pre>}
      <p>
        <a href={page} onClick={onNavigate(page)}>
          Open pipeline page
        </a>
        {base && (
          <>
            {" · "}
            <a href={`${base}/pipelines/${encodeURIComponent(id)}`} target="_blank" rel="noreferrer">
              Arroyo console ↗
            </a>
          </>
        )}
      </p>
    </section>
  );
}
