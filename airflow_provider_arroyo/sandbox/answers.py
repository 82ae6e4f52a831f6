"""The JSON of the API: the same keys in the same order as real servers send, for each version."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

from airflow_provider_arroyo.client.models import JobState

from . import running
from .records import Checkpoint, Job, Pipeline

Version: TypeAlias = Literal["0.15", "0.16"]
VERSIONS: tuple[Version, ...] = ("0.15", "0.16")

_encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def render(value: Any) -> bytes:
    """Return a value as JSON without blanks, as a real server writes it."""
    return _encode(value).encode("utf-8", "surrogatepass")


def collection(items: Iterable[bytes], *, has_more: bool | None = None) -> bytes:
    """Return rendered items as a list answer.

    :param has_more: for a paginated list, whether there are more; None: the list is not paginated.
    """
    tail = b"" if has_more is None else b',"hasMore":true' if has_more else b',"hasMore":false'
    return b'{"data":[' + b",".join(items) + b"]" + tail + b"}"


def action(job: Job) -> tuple[str | None, str, bool]:
    """Return what the console's button would do: the action, its label, whether it must wait."""
    desired = job.wanted.stop == "none"
    state = job.state
    if state == JobState.STOPPED:
        return (None, "Starting", True) if desired else ("none", "Start", False)
    if state == JobState.FINISHED:
        return None, "Finished", False
    if state == JobState.FAILED:
        return (None, "Failed", False) if desired else ("none", "Start", False)
    if state == JobState.CREATED and not desired:
        return "none", "Start", True
    if state == JobState.RUNNING and desired:
        return "checkpoint", "Stop", False
    ends_anyway = state in (JobState.CHECKPOINT_STOPPING, JobState.STOPPING, JobState.FINISHING)
    if desired and not ends_anyway:
        return "checkpoint", "Stop", True
    return None, "Stopping", True


def job(job: Job, version: Version) -> bytes:
    """Return a job; rendered once per change."""
    if job.rendered is None:
        job.rendered = render(_job(job, version))
    return job.rendered


def _job(job: Job, version: Version) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": job.id}
    if version == "0.16":
        answer["pipeline_id"] = job.pipeline.id
    answer |= {
        "running_desired": job.wanted.stop == "none",
        "state": job.state,
        "run_id": job.run_id,
        "start_time": job.start_time,
        "finish_time": job.finish_time,
        "tasks": job.tasks,
    }
    if version == "0.15":
        answer["failure_message"] = job.failure and job.failure[0]
    else:
        answer["failure_reason"] = job.failure and {"error": job.failure[0], "domain": job.failure[1]}
    answer["created_at"] = job.created_at
    if version == "0.16":
        answer["scheduler_config"] = job.wanted.scheduler_config
        answer["env_vars"] = job.wanted.env_vars
    return answer


def pipeline(pipeline: Pipeline, version: Version) -> bytes:
    """Return a pipeline; rendered once per change of its job."""
    if pipeline.rendered is None:
        pipeline.rendered = render(_pipeline(pipeline, version))
    return pipeline.rendered


def _pipeline(pipeline: Pipeline, version: Version) -> dict[str, Any]:
    if (job := pipeline.job) is None:
        raise LookupError(f"the record {pipeline.id!r} is half-made: it has no job to show")
    what, label, waits = action(job)
    answer = {
        "id": pipeline.id,
        "name": pipeline.name,
        "query": pipeline.query,
        "udfs": pipeline.udfs,
        "checkpoint_interval_micros": job.wanted.interval_micros,
        "stop": job.wanted.stop,
        "created_at": pipeline.created_at,
        "action": what,
        "action_text": label,
        "action_in_progress": waits,
        "graph": with_parallelism(pipeline.graph, job.wanted.parallelism),
        "preview": pipeline.preview,
    }
    if version == "0.16":
        answer |= {"state_url": pipeline.state_url, "tags": pipeline.tags}
    return answer


def with_parallelism(graph: Any, parallelism: int) -> dict[str, Any]:
    """Return a graph whose nodes all have this parallelism."""
    return {
        "nodes": [{**node, "parallelism": parallelism} for node in graph["nodes"]],
        "edges": graph["edges"],
    }


def checkpoint(checkpoint: Checkpoint, now: int, version: Version) -> dict[str, Any]:
    """Return a checkpoint as it stands at this moment: spans that still run end at 0."""
    done = checkpoint.finish <= now
    operators_done = checkpoint.operators_done <= now
    # The spans begin a little before the record of the checkpoint, as they do on real servers.
    begun = checkpoint.start - 2_000
    events = [
        {
            "start_time": begun,
            "finish_time": checkpoint.finish - 1 if done else 0,
            "event": "Checkpointing",
            "description": "The entire checkpointing process",
        },
        {
            "start_time": begun + 4,
            "finish_time": checkpoint.operators_done if operators_done else 0,
            "event": "CheckpointingOperators",
            "description": "The time spent checkpointing operator states",
        },
    ]
    if done:
        events.append(
            {
                "start_time": min(
                    max(checkpoint.operators_done, checkpoint.finish - 600), checkpoint.finish - 5
                ),
                "finish_time": checkpoint.finish - 5,
                "event": "WritingMetadata",
                "description": "Writing the final checkpoint metadata",
            }
        )
    answer: dict[str, Any] = {"epoch": checkpoint.epoch, "backend": "parquet"}
    if version == "0.16":
        answer["checkpoint_type"] = "stopping" if checkpoint.stopping else "scheduled"
    return answer | {
        "start_time": checkpoint.start,
        "finish_time": checkpoint.finish if done else None,
        "events": events,
    }


def operator_ids(pipeline: Pipeline) -> list[tuple[str, bool, bool]]:
    """Return the operators of a pipeline: id, whether it keeps state, whether it waits for barriers.

    A node of the graph may chain several; they are numbered on from the node's id.
    """
    found: list[tuple[str, bool, bool]] = []
    sources = list(pipeline.sources)
    sinks = list(pipeline.sinks)
    targets = {edge["dest_id"] for edge in pipeline.graph["edges"]}
    origins = {edge["src_id"] for edge in pipeline.graph["edges"]}
    for node in pipeline.graph["nodes"]:
        number = node["node_id"]
        if number not in targets:
            name = sources.pop(0).name if sources else node["operator"]
            found.append((f"source_{name}_{number}", True, False))
        elif number not in origins:
            name = sinks.pop(0) if sinks else node["operator"]
            found.append((f"sink_{name}_{number}", False, True))
        else:
            for offset, step in enumerate(node["description"].split(" -> ")):
                kind = _operator_kind(step)
                stateful = kind != "value" and kind != "key"
                found.append((f"{kind}_{number + offset}", stateful, offset == 0))
    return found


def _operator_kind(step: str) -> str:
    if "window" in step:
        return step.strip().replace(" ", "_")
    if "watermark" in step:
        return "watermark"
    return "key" if step.startswith("ArrowKey") else "value"


def checkpoint_groups(job: Job, checkpoint: Checkpoint, now: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return what each operator did for a checkpoint; the order is not stable on real servers either."""
    span = checkpoint.operators_done - checkpoint.start
    if now < checkpoint.operators_done:
        return []
    groups = []
    for position, (operator_id, stateful, aligns) in enumerate(operator_ids(job.pipeline)):
        begun = checkpoint.start + span * 3 // 4
        written = checkpoint.operators_done - 1 - position % max(1, span // 8)
        size = 600 + (checkpoint.epoch % 25) + position if stateful else 0
        spans = [
            ("Alignment", "Time spent waiting for alignment barriers", begun, begun + 2),
            ("Sync", "The synchronous part of checkpointing", begun + 2, begun + 25),
            ("Async", "The asynchronous part of checkpointing", begun + 25, begun + min(2_500, span // 5)),
        ]
        subtasks = [
            {
                "index": index,
                "bytes": size,
                "event_spans": [
                    {"start_time": start, "finish_time": finish, "event": event, "description": text}
                    for event, text, start, finish in spans[0 if aligns else 1 :]
                ],
            }
            for index in range(checkpoint.parallelism)
        ]
        groups.append(
            {
                "operator_id": operator_id,
                "bytes": size * checkpoint.parallelism,
                "started_metadata_write": written - 1,
                "finish_time": written,
                "subtasks": subtasks,
            }
        )
    rng.shuffle(groups)
    return groups


def error_entry(entry: dict[str, Any], version: Version) -> dict[str, Any]:
    """Return one entry of a job's errors."""
    if version == "0.16":
        return dict(entry)
    return {key: value for key, value in entry.items() if key != "error_domain"}


def metrics(job: Job, now: int, rng: random.Random) -> bytes:
    """Return the metrics of a job's nodes."""
    return collection(render(group) for group in running.metric_groups(job, now, rng))
