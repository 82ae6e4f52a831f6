"""The JSON of the API: the same keys in the same order as real servers send, for each version."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_arroyo.client.enums import JobState

from .lifecycle import Version
from .messages import render
from .records import Checkpoint, Job, Pipeline


def action(job: Job) -> tuple[str | None, str, bool]:
    """Return what the console's button does: the action, its label, whether it is in progress."""
    desired = job.wanted.stop == "none"
    match job.state:
        case JobState.STOPPED:
            return (None, "Starting", True) if desired else ("none", "Start", False)
        case JobState.FINISHED:
            return None, "Finished", False
        case JobState.FAILED:
            return (None, "Failed", False) if desired else ("none", "Start", False)
        case JobState.CREATED if not desired:
            return "none", "Start", True
        case JobState.RUNNING if desired:
            return "checkpoint", "Stop", False
        case JobState.CHECKPOINT_STOPPING | JobState.STOPPING | JobState.FINISHING:
            return None, "Stopping", True
    return ("checkpoint", "Stop", True) if desired else (None, "Stopping", True)


_ONLY_016 = "pipeline_id failure_reason scheduler_config env_vars state_url tags checkpoint_type error_domain"
_LACKING: Mapping[Version, Sequence[str]] = {"0.15": _ONLY_016.split(), "0.16": ["failure_message"]}


def record(fields: Mapping[str, Any], version: Version) -> bytes:
    """Return an object, without the fields that the version does not have."""
    return render({name: value for name, value in fields.items() if name not in _LACKING[version]})


def job(job: Job, version: Version) -> bytes:
    """Return a job; rendered once per change."""
    if job.rendered is None:
        failure = job.failure
        job.rendered = record(
            {
                "id": job.id,
                "pipeline_id": job.pipeline.id,
                "running_desired": job.wanted.stop == "none",
                "state": job.state,
                "run_id": job.run_id,
                "start_time": job.start_time,
                "finish_time": job.finish_time,
                "tasks": job.tasks,
                "failure_message": failure and failure[0],
                "failure_reason": failure and {"error": failure[0], "domain": failure[1]},
                "created_at": job.created_at,
                "scheduler_config": job.wanted.scheduler_config,
                "env_vars": job.wanted.env_vars,
            },
            version,
        )
    return job.rendered


def pipeline(job: Job, version: Version) -> bytes:
    """Return the pipeline of a job; rendered once per change of the job."""
    pipeline = job.pipeline
    if pipeline.rendered is None:
        what, label, waits = action(job)
        nodes = [{**node, "parallelism": job.wanted.parallelism} for node in pipeline.graph["nodes"]]
        pipeline.rendered = record(
            {
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
                "graph": {"nodes": nodes, "edges": pipeline.graph["edges"]},
                "preview": pipeline.preview,
                "state_url": pipeline.state_url,
                "tags": pipeline.tags,
            },
            version,
        )
    return pipeline.rendered


def _span(event: str, description: str, start: int, finish: int) -> dict[str, Any]:
    return {"start_time": start, "finish_time": finish, "event": event, "description": description}


def checkpoint(checkpoint: Checkpoint, now: int, version: Version, *, done: bool) -> bytes:
    """Return a checkpoint as it is at this moment: unfinished spans end at 0."""
    finish, operators_done = checkpoint.finish, checkpoint.operators_done
    # The spans begin a little before the record of the checkpoint, as they do on real servers.
    begun = checkpoint.start - 2_000
    events = [
        _span("Checkpointing", "The entire checkpointing process", begun, finish - 1 if done else 0),
        _span(
            "CheckpointingOperators",
            "The time spent checkpointing operator states",
            begun + 4,
            operators_done if done or operators_done <= now else 0,
        ),
    ]
    if done:
        writing = min(max(operators_done, finish - 600), finish - 5)
        events.append(_span("WritingMetadata", "Writing the final checkpoint metadata", writing, finish - 5))
    return record(
        {
            "epoch": checkpoint.epoch,
            "backend": "parquet",
            "checkpoint_type": "stopping" if checkpoint.stopping else "scheduled",
            "start_time": checkpoint.start,
            "finish_time": finish if done else None,
            "events": events,
        },
        version,
    )


def operators(pipeline: Pipeline) -> list[tuple[str, bool, bool]]:
    """Return the operators of a pipeline: id, whether it keeps state, whether it waits for barriers.

    A node of the graph may chain several; they are numbered on from the node's id.
    """
    found: list[tuple[str, bool, bool]] = []
    sources, sinks = list(pipeline.sources), list(pipeline.sinks)
    targets = {edge["dest_id"] for edge in pipeline.graph["edges"]}
    origins = {edge["src_id"] for edge in pipeline.graph["edges"]}
    for node in pipeline.graph["nodes"]:
        number = node["node_id"]
        if number not in targets:
            name = sources.pop(0).name if sources else node["operator"]
            found.append((f"source_{name}_{number}", True, False))
        elif number not in origins:
            name = sinks.pop(0).name if sinks else node["operator"]
            found.append((f"sink_{name}_{number}", False, True))
        else:
            for offset, step in enumerate(node["description"].split(" -> ")):
                kind = _operator_kind(step)
                found.append((f"{kind}_{number + offset}", kind not in ("value", "key"), offset == 0))
    return found


def _operator_kind(step: str) -> str:
    if "window" in step:
        return step.strip().replace(" ", "_")
    if "watermark" in step:
        return "watermark"
    return "key" if step.startswith("ArrowKey") else "value"


def checkpoint_groups(job: Job, checkpoint: Checkpoint, rng: random.Random) -> list[bytes]:
    """Return what each operator did for a checkpoint; the order is not stable on real servers either."""
    span = checkpoint.operators_done - checkpoint.start
    begun = checkpoint.start + span * 3 // 4
    spans = [
        _span("Alignment", "Time spent waiting for alignment barriers", begun, begun + 2),
        _span("Sync", "The synchronous part of checkpointing", begun + 2, begun + 25),
        _span("Async", "The asynchronous part of checkpointing", begun + 25, begun + min(2_500, span // 5)),
    ]
    groups = []
    for position, (operator_id, is_stateful, aligns) in enumerate(operators(job.pipeline)):
        written = checkpoint.operators_done - 1 - position % max(1, span // 8)
        size = 600 + (checkpoint.epoch % 25) + position if is_stateful else 0
        subtasks = [
            {"index": index, "bytes": size, "event_spans": spans if aligns else spans[1:]}
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
    return [render(group) for group in groups]
