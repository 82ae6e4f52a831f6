/* Why a pipeline failed, or what went wrong in it last, in Arroyo's words. */

import { moment } from "../format";
import type { Details, Row } from "../types";
import { Dialog } from "./Dialog";
import { domainText } from "./Errors";

export function ReasonDialog(props: { row: Row; details: Details | undefined; onClose: () => void }) {
  const { row, details } = props;
  const error = details?.error;
  const domain = row.failure?.domain ?? error?.domain;
  return (
    <Dialog title={`What went wrong in ${row.name || row.id}`} onClose={props.onClose}>
      {row.failure && <pre class="words">{row.failure.text}</pre>}
      {domain && <p>{domainText(domain)}</p>}
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
