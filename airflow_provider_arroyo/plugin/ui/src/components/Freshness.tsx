/* How old the data is, and whether Arroyo or Airflow is unreachable. */

import { ago, duration, timeOfDay } from "../format";
import type { Status } from "../types";
import { Notice } from "./Notice";

const OLD_SECONDS = 8;

interface Props {
  status: Status | null;
  /** Why the last request failed; empty if it succeeded. */
  problem: string;
  began: number | null;
  now: number;
}

export function Freshness({ status, problem, began, now }: Props) {
  if (status === null) return problem ? <Notice kind="error" text={problem} /> : null;
  const age = status.seen_at === null ? null : Math.max(0, now - status.seen_at);
  const isAway = problem !== "" || status.error !== null;
  return (
    <>
      {isAway && <Notice kind="warning" text={awayText(problem || (status.error ?? ""), age)} />}
      {age !== null && (
        <p class={age > OLD_SECONDS ? "freshness old" : "freshness"}>
          {age < OLD_SECONDS && !isAway ? "Live: updates every 2 s." : `Last updated ${ago(age)}.`}
          {began !== null && ` Restarts and state changes are counted since ${timeOfDay(began)}.`}
        </p>
      )}
    </>
  );
}

function awayText(reason: string, age: number | null): string {
  const shown = age === null || age < OLD_SECONDS ? "" : ` The data shown is ${duration(age)} old.`;
  return `${reason.trimEnd()}${shown}`;
}
