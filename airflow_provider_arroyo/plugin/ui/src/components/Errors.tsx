/* The errors of a pipeline's job, newest first, in Arroyo's words. */

import { ago, isoTime, moment } from "../format";
import type { PipelineLive } from "../types";

const DOMAINS: Record<string, string> = {
  user: "According to Arroyo, the cause is the pipeline: its SQL, its options, or its data.",
  external: "According to Arroyo, the cause is a system that the pipeline talks to.",
  internal: "According to Arroyo, the cause is Arroyo itself.",
};

/** Return the meaning of an error's domain; empty if it has none. */
export function domainText(domain: string | null | undefined): string {
  if (!domain) return "";
  return (Object.hasOwn(DOMAINS, domain) ? DOMAINS[domain] : undefined) ?? `Arroyo's error domain: ${domain}.`;
}

type JobError = PipelineLive["errors"][number];

interface Repeated {
  last: JobError;
  times: number;
  first: number;
}

/** Merge errors with the same text, newest first. */
export function repeatedErrors(errors: JobError[]): Repeated[] {
  const found = new Map<string, Repeated>();
  for (const error of [...errors].sort((a, b) => b.at - a.at)) {
    const { operator, message, details, domain, task } = error;
    const key = JSON.stringify([operator, message, details, domain, task]);
    const same = found.get(key);
    if (same) {
      same.times += 1;
      same.first = error.at;
    } else {
      found.set(key, { last: error, times: 1, first: error.at });
    }
  }
  return [...found.values()];
}

export function Errors({ errors, unread, now }: { errors: JobError[]; unread: string | null; now: number }) {
  return (
    <section class="card" aria-label="Errors of the job">
      <h2>Errors</h2>
      {errors.length === 0 ? (
        <p class="faint">{unread ?? "No errors logged."}</p>
      ) : (
        <ol class="errors">
          {repeatedErrors(errors).map((one, index) => (
            <ErrorItem key={index} {...one} now={now} />
          ))}
        </ol>
      )}
    </section>
  );
}

function ErrorItem({ last, times, first, now }: Repeated & { now: number }) {
  const { at, operator, task, message, details, domain } = last;
  return (
    <li>
      <p class="faint">
        <time dateTime={isoTime(at)} title={moment(at)}>
          {ago(now - at)}
        </time>
        {operator && `, in ${operator}`}
        {task !== null && `, subtask ${task}`}
        {times > 1 && `; ${times} times, the first ${ago(now - first)}`}
      </p>
      <p class="message">{message}</p>
      {domain && <p class="faint">{domainText(domain)}</p>}
      {details && (
        <details>
          <summary>Details</summary>
          <pre class="words">{details}</pre>
        </details>
      )}
    </li>
  );
}
