"""The result of evaluating a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """A source that the query reads, with what decides how long the pipeline runs.

    :param name: name of the table.
    :param event_rate: rows per second; None if the connector has no such setting.
    :param message_count: after how many rows it ends; None if it never ends by itself.
    :param missing_path: the file of this machine that it reads, where there is none.
    """

    name: str
    event_rate: float | None = None
    message_count: int | None = None
    missing_path: str | None = None

    @property
    def duration_micros(self) -> int | None:
        """How long it runs from its first row to its last; None: for ever."""
        if self.message_count is None:
            return None
        return int(self.message_count / self.event_rate * 1_000_000) if self.event_rate else 0


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink that the query writes to.

    :param name: name of the table, ``"preview"`` for the output of a bare SELECT.
    :param connector: its connector; ``"preview"`` for every sink of a preview.
    :param columns: the names of the columns that are written, as far as they are known.
    """

    name: str
    connector: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Arroyo's response to a query: a graph, errors, or nothing because it panics.

    :param graph: the graph as the API shows it; None when there is none.
    :param errors: ``{"message": …, "span": {"start": {"line", "column"}, "end": …} | None}`` each.
    :param refusal: the text with which creating a pipeline is refused (status 400).
    :param udf_refusal: the text with which validation is refused (status 400) because a UDF does not
        parse; version 0.16 only, 0.15 lists it in ``errors``.
    :param panic: the construct on which Arroyo's planner panics, so that the server hangs up without a
        response; there is neither a graph nor an error then.
    :param sources: the sources that the query reads, in the order of the graph.
    :param sinks: the sinks that it writes to, in the order of the graph.
    :param not_judged: what was accepted without a check, each in a few words.
    """

    graph: dict[str, Any] | None
    errors: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    udf_refusal: str | None = None
    panic: str | None = None
    sources: tuple[Source, ...] = ()
    sinks: tuple[Sink, ...] = ()
    not_judged: tuple[str, ...] = ()
