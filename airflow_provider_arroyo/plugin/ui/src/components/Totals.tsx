/* The number of pipelines in each state; each number filters the table. */

import { rank } from "../states";
import type { View } from "../view";
import { StateBadge } from "./StateBadge";

interface Props {
  totals: Record<string, number>;
  view: View;
  onChange: (part: Partial<View>) => void;
}

export function Totals({ totals, view, onChange }: Props) {
  // A state in the filter stays visible after its last pipeline has left it.
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
          onClick={() => toggle(state)}
        >
          <StateBadge state={state} />
          <span class="number">{totals[state] ?? 0}</span>
        </button>
      ))}
    </div>
  );
}
