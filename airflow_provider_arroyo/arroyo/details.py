"""The models behind the rarer calls: errors, checkpoints, metrics, output, validation, connections, UDFs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from airflow_provider_arroyo.arroyo.pipeline import PipelineGraph

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    :param has_more: whether another page follows, to be asked for with ``starting_after`` the last id.
    """

    data: tuple[T, ...]
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class JobError:
    """One line of a job's error log, newest first in a list of them.

    :param error_domain: ``user``, ``external`` or ``internal``; None on 0.15.
    """

    id: str
    created_at_micros: int
    message: str
    details: str
    level: str = "error"
    operator_id: str = ""
    task_index: int | None = None
    error_domain: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read an error from an answer."""
        return cls(
            id=str(data["id"]),
            created_at_micros=int(data["created_at"]),
            message=str(data["message"]),
            details=str(data.get("details") or ""),
            level=str(data.get("level", "error")),
            operator_id=str(data.get("operator_id") or ""),
            task_index=data.get("task_index"),
            error_domain=data.get("error_domain"),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time inside a checkpoint.

    :param finish_time_micros: None while it lasts (the wire says 0, or nothing).
    """

    event: str
    description: str
    start_time_micros: int
    finish_time_micros: int | None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a span from an answer."""
        return cls(
            str(data["event"]),
            str(data.get("description", "")),
            int(data["start_time"]),
            data.get("finish_time") or None,
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of a job.

    :param checkpoint_type: ``scheduled`` or ``stopping``; None on 0.15.
    :param finish_time_micros: None while it is under way.
    """

    epoch: int
    backend: str
    start_time_micros: int
    finish_time_micros: int | None = None
    checkpoint_type: str | None = None
    events: tuple[Span, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether it is complete, and so can be restored from."""
        return self.finish_time_micros is not None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a checkpoint from an answer."""
        return cls(
            epoch=int(data["epoch"]),
            backend=str(data.get("backend", "")),
            start_time_micros=int(data["start_time"]),
            finish_time_micros=data.get("finish_time") or None,
            checkpoint_type=data.get("checkpoint_type"),
            events=tuple(Span.from_api(span) for span in data.get("events") or ()),
        )


@dataclass(frozen=True, slots=True)
class SubtaskCheckpoint:
    """What one subtask wrote into a checkpoint."""

    index: int
    size_bytes: int
    event_spans: tuple[Span, ...] = ()

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a subtask's part from an answer."""
        return cls(
            int(data["index"]),
            int(data.get("bytes", 0)),
            tuple(Span.from_api(span) for span in data.get("event_spans") or ()),
        )


@dataclass(frozen=True, slots=True)
class OperatorCheckpoint:
    """What one operator wrote into a checkpoint."""

    operator_id: str
    size_bytes: int
    started_metadata_write_micros: int | None = None
    finish_time_micros: int | None = None
    subtasks: tuple[SubtaskCheckpoint, ...] = ()

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read an operator's part from an answer."""
        return cls(
            str(data["operator_id"]),
            int(data.get("bytes", 0)),
            data.get("started_metadata_write") or None,
            data.get("finish_time") or None,
            tuple(SubtaskCheckpoint.from_api(subtask) for subtask in data.get("subtasks") or ()),
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value."""

    time_micros: int
    value: float


@dataclass(frozen=True, slots=True)
class SubtaskMetrics:
    """The values of one subtask, oldest first, about one every two seconds."""

    index: int
    metrics: tuple[Metric, ...]

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a subtask's values from an answer."""
        return cls(
            int(data["index"]),
            tuple(Metric(int(m["time"]), float(m["value"])) for m in data.get("metrics") or ()),
        )


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """One metric of a node, e.g. ``messages_sent``."""

    name: str
    subtasks: tuple[SubtaskMetrics, ...]

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a metric from an answer."""
        return cls(
            str(data["name"]),
            tuple(SubtaskMetrics.from_api(subtask) for subtask in data.get("subtasks") or ()),
        )


@dataclass(frozen=True, slots=True)
class OperatorMetrics:
    """The metrics of one node of the graph. Neither nodes nor metrics come in a stable order."""

    node_id: int
    metric_groups: tuple[MetricGroup, ...]

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a node's metrics from an answer."""
        return cls(
            int(data["node_id"]),
            tuple(MetricGroup.from_api(group) for group in data.get("metric_groups") or ()),
        )


@dataclass(frozen=True, slots=True)
class OutputBatch:
    """Rows of a preview's output stream.

    :param start_id: number of the first row; a gap means rows were made before we listened.
    :param batch: the rows, as the JSON text that the server sent.
    """

    operator_id: str
    subtask_index: int
    timestamps_micros: tuple[int, ...]
    start_id: int
    batch: str

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a batch from an event of the stream."""
        return cls(
            str(data["operator_id"]),
            int(data["subtask_idx"]),
            tuple(data.get("timestamps") or ()),
            int(data["start_id"]),
            str(data["batch"]),
        )


@dataclass(frozen=True, slots=True)
class SqlDiagnostic:
    """What Arroyo says of a piece of SQL.

    :param line, column, end_line, end_column: where, counted from 1; None where the server gave no place
        (always on 0.15).
    """

    message: str
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any] | str) -> Self:
        """Read a diagnostic: a plain string on 0.15, an object on 0.16."""
        if isinstance(data, str):
            return cls(data)
        span = data.get("span") or {}
        start, end = span.get("start") or {}, span.get("end") or {}
        return cls(
            str(data["message"]), start.get("line"), start.get("column"), end.get("line"), end.get("column")
        )


@dataclass(frozen=True, slots=True)
class QueryValidation:
    """The answer to a validation: a graph, or what is wrong."""

    graph: PipelineGraph | None
    errors: tuple[SqlDiagnostic, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether Arroyo would accept the query."""
        return not self.errors

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a validation from an answer."""
        graph = data.get("graph")
        return cls(
            PipelineGraph.from_api(graph) if graph else None,
            tuple(SqlDiagnostic.from_api(error) for error in data.get("errors") or ()),
        )


@dataclass(frozen=True, slots=True)
class UdfValidation:
    """The answer to the validation of a UDF."""

    udf_name: str | None
    errors: tuple[str, ...] = ()

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a validation from an answer."""
        return cls(data.get("udf_name"), tuple(str(error) for error in data.get("errors") or ()))


@dataclass(frozen=True, slots=True)
class GlobalUdf:
    """A UDF that every pipeline of the server may use."""

    id: str
    name: str
    prefix: str
    language: str
    definition: str
    created_at_micros: int = 0
    updated_at_micros: int = 0
    description: str | None = None
    dylib_url: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a global UDF from an answer."""
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            prefix=str(data.get("prefix", "")),
            language=str(data.get("language", "")),
            definition=str(data["definition"]),
            created_at_micros=int(data.get("created_at") or 0),
            updated_at_micros=int(data.get("updated_at") or 0),
            description=data.get("description"),
            dylib_url=data.get("dylib_url"),
        )


@dataclass(frozen=True, slots=True)
class ConnectionProfile:
    """Where a connector finds its system, shared by connection tables."""

    id: str
    name: str
    connector: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    description: str = ""

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a profile from an answer."""
        return cls(
            str(data["id"]),
            str(data["name"]),
            str(data["connector"]),
            data.get("config") or {},
            str(data.get("description") or ""),
        )


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """A source or sink that was made apart from any pipeline.

    :param table_type: ``source``, ``sink`` or ``lookup``.
    :param schema: as the server sent it.
    :param consumers: how many pipelines use it.
    """

    id: str
    name: str
    connector: str
    table_type: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schema: Mapping[str, Any] = field(default_factory=dict)
    consumers: int = 0
    created_at_micros: int = 0
    connection_profile: ConnectionProfile | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a table from an answer."""
        profile = data.get("connection_profile")
        return cls(
            id=str(data["id"]),
            name=str(data["name"]),
            connector=str(data["connector"]),
            table_type=str(data["table_type"]),
            config=data.get("config") or {},
            schema=data.get("schema") or {},
            consumers=int(data.get("consumers", 0)),
            created_at_micros=int(data.get("created_at") or 0),
            connection_profile=ConnectionProfile.from_api(profile) if profile else None,
        )


@dataclass(frozen=True, slots=True)
class Connector:
    """A kind of source or sink that the server can talk to."""

    id: str
    name: str
    source: bool
    sink: bool
    description: str = ""

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a connector from an answer."""
        return cls(
            str(data["id"]),
            str(data["name"]),
            bool(data.get("source")),
            bool(data.get("sink")),
            str(data.get("description") or ""),
        )
