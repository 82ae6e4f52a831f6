/* A state as a colored mark and a word: never the color alone. */

import { colorOf, stateInfo } from "../states";

export function StateBadge({ state, isStopping = false }: { state: string | null; isStopping?: boolean }) {
  const info = stateInfo(state);
  const meaning = isStopping ? `${info.meaning} A stop was requested.` : info.meaning;
  return (
    <span class="badge" style={colorOf(info.token)} title={meaning}>
      <span class={`mark ${info.group}`} aria-hidden="true" />
      <span class="word">{state ?? "…"}</span>
    </span>
  );
}
