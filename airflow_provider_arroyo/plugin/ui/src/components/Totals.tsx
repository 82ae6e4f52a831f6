/* How many pipelines are in which state; each filters the table. */

import { rank } from "../states";
import type { View } from "../view";
import { StateBadge } from "./StateBadge";

interface Props {
  totals: Record<string, number>;
  view: View;
  onChange: (part: Partial<View>) => void;
}

export function Totals({ totals, view, onChange }: Props) {
  // A state that is filtered by stays to be seen when its last pipeline has left it.
  const states = [...new Set([...Object.keys(totals), ...view.states])].sort((a, b) => rank(a) - rank(b));
  if (states.length === 0) return null;
  const toggle = (state: string) => {
    const isOn = view.states.includes(state);
    onChange({ states: isOn ? view.states.filter((one) => one !== state) : [...view.states, state] });
  };
  return (
    <div class="totals" role="group" aria-label="Filter by state">
      {states.map((state) => (
        <button
          key={state}
          type="button"
          class="total"
          aria-pressed={view.states.includes(state)}
          onClick={() => {
            toggle(state);
          }}
        >
          <StateBadge state={state} />
          <span class="number">{totals[state] ?? 0}</span>
        </button>
      ))}
    </div>
  );
}
