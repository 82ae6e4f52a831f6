/* The texts of a pipeline's definition: SQL, UDFs, the diff to another generation. */

import { memo } from "preact/compat";
import { useMemo } from "preact/hooks";

import { pipelineUrl } from "../host";
import { countUnseen, marked } from "../marks";
import { chunksOf, diffKind, MAX_COLOURED, piecesOf } from "../sql";
import type { PipelineDefinition } from "../types";
import { Link } from "./Link";
import { Notice } from "./Notice";

interface Props {
  definition: PipelineDefinition;
  /** The query of the list, also for the way back from another pipeline's page. */
  search: URLSearchParams;
}

export function Definition({ definition, search }: Props) {
  const { sql, label, sql_truncated: isCut, udfs, diff, missing } = definition;
  return (
    <>
      {missing.length > 0 && <Notice kind="warning" text={`Not shown: ${missing.join(" ")}`} />}
      {diff && <Change diff={diff} search={search} />}
      <section class="card" aria-label="SQL">
        <h2>SQL</h2>
        {label && (
          <p class="label" title="The ownership label, by which Airflow finds its pipeline again">
            <span class="faint">Label</span>
            {Object.entries(label).map(
              ([name, value]) =>
                value && (
                  <code key={name}>
                    {name}={value}
                  </code>
                ),
            )}
          </p>
        )}
        {sql ? <Source text={sql} isSql name="SQL of the pipeline" /> : <p class="faint">Arroyo returned no SQL.</p>}
        {isCut && <p class="warn">The SQL is longer than this. Arroyo's console shows all of it.</p>}
      </section>
      {udfs.length > 0 && (
        <section class="card" aria-label="UDFs">
          <h2>UDFs</h2>
          {udfs.map((udf, index) => (
            <details key={index} open={udfs.length === 1}>
              <summary>
                {udf.name || `UDF ${index + 1}`} <span class="faint">{udf.language}</span>
              </summary>
              <Source text={udf.definition} name={`Source of the UDF ${udf.name || index + 1}`} />
            </details>
          ))}
        </section>
      )}
    </>
  );
}

function Change({ diff, search }: { diff: NonNullable<PipelineDefinition["diff"]>; search: URLSearchParams }) {
  return (
    <section class="card" aria-label="What changed">
      <header class="card-head">
        <h2>
          What changed from generation {diff.from_generation} to {diff.to_generation}
        </h2>
        <Link to={pipelineUrl(diff.other_id, search)}>Open the other generation</Link>
      </header>
      {diff.text ? <Diff text={diff.text} /> : <p class="faint">SQL and UDFs are the same.</p>}
    </section>
  );
}

const Source = memo(function Source({ text, isSql = false, name }: { text: string; isSql?: boolean; name: string }) {
  const parts = useMemo(() => {
    if (isSql && text.length <= MAX_COLOURED) {
      return piecesOf(text).map(({ kind, text: piece }, index) =>
        kind ? (
          <span key={index} class={kind}>
            {withMarks(piece)}
          </span>
        ) : (
          withMarks(piece)
        ),
      );
    }
    const chunks = chunksOf(text);
    return chunks.length === 1
      ? withMarks(text)
      : chunks.map((chunk, index) => (
          <span key={index} class="chunk">
            {withMarks(chunk)}
          </span>
        ));
  }, [text, isSql]);
  return (
    <>
      <Unseen text={text} />
      <pre class="source" tabIndex={0} role="region" aria-label={name}>
        {parts}
      </pre>
    </>
  );
});

function withMarks(text: string) {
  return marked(text).map((piece) => (typeof piece === "string" ? piece : <span class="unseen">{piece.code}</span>));
}

function Unseen({ text }: { text: string }) {
  const count = countUnseen(text);
  return count > 0 ? (
    <p class="warn">
      {count === 1 ? "1 character here is" : `${count} characters here are`} invisible or can change the order of the
      text. Each is shown as its code.
    </p>
  ) : null;
}

const MAX_DIFF_LINES = 2000;

const Diff = memo(function Diff({ text }: { text: string }) {
  const lines = text.split("\n");
  return (
    <>
      <Unseen text={text} />
      <pre class="source diff" tabIndex={0} role="region" aria-label="Unified diff">
        {lines.slice(0, MAX_DIFF_LINES).map((line, index) => (
          <span key={index} class={diffKind(line)}>
            {line ? withMarks(line) : " "}
          </span>
        ))}
      </pre>
      {lines.length > MAX_DIFF_LINES && <p class="warn">These are the first of {lines.length} lines.</p>}
    </>
  );
});
