"""The details of a job: errors, checkpoints, metrics, output; and Arroyo's messages about SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_arroyo.client.models import PipelineGraph
from airflow_provider_arroyo.client.wire import ApiModel, from_api, wire
from airflow_provider_arroyo.exceptions import SqlDiagnostic
from airflow_provider_arroyo.text import shorten


@dataclass(frozen=True, slots=True)
class JobError(ApiModel):
    """One line of a job's error log.

    :param id: its id.
    :param created_at_micros: when it was logged.
    :param message: the error in one line.
    :param details: further text; may be empty.
    :param level: its level, such as ``error``.
    :param operator_id: the operator that logged it; empty if Arroyo names none.
    :param task_index: the index of the subtask; None if Arroyo names none.
    :param error_domain: ``user``, ``external`` or ``internal``; None on 0.15.
    """

    id: str
    created_at_micros: int = wire("created_at", default=0)
    message: str = ""
    details: str = ""
    level: str = "error"
    operator_id: str = ""
    task_index: int | None = None
    error_domain: str | None = None

    @property
    def line(self) -> str:
        """The error as shown in a list: the operator if Arroyo names one, the message, the details."""
        parts = self.operator_id, shorten(self.message), shorten(self.details)
        return ": ".join(part for part in parts if part)

    def repeats(self, reason: str) -> bool:
        """Return whether it only repeats the reason of the job's failure, as Arroyo's last errors often do."""
        return reason != "" and not self.operator_id and reason in (self.message, self.details)

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read an error, without secrets in its texts."""
        from airflow_provider_arroyo.client.sql_secrets import readable

        error = from_api(cls, data)
        return replace(error, message=readable(error.message), details=readable(error.details))


@dataclass(frozen=True, slots=True)
class Span(ApiModel):
    """A phase of a checkpoint.

    :param event: name of the phase.
    :param start_time_micros: when it began.
    :param description: what it is, in Arroyo's words.
    :param finish_time_micros: None while it lasts.
    """

    event: str
    start_time_micros: int = wire("start_time")
    description: str = ""
    finish_time_micros: int | None = wire("finish_time", zero_is_none=True, default=None)


@dataclass(frozen=True, slots=True)
class Checkpoint(ApiModel):
    """One checkpoint of a job.

    :param epoch: its number; grows with each checkpoint of the job.
    :param start_time_micros: when it began.
    :param finish_time_micros: None while it is in progress.
    :param checkpoint_type: ``scheduled`` or ``stopping``; None on 0.15.
    :param backend: where it is stored.
    :param events: its phases.
    """

    epoch: int
    start_time_micros: int = wire("start_time")
    finish_time_micros: int | None = wire("finish_time", zero_is_none=True, is_strict=True, default=None)
    checkpoint_type: str | None = wire(is_strict=True, default=None)
    backend: str = ""
    events: tuple[Span, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it is complete, so that the job can be restored from it."""
        return self.finish_time_micros is not None


@dataclass(frozen=True, slots=True)
class SubtaskCheckpoint(ApiModel):
    """What one subtask wrote to a checkpoint."""

    index: int
    size_bytes: int = wire("bytes", is_required=True, default=0)
    event_spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class OperatorCheckpoint(ApiModel):
    """What one operator wrote to a checkpoint."""

    operator_id: str
    size_bytes: int = wire("bytes", is_required=True, default=0)
    started_metadata_write_micros: int | None = wire(
        "started_metadata_write", zero_is_none=True, default=None
    )
    finish_time_micros: int | None = wire("finish_time", zero_is_none=True, default=None)
    subtasks: tuple[SubtaskCheckpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric(ApiModel):
    """One measured value; NaN if Arroyo could not compute it."""

    time_micros: int = wire("time")
    value: float = wire("value")


@dataclass(frozen=True, slots=True)
class SubtaskMetrics(ApiModel):
    """The values of one subtask, oldest first, about one every two seconds."""

    index: int
    metrics: tuple[Metric, ...] = wire(is_strict=True, default=())


@dataclass(frozen=True, slots=True)
class MetricGroup(ApiModel):
    """One metric of a node, such as ``messages_sent``."""

    name: str
    subtasks: tuple[SubtaskMetrics, ...] = wire(is_strict=True, default=())


@dataclass(frozen=True, slots=True)
class OperatorMetrics(ApiModel):
    """The metrics of one node of the graph. Neither nodes nor metrics have a stable order."""

    node_id: int
    metric_groups: tuple[MetricGroup, ...] = wire(is_strict=True, default=())


@dataclass(frozen=True, slots=True)
class OutputBatch(ApiModel):
    """Rows of a preview's output stream.

    :param operator_id: the operator that produced the rows.
    :param subtask_index: the index of its subtask.
    :param start_id: number of the first row; a gap means that rows were missed.
    :param batch: the rows, as the JSON text that the server sent.
    :param timestamps_micros: the event time of each row.
    """

    operator_id: str
    subtask_index: int = wire("subtask_idx")
    start_id: int = wire("start_id")
    batch: str = wire("batch")
    timestamps_micros: tuple[int, ...] = wire("timestamps", default=())


@dataclass(frozen=True, slots=True)
class QueryValidation(ApiModel):
    """The result of a validation: a graph or errors."""

    # No default: an unreadable response must not pass for a query without errors.
    errors: tuple[SqlDiagnostic, ...]
    graph: PipelineGraph | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a validation. Arroyo always sends a graph, even if null; other services also send errors."""
        errors = data["errors"]
        if isinstance(errors, list):
            data = {**data, "errors": [_flat(one) for one in errors]}
        validation = from_api(cls, data)
        if "graph" not in data:
            raise KeyError("graph")
        return validation

    @property
    def is_valid(self) -> bool:
        """Whether Arroyo would accept the query."""
        return not self.errors


def _flat(error: Any) -> Any:
    """Return the JSON of a diagnostic: a plain string on 0.15, an object with the position in a span on 0.16."""
    if not isinstance(error, Mapping):
        return {"message": error}
    flat = {"message": error["message"]}
    if isinstance(span := error.get("span"), Mapping):
        for end, names in (("start", ("line", "column")), ("end", ("end_line", "end_column"))):
            if isinstance(place := span.get(end), Mapping):
                flat |= {names[0]: place.get("line"), names[1]: place.get("column")}
    return flat
