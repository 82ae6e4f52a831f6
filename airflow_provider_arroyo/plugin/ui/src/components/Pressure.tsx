/* A backpressure as a bar and a number, colored by its level. */

import { percent } from "../format";

export function pressureLevel(share: number): "low" | "medium" | "high" {
  return share >= 0.75 ? "high" : share >= 0.4 ? "medium" : "low";
}

export function Pressure({ share }: { share: number }) {
  const level = pressureLevel(share);
  return (
    <span class={`pressure ${level}`} title={`Backpressure is ${level}: how full the fullest queue between operators is`}>
      <span class="bar" aria-hidden="true">
        <span style={{ width: `${Math.round(Math.min(1, share) * 100)}%` }} />
      </span>
      <span class="sr-only">backpressure </span>
      {percent(share)}
    </span>
  );
}
