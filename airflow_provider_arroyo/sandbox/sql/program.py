"""Evaluates SQL statement by statement, from tables and views to inserts and the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, pairwise
from typing import Any

from sqlglot import Token, exp

from airflow_provider_arroyo.sandbox.sql import functions, tables
from airflow_provider_arroyo.sandbox.sql.functions import Udf
from airflow_provider_arroyo.sandbox.sql.graph import Graph, Sink, Source, Step, forward
from airflow_provider_arroyo.sandbox.sql.names import Names, Relation, outputs
from airflow_provider_arroyo.sandbox.sql.refusals import planning
from airflow_provider_arroyo.sandbox.sql.shape import Flow, Shaper, sink_input
from airflow_provider_arroyo.sandbox.sql.tables import Table
from airflow_provider_arroyo.sql import dialect, text
from airflow_provider_arroyo.sql.dialect import arg, folded, table_name
from airflow_provider_arroyo.sql.errors import RefusedError
from airflow_provider_arroyo.sql.text import Text, word

_TTL = "updating_ttl"
_BEFORE_NAMES = ("INTO", "OR", "REPLACE", "TEMPORARY", "TEMP", "TABLE", "VIEW", "IF", "NOT", "EXISTS")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Arroyo's response to a query: a graph, errors, or none because its planner panics.

    :param graph: the graph as the API returns it; None: there is none.
    :param errors: each as ``{"message": …, "span": {"start": {"line", "column"}, "end": …} | None}``.
    :param refusal: the error with which a pipeline is refused (status 400).
    :param udf_refusal: the error with which validation is refused (status 400) because a UDF does not parse;
        only on 0.16, since 0.15 lists it in ``errors``.
    :param panic: what in the query makes Arroyo's planner panic: the server closes the connection without a response.
    :param sources: the sources that the query reads, in the order of the graph.
    :param sinks: the sinks that it writes to, in the order of the graph.
    :param not_judged: what was accepted without being checked, each in a few words.
    """

    graph: dict[str, Any] | None
    errors: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    udf_refusal: str | None = None
    panic: str | None = None
    sources: tuple[Source, ...] = ()
    sinks: tuple[Sink, ...] = ()
    not_judged: tuple[str, ...] = ()


@dataclass(slots=True)
class _Write:
    """Rows and where they are written: to a table, or (None) to the preview."""

    table: Table | None
    flow: Flow
    columns: tuple[str, ...] = ()


def evaluate(
    query: str,
    *,
    arroyo_version: str,
    tables: Sequence[Mapping[str, Any]] = (),
    udfs: Sequence[Mapping[str, Any]] = (),
    preview: bool = False,
    parallelism: int = 1,
) -> Evaluation:
    """Evaluate a query as Arroyo's API does before it creates a pipeline.

    Syntax, names, functions and the options of tables are checked. Types are not, nor anything that depends on
    Arroyo's planner; such parts of a query are accepted and listed in :attr:`Evaluation.not_judged`. A megabyte
    of SQL can take some seconds. Whatever the query, the tables and the functions are, this does not raise.

    :param arroyo_version: ``"0.15"`` or ``"0.16"``: the version whose messages are used.
    :param tables: the server's connection tables, as the API returns them.
    :param udfs: the user-defined functions, as the API takes them: ``definition`` and ``language``.
    :param preview: whether it is a preview, whose sinks show their rows instead of writing them.
    :param parallelism: the parallelism of every node in the graph.
    """
    return _Program(query, arroyo_version, tables, is_preview=preview).evaluate(udfs, parallelism)


class _Program:
    """Evaluates the statements of a query."""

    def __init__(
        self, query: str, arroyo_version: str, catalog: Sequence[Mapping[str, Any]], *, is_preview: bool
    ) -> None:
        self._text = Text(query)
        self._version = arroyo_version
        self._preview = is_preview
        self._not_judged: dict[str, None] = {}
        self._tables: dict[str, Table] = {}
        self._udfs: dict[str, Udf] = {}
        self._writes: list[_Write] = []
        self._panic: str | None = None
        for table in catalog:
            self._add(tables.from_server(table, self._version))

    def evaluate(self, definitions: Sequence[Mapping[str, Any]], parallelism: int) -> Evaluation:
        try:
            self._udfs = functions.read(definitions)
        except RefusedError as refusal:
            return self._refused(refusal, udf=True)
        try:
            graph = self._graph()
        except RefusedError as refusal:
            return self._refused(refusal)
        if self._panic is not None:
            return Evaluation(graph=None, panic=self._panic, not_judged=tuple(self._not_judged))
        records = [node.step.record for node in graph.nodes]
        return Evaluation(
            graph=graph.as_json(parallelism),
            sources=tuple(one for one in records if isinstance(one, Source)),
            sinks=tuple(one for one in records if isinstance(one, Sink)),
            not_judged=tuple(self._not_judged),
        )

    def _refused(self, refusal: RefusedError, *, udf: bool = False) -> Evaluation:
        message, span = refusal.text, None
        if self._version != "0.15" and refusal.headline is not None:
            message = refusal.headline
            if refusal.span is not None:
                start, end = refusal.span.start, refusal.span.end
                span = {"start": self._text.locate(start), "end": self._text.locate(end)}
        plain = udf or self._version == "0.15"
        return Evaluation(
            graph=None,
            errors=({"message": message, "span": span},),
            refusal=message if plain else f"Failed to plan query:\n * {message}",
            udf_refusal=message if udf and self._version != "0.15" else None,
            not_judged=tuple(self._not_judged),
        )

    def _graph(self) -> Graph:
        if not self._text.text.strip():
            raise planning("Query is empty") if self._version == "0.15" else RefusedError("Query is empty!")
        for tokens in list(text.statements(text.tokenize(self._text))):
            try:
                self._statement(tokens)
            except RefusedError:
                raise
            except Exception as error:  # noqa: BLE001  # a bug in a library must not prevent a response
                self._accept(tokens, f"a statement that the sandbox cannot read ({type(error).__name__})")
        if not self._writes:
            raise planning("The provided SQL does not contain a query")
        graph = Graph()
        for sink in self._sinks():
            graph.add(sink)
        graph.chain()
        return graph

    def _add(self, table: Table) -> None:
        self._tables[table.name.casefold()] = table

    # --- statements -----------------------------------------------------------------------------------

    def _statement(self, tokens: list[Token]) -> None:
        first = text.first_word(self._text, tokens)
        if first == "SET":
            self._set(tokens)
            return
        if first == "EXPLAIN":
            raise planning("EXPLAIN is not supported (Explain)")
        if first not in ("CREATE", "INSERT", "SELECT", "WITH", "VALUES", "FROM", "("):
            self._not_judged[f"the statement {first}"] = None
            return
        tree = dialect.parse(self._text, tokens)
        if tree is None:
            self._accept(tokens, "the syntax of a statement")
        elif isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW"):
            self._create(tree, tokens)
        elif isinstance(tree, exp.Create):
            self._not_judged[f"the statement CREATE {tree.kind}"] = None
        elif isinstance(tree, exp.Insert):
            self._insert(tree)
        else:
            relation = self._names(tree, tokens)
            _check_end(tree)
            self._writes.append(_Write(None, self._flow(tree), tuple(outputs(tree, relation))))

    def _set(self, tokens: Sequence[Token]) -> None:
        place = next((i for i, t in enumerate(tokens) if word(t) in ("=", "TO")), None)
        if place is None:
            raise self._text.expected("equals sign or TO", tokens[2] if len(tokens) > 2 else None)
        name = "".join(t.text for t in tokens[1:place] if word(t) not in ("SESSION", "LOCAL", "GLOBAL"))
        if name != _TTL:
            raise planning(f"invalid option '{name}'; supported options are '{_TTL}'")
        if place + 1 == len(tokens):
            raise self._text.expected("an expression", None)
        self._not_judged[f"the value of {_TTL}"] = None

    def _create(self, tree: exp.Create, tokens: Sequence[Token]) -> None:
        query, named = tree.args.get("expression"), tree.this
        if query is None and tree.kind == "TABLE":
            self._add(tables.from_statement(tree, self._version, self._not_judged))
            return
        columns = [folded(c) for c in named.expressions] if isinstance(named, exp.Schema) else []
        name = table_name(named.this if isinstance(named, exp.Schema) else named)
        relation = self._names(query, list(dropwhile(lambda token: word(token) != "AS", tokens))[1:])
        if columns:
            relation = relation.renamed(columns)
        flow = self._flow(query)
        step = forward("value_{}", name, flow.steps, key=("table", name.casefold()))
        view = replace(flow.read(), steps=(step,))
        self._add(Table(name, relation.columns, flow=view, is_open=relation.is_open))

    def _insert(self, tree: exp.Insert) -> None:
        target, query = tree.this, tree.args.get("expression")
        clause = arg(tree, "with")
        if clause is not None and query is not None and arg(query, "with") is None:
            query.set("with_" if "with_" in query.arg_types else "with", clause)
        columns = [folded(c) for c in target.expressions] if isinstance(target, exp.Schema) else []
        name = table_name(target.this if isinstance(target, exp.Schema) else target)
        relation = self._names(query, [])
        table = self._table(name)
        if table is None:
            raise planning(f"table {name} not found")
        table.check_insert(columns, relation.count)
        types = list(relation.columns.values())
        if None in types or types != [table.columns.get(column) for column in columns or table.columns]:
            self._not_judged[f"types of what is written to the table {name}"] = None
        _check_end(query)
        flow = self._flow(query)
        if table.in_memory:
            self._not_judged[f"writes to the table {name}"] = None
            table.flow = flow.read()
        self._writes.append(_Write(table, flow, tuple(table.columns) or tuple(outputs(query, relation))))

    def _names(self, query: Any, tokens: Sequence[Token]) -> Relation:
        """Check the names of a query and return its columns; converts its unquoted names to lower case."""
        if not dialect.is_query(query):
            raise dialect.not_a_query(self._text, tokens)
        dialect.fold_names(query)
        return Names(self._table, self._udfs, self._not_judged).check(query)

    def _accept(self, tokens: Sequence[Token], reason: str) -> None:
        """Accept a statement without checking it; its flow is that of the sources that it may read."""
        self._not_judged[reason] = None
        steps = [
            step
            for before, token in pairwise(tokens)
            if word(before) in ("FROM", "JOIN", ",") and self._is_readable(self._table(token.text))
            for step in self._scan(token.text).steps
        ]
        flow = Flow((forward("value_{}", "not judged", steps or [Step("unknown", "source", kind="source")]),))
        named = next((token.text for token in tokens[1:] if word(token) not in _BEFORE_NAMES), "")
        if word(tokens[0]) == "CREATE":
            self._add(Table(named, flow=flow, is_open=True))
        else:
            target = self._table(named) if word(tokens[0]) == "INSERT" else None
            self._writes.append(
                _Write(target if target is not None and target.kind == "sink" else None, flow)
            )

    @staticmethod
    def _is_readable(table: Table | None) -> bool:
        return table is not None and (table.flow is not None or table.kind == "source")

    # --- steps ----------------------------------------------------------------------------------------

    def _table(self, name: str) -> Table | None:
        return self._tables.get(name.casefold())

    def _flow(self, tree: Any) -> Flow:
        shaper = Shaper(self._scan, self._udfs)
        flow = shaper.flow(tree, {})
        self._panic = self._panic or shaper.panic
        return flow

    def _scan(self, name: str) -> Flow:
        table = self._table(name)
        if table is None:  # a recursive query reads itself
            return Flow((Step("unknown", name, kind="source"),))
        made, key = table.connection, table.name.casefold()
        if table.in_memory and table.flow is None:
            raise planning(f"Can't query from memory table {table.name} without first inserting into it.")
        if made is None:
            return table.flow.read() if table.flow is not None else Flow()
        if table.kind == "lookup":
            return Flow(lookup=table.name)
        if table.kind == "sink":
            if self._version == "0.15":
                raise planning("cannot read from sink")
            raise planning(f"attempted to read from table '{table.name}', but it is a sink")
        read = made.source(table.name)
        source = Step(made.connector, made.description, key=("source", key), kind="source", record=read)
        value = forward("value_{}", name, (source,), key=("table", key))
        watermark = forward("watermark_{}", "watermark", (value,), key=("watermark", key))
        return Flow((watermark,), bare=True, updating=table.updating)

    def _sinks(self) -> list[Step]:
        merged: dict[int, tuple[_Write, list[Step]]] = {}
        for write in self._writes:
            table = write.table
            if table is not None and table.in_memory:
                continue
            if table is not None:
                self._check_sink(table, write.flow)
            # A table has a single sink, even if several statements write to it.
            key = id(write if table is None else table)
            merged.setdefault(key, (write, []))[1].extend(sink_input(write.flow))
        return [self._sink(write, inputs) for write, inputs in merged.values()]

    def _sink(self, write: _Write, inputs: Sequence[Step]) -> Step:
        name, connector, description, key = "preview", "preview", "PreviewSink", None
        if write.table is not None and (made := write.table.connection) is not None:
            name, connector, description = write.table.name, made.connector, made.description
            key = ("sink", name.casefold())
        if self._preview:
            connector = "preview"
        step = forward(connector, description, inputs, key)
        step.kind, step.record = "sink", Sink(name, connector, write.columns)
        return step

    def _check_sink(self, table: Table, flow: Flow) -> None:
        if table.kind == "lookup":
            raise planning("lookup (temporary) tables cannot be inserted into")
        if table.kind == "":
            raise planning("shouldn't be inserting more data into a table made with CREATE TABLE AS")
        if table.kind == "source" and self._version != "0.15":
            raise planning(f"attempted to insert into table '{table.name}', but it is a source")
        if flow.updating and not table.updating:
            self._not_judged[f"updates that are written to the table {table.name}"] = None


def _check_end(tree: Any) -> None:
    """Refuse what Arroyo does not support in the outermost query, where its exact message is known."""
    if isinstance(tree, exp.Select) and arg(tree, "from") is None:
        reason = "No timestamp field found in projection input (EmptyRelation)"
        raise planning(f"{reason}. Query should've been rewritten")
    limit = tree.args.get("limit")
    amount: Any = limit.expression if isinstance(limit, exp.Limit) else None
    whole = isinstance(amount, exp.Literal) and amount.name.isdigit() and int(amount.name[:19]) > 0
    if whole and not (tree.args.get("order") or tree.args.get("offset")):
        raise planning(f"LIMIT is not currently supported (Limit: skip=0, fetch={amount.name})")
