"""What strict clients require of an answer: the fields that must be there, and their types. Written by hand."""

from __future__ import annotations

from typing import Any

STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
NATURAL = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number"}


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: dict[str, Any]) -> dict[str, Any]:
    """A list of these."""
    return {"type": "array", "items": schema}


def record(**fields: dict[str, Any]) -> dict[str, Any]:
    """An object with these fields, all of them, and no others: a client learns of a new one here."""
    return {
        "type": "object",
        "required": list(fields),
        "properties": fields,
        "additionalProperties": False,
    }


def choice(*texts: str) -> dict[str, Any]:
    """One of these texts."""
    return {"enum": list(texts)}


STOP = choice("none", "checkpoint", "graceful", "immediate", "force")
DOMAIN = choice("user", "external", "internal")
GRAPH = record(
    nodes=listed(record(node_id=NATURAL, operator=STRING, description=STRING, parallelism=NATURAL)),
    edges=listed(
        record(src_id=NATURAL, dest_id=NATURAL, key_type=STRING, value_type=STRING, edge_type=STRING)
    ),
)
SPAN = record(start_time=NATURAL, finish_time=NATURAL, event=STRING, description=STRING)


def shapes(version: str) -> dict[str, dict[str, Any]]:
    """Return the shapes of one version's responses, by their names."""
    new = version == "0.16"
    pipeline: dict[str, Any] = {
        "id": STRING,
        "name": STRING,
        "query": STRING,
        "udfs": listed(record(definition=STRING, language=choice("rust", "python"))),
        "checkpoint_interval_micros": NATURAL,
        "stop": STOP,
        "created_at": NATURAL,
        "action": nullable(STOP),
        "action_text": STRING,
        "action_in_progress": BOOLEAN,
        "graph": GRAPH,
        "preview": BOOLEAN,
    }
    job: dict[str, Any] = {
        "id": STRING,
        "running_desired": BOOLEAN,
        "state": STRING,
        "run_id": NATURAL,
        "start_time": nullable(NATURAL),
        "finish_time": nullable(NATURAL),
        "tasks": nullable(NATURAL),
        "created_at": NATURAL,
    }
    checkpoint: dict[str, Any] = {
        "epoch": NATURAL,
        "backend": choice("parquet"),
        "start_time": NATURAL,
        "finish_time": nullable(NATURAL),
        "events": listed(SPAN),
    }
    error: dict[str, Any] = {
        "id": STRING,
        "created_at": NATURAL,
        "operator_id": nullable(STRING),
        "task_index": nullable(NATURAL),
        "level": choice("info", "warn", "error"),
        "message": STRING,
        "details": STRING,
    }
    if new:
        pipeline |= {
            "state_url": nullable(STRING),
            "tags": {"type": "object", "additionalProperties": STRING},
        }
        job |= {
            "pipeline_id": STRING,
            "failure_reason": nullable(record(error=STRING, domain=DOMAIN)),
            "scheduler_config": {"type": "object"},
            "env_vars": {"type": "object", "additionalProperties": STRING},
        }
        checkpoint["checkpoint_type"] = choice("scheduled", "stopping")
        error["error_domain"] = nullable(DOMAIN)
    else:
        job["failure_message"] = nullable(STRING)
    metric = record(
        name=choice("bytes_recv", "bytes_sent", "messages_recv", "messages_sent", "backpressure"),
        subtasks=listed(record(index=NATURAL, metrics=listed(record(time=NATURAL, value=NUMBER)))),
    )
    operator = record(
        operator_id=STRING,
        bytes=NATURAL,
        started_metadata_write=nullable(NATURAL),
        finish_time=nullable(NATURAL),
        subtasks=listed(record(index=NATURAL, bytes=NATURAL, event_spans=listed(SPAN))),
    )
    return {
        "pipeline": record(**pipeline),
        "pipelines": record(data=listed(record(**pipeline)), hasMore=BOOLEAN),
        "jobs": record(data=listed(record(**job))),
        "checkpoints": record(data=listed(record(**checkpoint))),
        "errors": record(data=listed(record(**error)), hasMore=BOOLEAN),
        "metrics": record(data=listed(record(node_id=NATURAL, metric_groups=listed(metric)))),
        "operators": record(data=listed(operator)),
    }
