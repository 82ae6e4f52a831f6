"""The judge: one call, one judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlglot import Token

from airflow_provider_arroyo.sandbox.sql.diagnostics import (
    Diagnostic,
    RefusedError,
    UnjudgedError,
    planning,
    worded,
)
from airflow_provider_arroyo.sandbox.sql.model import ARROYO_VERSIONS, CatalogTable, Judgement, Sink, Source
from airflow_provider_arroyo.sandbox.sql.parsing import Text, statements, tokenize
from airflow_provider_arroyo.sandbox.sql.program import Program
from airflow_provider_arroyo.sandbox.sql.steps import Graph
from airflow_provider_arroyo.sandbox.sql.tables import Table
from airflow_provider_arroyo.sandbox.sql.udfs import read


def judge(
    query: str,
    *,
    arroyo_version: str,
    tables: Sequence[CatalogTable] = (),
    udfs: Sequence[Mapping[str, Any]] = (),
    preview: bool = False,
    enable_sinks: bool = False,
    parallelism: int = 1,
    strict: bool = False,
) -> Judgement:
    """Say what Arroyo would say of a query, without an Arroyo.

    Never raises for what stands in the query, in the tables or in the functions. What it cannot judge
    it accepts, and lists. It does not look at the types of arguments of built-in functions. A query of
    a megabyte may take some seconds, so call it in a thread where an event loop must go on.

    :param query: the SQL.
    :param arroyo_version: ``"0.15"`` or ``"0.16"``: whose words to use.
    :param tables: the connection tables that the server has.
    :param udfs: the user-defined functions, as the API takes them: ``definition`` and ``language``.
    :param preview: whether it is a preview, whose sinks show their rows in place of writing them.
    :param enable_sinks: whether a preview writes to its sinks nevertheless.
    :param parallelism: the parallelism of every node in the graph.
    :param strict: refuse what cannot be judged.
    :returns: the judgement.
    :raises ValueError: the version is not known.
    """
    if arroyo_version not in ARROYO_VERSIONS:
        raise ValueError(
            f"arroyo_version must be one of {', '.join(ARROYO_VERSIONS)}, not {arroyo_version!r}"
        )
    text = Text(query)
    not_judged: dict[str, None] = {}
    try:
        found, unread = read(udfs)
    except RefusedError as refusal:
        return _refused(refusal, text, arroyo_version, udf=True)
    not_judged.update(dict.fromkeys(unread))
    program = Program(text, arroyo_version, found, not_judged=not_judged)
    try:
        for table in tables:
            program.add_catalog(table)
        graph, sources, sinks = _graph(
            program, preview=preview, enable_sinks=enable_sinks, parallelism=parallelism
        )
    except RefusedError as refusal:
        return _refused(refusal, text, arroyo_version, not_judged=tuple(not_judged))
    if strict and not_judged:
        unknown = RefusedError(*(Diagnostic(f"not judged: {what}") for what in not_judged))
        return _refused(unknown, text, arroyo_version, not_judged=tuple(not_judged))
    return Judgement(graph=graph, sources=sources, sinks=sinks, not_judged=tuple(not_judged))


def _graph(program: Program, *, preview: bool, enable_sinks: bool, parallelism: int) -> tuple[Any, Any, Any]:
    if not program.text.text.strip():
        message = "Query is empty" if program.arroyo_version == "0.15" else "Query is empty!"
        raise planning(message) if program.arroyo_version == "0.15" else RefusedError(Diagnostic(message))
    chunks = list(statements(tokenize(program.text)))
    for chunk in chunks:
        _statement(program, chunk)
    built = Graph()
    for sink in program.sinks():
        built.add(sink)
    built.chain()
    if preview:
        built.preview(keep_sinks=enable_sinks)
    sources, sinks = _described(built)
    return built.as_json(parallelism), sources, sinks


def _statement(program: Program, tokens: list[Token]) -> None:
    try:
        program.statement(tokens)
    except UnjudgedError as unjudged:
        program.accept(tokens, str(unjudged))
    except RefusedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a parser trips over, the judge must answer
        program.accept(tokens, f"a statement that cannot be read here ({type(error).__name__})")


def _refused(
    refusal: RefusedError,
    text: Text,
    arroyo_version: str,
    *,
    udf: bool = False,
    not_judged: tuple[str, ...] = (),
) -> Judgement:
    errors = tuple(
        worded(diagnostic, arroyo_version=arroyo_version, locate=text.locate)
        for diagnostic in refusal.diagnostics
    )
    message = errors[0]["message"]
    if udf or arroyo_version == "0.15":
        in_full = message if udf or len(errors) == 1 else "\n".join(error["message"] for error in errors)
    else:
        in_full = "Failed to plan query:" + "".join(f"\n * {error['message']}" for error in errors)
    return Judgement(
        graph=None,
        errors=errors,
        refusal=in_full,
        udf_refusal=message if udf and arroyo_version == "0.16" else None,
        not_judged=not_judged,
    )


def _described(graph: Graph) -> tuple[tuple[Source, ...], tuple[Sink, ...]]:
    """Return the sources and the sinks of a graph."""
    sources: list[Source] = []
    sinks: list[Sink] = []
    for node in graph.nodes:
        table = node.step.table
        if not isinstance(table, Table):
            continue
        made = table.connection
        if node.kind == "source" and made is not None:
            sources.append(
                Source(table.name, made.connector, made.event_rate, made.message_count, made.path, node.id)
            )
        elif node.kind == "sink":
            columns = tuple((name, "?" if kind is None else kind.name) for name, kind in table.fields)
            sinks.append(Sink(table.name, node.operators[0], node.id, columns))
    return tuple(sources), tuple(sinks)
