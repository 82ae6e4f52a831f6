/* An action in progress, or its outcome. */

import { ACTIONS } from "../actions";
import type { PendingAction } from "../actions";

export function Progress({ pending }: { pending: PendingAction }) {
  const { action, outcome } = pending;
  return (
    <span class={outcome ? (outcome.ok ? "progress ok" : "progress bad") : "progress"} role="status">
      {outcome?.text ?? ACTIONS[action].doing}
    </span>
  );
}
