"""Turns the steps of a query into the nodes and edges of the graph that the API returns.

Arroyo first makes a node of every step, numbered in order, and then chains nodes that are connected by a plain
``Forward`` edge. So ids have gaps, and the order is that of Arroyo's graph library: when a node is removed, the
last one takes its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T", "_Node", "_Edge")


@dataclass(frozen=True, slots=True)
class Source:
    """A source that the query reads.

    :param name: the name of the table.
    :param event_rate: rows per second; None: the connector has no such setting.
    :param message_count: after how many rows it ends; None: it never ends.
    :param missing_path: the local file that it reads, if that does not exist.
    """

    name: str
    event_rate: float | None = None
    message_count: int | None = None
    missing_path: str | None = None

    @property
    def duration_micros(self) -> int | None:
        """How long it runs; None: for ever."""
        if self.message_count is None:
            return None
        return int(self.message_count / self.event_rate * 1_000_000) if self.event_rate else 0


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink that the query writes to.

    :param name: the name of the table, or ``"preview"`` for the output of a SELECT.
    :param connector: its connector; ``"preview"`` for every sink of a preview.
    :param columns: the names of the columns that are written, as far as they are known.
    """

    name: str
    connector: str
    columns: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Step:
    """A step of a query.

    :param operator: the operator of a node that consists of this step alone; ``{}`` stands for its number.
    :param description: the description of the node; ``{}`` stands for its number.
    :param inputs: the steps whose rows it receives.
    :param edges: the type of the edge from each input: ``Forward``, ``Shuffle``, ``LeftJoin`` or ``RightJoin``.
    :param key: steps with the same key are one and the same; None: it is a step of its own.
    :param kind: ``source``, ``sink`` or ``inner``.
    :param record: the source or sink, if it is known.
    """

    operator: str
    description: str
    inputs: Sequence[Step] = ()
    edges: Sequence[str] = ()
    key: Hashable = None
    kind: str = "inner"
    record: Source | Sink | None = None


def forward(operator: str, description: str, inputs: Sequence[Step], key: Hashable = None) -> Step:
    """Return a step whose inputs are not repartitioned."""
    return Step(operator, description, tuple(inputs), ("Forward",) * len(inputs), key)


@dataclass(slots=True, eq=False)
class _Node:
    id: int
    place: int  # in the list of nodes
    description: str
    operators: list[str]
    step: Step
    # Dicts as ordered sets, the oldest edge first.
    leaving: dict[_Edge, None] = field(default_factory=dict)
    entering: dict[_Edge, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Edge:
    source: _Node
    target: _Node
    type: str
    place: int  # in the list of edges


@dataclass(slots=True)
class Graph:
    """Nodes and edges in the order of the API."""

    nodes: list[_Node] = field(default_factory=list)
    edges: list[_Edge] = field(default_factory=list)
    _made: dict[Hashable, _Node] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Add a step and its inputs, each step once."""
        pending = [step]
        while pending:
            current = pending.pop()
            missing = [one for one in current.inputs if _key(one) not in self._made]
            if missing:
                pending += [current, *reversed(missing)]
            elif _key(current) not in self._made:
                self._make(current)

    def _make(self, step: Step) -> None:
        number, shown = len(self.nodes), step.description
        if step.kind == "inner":
            shown = shown.replace("{}", str(number))
        node = _Node(number, number, shown, [step.operator.replace("{}", str(number))], step)
        self.nodes.append(node)
        self._made[_key(step)] = node
        for source, edge in zip(step.inputs, step.edges, strict=True):
            self._add_edge(self._made[_key(source)], node, edge)

    def chain(self) -> None:
        """Join chains of nodes, as Arroyo does."""
        place = 0
        while place < len(self.nodes):
            node = self.nodes[place]
            following = self._follower(node)
            if following is None:
                place += 1
                continue
            node.description += f" -> {following.description}"
            node.operators += following.operators
            # The node that moves there may not have been visited.
            place = min(place, following.place)
            self._drop_edge(next(iter(following.entering)))
            # Arroyo's graph library lists the edges of a node from the newest to the oldest.
            for edge in reversed(list(following.leaving)):
                self._drop_edge(edge)
                self._add_edge(node, edge.target, edge.type)
            _swap_remove(self.nodes, following)

    @staticmethod
    def _follower(node: _Node) -> _Node | None:
        """Return the node that can be joined to this one, if there is one."""
        if node.step.kind == "source" or len(node.leaving) != 1:
            return None
        edge = next(iter(node.leaving))
        if edge.type != "Forward":
            return None
        following = edge.target
        return None if following.step.kind == "sink" or len(following.entering) > 1 else following

    def _add_edge(self, source: _Node, target: _Node, kind: str) -> None:
        edge = _Edge(source, target, kind, len(self.edges))
        self.edges.append(edge)
        source.leaving[edge] = None
        target.entering[edge] = None

    def _drop_edge(self, edge: _Edge) -> None:
        del edge.source.leaving[edge]
        del edge.target.entering[edge]
        _swap_remove(self.edges, edge)

    def as_json(self, parallelism: int) -> dict[str, Any]:
        """Return the graph as the API returns it."""
        types = {"key_type": "()", "value_type": "()"}
        return {
            "nodes": [
                {
                    "node_id": node.id,
                    "operator": node.operators[0] if len(node.operators) == 1 else "chained_op",
                    "description": node.description,
                    "parallelism": parallelism,
                }
                for node in self.nodes
            ],
            "edges": [
                {"src_id": edge.source.id, "dest_id": edge.target.id, **types, "edge_type": edge.type}
                for edge in self.edges
            ],
        }


def _key(step: Step) -> Hashable:
    return step if step.key is None else step.key


def _swap_remove(items: list[T], item: T) -> None:
    """Remove an item as Arroyo's graph library does: the last one takes its place."""
    last = items.pop()
    if last is not item:
        items[item.place] = last
        last.place = item.place
