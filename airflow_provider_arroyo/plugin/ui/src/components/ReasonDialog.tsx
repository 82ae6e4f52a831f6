/* Why a pipeline failed, or what went wrong in it last, in Arroyo's words. */

import { moment } from "../format";
import type { Details, Row } from "../types";
import { Dialog } from "./Dialog";

const DOMAINS: Record<string, string> = {
  user: "Arroyo puts it down to the pipeline: its SQL, its options, or its data.",
  external: "Arroyo puts it down to a system that the pipeline talks to.",
  internal: "Arroyo puts it down to itself.",
};

export function ReasonDialog(props: { row: Row; details: Details | undefined; onClose: () => void }) {
  const { row, details } = props;
  const error = details?.error;
  const domain = row.failure?.domain ?? error?.domain;
  return (
    <Dialog title={`What went wrong in ${row.name || row.id}`} onClose={props.onClose}>
      {row.failure && <pre class="words">{row.failure.text}</pre>}
      {domain && <p>{DOMAINS[domain] ?? `Arroyo calls it ${domain}.`}</p>}
      {error && (
        <>
          <h3>Last error, {moment(error.at)}</h3>
          {error.operator && <p>Operator: {error.operator}</p>}
          <pre class="words">{[error.message, error.details].filter(Boolean).join("\n")}</pre>
        </>
      )}
      <div class="buttons">
        <button type="button" class="primary" onClick={props.onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
