/* States on a timeline, and the same as a list, so that the meaning of the colors can be read. */

import { duration, isoTime, moment } from "../format";
import type { Change } from "../lanes";
import { colorOf, stateInfo } from "../states";
import { StateBadge } from "./StateBadge";

export function Timeline({ transitions }: { transitions: Change[] }) {
  const steps = transitions.map((one, index) => {
    const next = transitions[index + 1];
    return { ...one, seconds: next ? Math.max(0, next.at - one.at) : null };
  });
  // The last state has no length, so it gets a visible part of the line.
  const whole = steps.reduce((sum, step) => sum + (step.seconds ?? 0), 0);
  // Percentages: with a sum below one, they would not fill the line.
  const share = (seconds: number | null) => (whole > 0 ? Math.max(2, (100 * (seconds ?? whole / 20)) / whole) : 1);
  return (
    <>
      <div class="timeline" aria-hidden="true">
        {steps.map((step, index) => (
          <span
            key={index}
            title={`${step.state}, ${moment(step.at)}`}
            style={{ flexGrow: share(step.seconds), ...colorOf(stateInfo(step.state).token) }}
          />
        ))}
      </div>
      <ol class="steps">
        {steps.map((step, index) => (
          <li key={index}>
            <time dateTime={isoTime(step.at)}>{moment(step.at)}</time>
            <StateBadge state={step.state} />
            <span class="faint">
              {step.seconds === null ? "last seen" : `for ${duration(step.seconds)}`}
              {step.run === null ? "" : `, run ${step.run}`}
            </span>
          </li>
        ))}
      </ol>
    </>
  );
}
