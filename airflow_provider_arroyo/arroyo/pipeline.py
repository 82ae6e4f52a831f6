"""A pipeline as Arroyo tells of it: what was asked for, and the graph that Arroyo made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from airflow_provider_arroyo.arroyo.models import StopMode, items_of, number_of, text_of
from airflow_provider_arroyo.arroyo.spec import Udf


class PipelineNode(NamedTuple):
    """One operator of a pipeline's graph."""

    node_id: int
    operator: str
    description: str
    parallelism: int

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a node from an answer."""
        return cls(
            number_of(data, "node_id"),
            str(data.get("operator", "")),
            str(data.get("description", "")),
            int(data.get("parallelism", 0)),
        )


class PipelineEdge(NamedTuple):
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
            number_of(data, "src_id"),
            number_of(data, "dest_id"),
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
            tuple(PipelineNode.from_api(node) for node in items_of(data, "nodes")),
            tuple(PipelineEdge.from_api(edge) for edge in items_of(data, "edges")),
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
            id=text_of(data, "id"),
            name=text_of(data, "name"),
            query=text_of(data, "query"),
            checkpoint_interval_micros=data.get("checkpoint_interval_micros"),
            stop=str(data.get("stop", StopMode.NONE)),
            created_at_micros=int(data.get("created_at") or 0),
            action=data.get("action"),
            action_text=str(data.get("action_text", "")),
            action_in_progress=bool(data.get("action_in_progress", False)),
            preview=bool(data.get("preview", False)),
            graph=PipelineGraph.from_api(data.get("graph") or {}),
            udfs=tuple(Udf.from_api(udf) for udf in items_of(data, "udfs")),
            tags=data.get("tags") or {},
            state_url=data.get("state_url"),
        )
