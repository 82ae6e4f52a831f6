/* How old the data is, and whether Arroyo or Airflow is away. */

import type { FeedState } from "../feed";
import { ago, duration, timeOfDay } from "../format";
import { Notice } from "./Notice";

const OLD_SECONDS = 8;

export function Freshness({ state, now }: { state: FeedState; now: number }) {
  const { status, problem, began } = state;
  if (status === null) return problem ? <Notice kind="error" text={problem.message} /> : null;
  const age = status.seen_at === null ? null : Math.max(0, now - status.seen_at);
  const isAway = problem !== null || status.error !== null;
  return (
    <>
      {isAway && <Notice kind="warning" text={awayText(problem?.message ?? status.error ?? "", age)} />}
      <p class={age !== null && age > OLD_SECONDS ? "freshness old" : "freshness"}>
        {age === null ? "No data yet." : age < OLD_SECONDS && !isAway ? "Live, every 2 s." : `As of ${ago(age)}.`}
        {began !== null && ` Changes and restarts are those since ${timeOfDay(began)}.`}
      </p>
    </>
  );
}

function awayText(reason: string, age: number | null): string {
  const shown = age === null ? "" : ` What is shown is ${duration(age)} old.`;
  return `${reason.trimEnd()}${shown}`;
}
