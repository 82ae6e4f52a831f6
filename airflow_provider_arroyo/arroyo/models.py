"""What Arroyo's API speaks of, for servers 0.15 and 0.16 alike.

Every model is frozen and made by ``from_api`` from the JSON of an answer. Unknown fields are ignored,
fields that only one version sends are optional. Times are microseconds since the epoch, as on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class JobState(StrEnum):
    """The states of a job, by their names on the wire.

    A newer server may send a name that is not listed here; :class:`Job` keeps it as a plain string.
    """

    CREATED = "Created"
    COMPILING = "Compiling"
    SCHEDULING = "Scheduling"
    RUNNING = "Running"
    RESCALING = "Rescaling"
    RESTARTING = "Restarting"
    RECOVERING = "Recovering"
    CHECKPOINT_STOPPING = "CheckpointStopping"
    STOPPING = "Stopping"
    FINISHING = "Finishing"
    FAILING = "Failing"
    STOPPED = "Stopped"
    FINISHED = "Finished"
    FAILED = "Failed"


TERMINAL_STATES = frozenset({JobState.STOPPED, JobState.FINISHED, JobState.FAILED})
"""Where a job rests. ``Stopped`` and ``Failed`` can be left by a call, ``Finished`` never."""


class StopMode(StrEnum):
    """How a pipeline is asked to stop (``PATCH /pipelines/{id}``, field ``stop``).

    ``NONE`` asks for the opposite: it clears an earlier request and resumes a stopped pipeline.
    """

    NONE = "none"
    CHECKPOINT = "checkpoint"
    GRACEFUL = "graceful"
    IMMEDIATE = "immediate"
    FORCE = "force"


class CheckpointType(StrEnum):
    """Why a checkpoint was taken (0.16 only)."""

    SCHEDULED = "scheduled"
    STOPPING = "stopping"


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a string")
    return value


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a number")
    return value


def _items(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a list")
    return value


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why a job failed, in Arroyo's words.

    :param error: the text; 0.15 calls it ``failure_message``.
    :param domain: whose fault it is, ``user``, ``external`` or ``internal``; None on 0.15.
    """

    error: str
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job: what runs, or ran, for a pipeline.

    :param id: the job's id; a restart without state in worker mode replaces it.
    :param state: the name on the wire; compares equal to a :class:`JobState`.
    :param run_id: rises with each scheduling; 0 before the first.
    :param running_desired: False once a stop was asked, whatever the state says.
    :param pipeline_id: None on 0.15, where a job does not carry it.
    """

    id: str
    state: str
    run_id: int
    running_desired: bool
    created_at_micros: int = 0
    pipeline_id: str | None = None
    start_time_micros: int | None = None
    finish_time_micros: int | None = None
    tasks: int | None = None
    failure: FailureReason | None = None
    # Both may hold secrets, so they stay out of what is logged.
    scheduler_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the job rests in Stopped, Finished or Failed."""
        return self.state in TERMINAL_STATES

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a job from an answer.

        :raises KeyError, TypeError: where a field that every version sends is missing or of another type.
        """
        failure = None
        if reason := data.get("failure_reason"):
            failure = FailureReason(str(reason.get("error", "")), reason.get("domain"))
        elif message := data.get("failure_message"):
            failure = FailureReason(str(message))
        return cls(
            id=_text(data, "id"),
            state=_text(data, "state"),
            run_id=_number(data, "run_id"),
            running_desired=bool(data.get("running_desired", True)),
            created_at_micros=int(data.get("created_at") or 0),
            pipeline_id=data.get("pipeline_id"),
            start_time_micros=data.get("start_time"),
            finish_time_micros=data.get("finish_time"),
            tasks=data.get("tasks"),
            failure=failure,
            scheduler_config=data.get("scheduler_config") or {},
            env_vars=data.get("env_vars") or {},
        )


@dataclass(frozen=True, slots=True)
class Udf:
    """A user-defined function that travels with a pipeline.

    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which takes it for Rust.
    """

    definition: str
    language: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a UDF from an answer."""
        return cls(_text(data, "definition"), data.get("language"))

    def to_api(self) -> dict[str, str]:
        """Return the JSON object for a request."""
        body = {"definition": self.definition}
        if self.language is not None:
            body["language"] = self.language
        return body


@dataclass(frozen=True, slots=True)
class PipelineNode:
    """One operator of a pipeline's graph."""

    node_id: int
    operator: str
    description: str
    parallelism: int

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a node from an answer."""
        return cls(
            _number(data, "node_id"),
            str(data.get("operator", "")),
            str(data.get("description", "")),
            int(data.get("parallelism", 0)),
        )


@dataclass(frozen=True, slots=True)
class PipelineEdge:
    """One edge of a pipeline's graph."""

    src_id: int
    dest_id: int
    key_type: str
    value_type: str
    edge_type: str

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read an edge from an answer."""
        return cls(
            _number(data, "src_id"),
            _number(data, "dest_id"),
            str(data.get("key_type", "")),
            str(data.get("value_type", "")),
            str(data.get("edge_type", "")),
        )


@dataclass(frozen=True, slots=True)
class PipelineGraph:
    """What Arroyo made of the SQL."""

    nodes: tuple[PipelineNode, ...] = ()
    edges: tuple[PipelineEdge, ...] = ()

    @property
    def parallelism(self) -> int | None:
        """The highest parallelism of its nodes; None without nodes."""
        return max((node.parallelism for node in self.nodes), default=None)

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a graph from an answer."""
        return cls(
            tuple(PipelineNode.from_api(node) for node in _items(data, "nodes")),
            tuple(PipelineEdge.from_api(edge) for edge in _items(data, "edges")),
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline: the SQL, what was asked of it, and its graph.

    :param stop: what was last asked, a :class:`StopMode` by its name on the wire.
    :param tags: the caller's labels; empty on 0.15.
    """

    id: str
    name: str
    query: str
    checkpoint_interval_micros: int | None = None
    stop: str = StopMode.NONE
    created_at_micros: int = 0
    action: str | None = None
    action_text: str = ""
    action_in_progress: bool = False
    preview: bool = False
    graph: PipelineGraph = field(default_factory=PipelineGraph)
    udfs: tuple[Udf, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    state_url: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a pipeline from an answer.

        :raises KeyError, TypeError: where a field that every version sends is missing or of another type.
        """
        return cls(
            id=_text(data, "id"),
            name=_text(data, "name"),
            query=_text(data, "query"),
            checkpoint_interval_micros=data.get("checkpoint_interval_micros"),
            stop=str(data.get("stop", StopMode.NONE)),
            created_at_micros=int(data.get("created_at") or 0),
            action=data.get("action"),
            action_text=str(data.get("action_text", "")),
            action_in_progress=bool(data.get("action_in_progress", False)),
            preview=bool(data.get("preview", False)),
            graph=PipelineGraph.from_api(data.get("graph") or {}),
            udfs=tuple(Udf.from_api(udf) for udf in _items(data, "udfs")),
            tags=data.get("tags") or {},
            state_url=data.get("state_url"),
        )
