/* The requests to our routes in Airflow's API server. */

import type {
  Acted,
  ActionName,
  ActionOptions,
  Orphan,
  PipelineDefinition,
  PipelineLive,
  PipelineTasks,
  PipelinesResponse,
  TaskResponse,
} from "./types";

const ACTION_HEADER = "X-Arroyo-Action";
const TIMEOUT_MS = 30_000;
/** For an action whose outcome is unknown. */
export const CAUTION = "The action may have been carried out: check the pipeline before you repeat it.";
const NOT_OURS = "Something other than Airflow's API server responded. You may have been logged out: reload the page.";

/* The address of this bundle. Separate, because Vite would bundle the target of new URL(…, import.meta.url). */
const HERE = import.meta.url;

/** A request failed; the message is for users. */
export class ApiError extends Error {
  constructor(
    message: string,
    /** 0 if the API server did not respond itself, so that it may have carried out the request. */
    readonly status: number,
  ) {
    super(message);
  }
}

function address(path: string, query: Record<string, string | string[]>): string {
  const url = new URL(`../api/${path}`, HERE);
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, one);
  }
  return url.href;
}

async function call<T>(url: string, init: RequestInit, signal?: AbortSignal): Promise<T> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  const timer = setTimeout(stop, TIMEOUT_MS);
  signal?.addEventListener("abort", stop);
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { ...init, credentials: "same-origin", signal: abort.signal });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("Airflow's API server does not respond.", 0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
  const body = parsed(text);
  if (!response.ok) {
    const detail = detailOf(body);
    const isGateway = detail === null && response.status >= 500;
    throw new ApiError(messageOf(response.status, detail), isGateway ? 0 : response.status);
  }
  if (typeof body !== "object" || body === null) throw new ApiError(NOT_OURS, 0);
  return body as T;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

/** Return our routes' own words in an error; null if there are none. */
function detailOf(body: unknown): string | null {
  const detail = typeof body === "object" && body !== null && "detail" in body ? body.detail : null;
  return typeof detail === "string" ? detail : null;
}

function messageOf(status: number, detail: string | null): string {
  if (status === 401) return "You are no longer logged in. Reload the page to log in again.";
  return detail ?? `Airflow's API server, or a gateway in front of it, responded with ${status}.`;
}

function get<T>(path: string, query: Record<string, string | string[]>, signal?: AbortSignal): Promise<T> {
  return call(address(path, query), {}, signal);
}

function getOfPipeline<T>(path: string) {
  return (connection: string, pipeline: string, signal?: AbortSignal): Promise<T> =>
    get(`pipeline/${path}`, { connection_id: connection, pipeline_id: pipeline }, signal);
}

export const fetchLive = getOfPipeline<PipelineLive>("live");
export const fetchDefinition = getOfPipeline<PipelineDefinition>("definition");
export const fetchPipelineTasks = getOfPipeline<PipelineTasks>("tasks");

export async function fetchConnections(signal?: AbortSignal): Promise<string[]> {
  return (await get<{ connections: string[] }>("connections", {}, signal)).connections;
}

export async function fetchOrphans(connection: string, signal?: AbortSignal): Promise<Orphan[]> {
  return (await get<{ orphans: Orphan[] }>("orphans", { connection_id: connection }, signal)).orphans;
}

export function fetchPipelines(
  connection: string,
  known: { epoch: string; version: number },
  shown: { all: string[]; new: string[] },
  signal?: AbortSignal,
): Promise<PipelinesResponse> {
  const version = String(known.version);
  const query = { connection_id: connection, epoch: known.epoch, version, shown: shown.all, new: shown.new };
  return get("pipelines", query, signal);
}

export function fetchTask(
  task: { dag: string; run: string; task: string; mapIndex: number },
  signal?: AbortSignal,
): Promise<TaskResponse> {
  const query = { dag_id: task.dag, run_id: task.run, task_id: task.task, map_index: String(task.mapIndex) };
  return get("task", query, signal);
}

export async function act(
  connection: string,
  pipeline: string,
  action: ActionName,
  options: ActionOptions,
): Promise<Acted> {
  const query = { connection_id: connection, pipeline_id: pipeline };
  try {
    return await call(address(`actions/${action}`, query), post(options, { [ACTION_HEADER]: "1" }));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 0) throw error;
    throw new ApiError(`${error.message} ${CAUTION}`, 0);
  }
}

/** Ask for the outcome of an action. */
export function fetchOutcome(connection: string, follow: unknown, signal: AbortSignal): Promise<Acted> {
  return call(address("outcome", { connection_id: connection }), post(follow), signal);
}

function post(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
}
