"""Programs: tables, views and inserts, one statement after the other, up to the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import Token, exp

from airflow_provider_arroyo.sandbox.sql import connectors
from airflow_provider_arroyo.sandbox.sql.connectors import Connection, Options
from airflow_provider_arroyo.sandbox.sql.ddl import Column, CreateTable, is_create_table, read_create_table
from airflow_provider_arroyo.sandbox.sql.diagnostics import (
    RefusedError,
    UnjudgedError,
    in_table,
    not_implemented,
    planning,
    schema_error,
)
from airflow_provider_arroyo.sandbox.sql.model import CatalogTable, Sink, Source
from airflow_provider_arroyo.sandbox.sql.parsing import (
    Text,
    arg,
    check_shape,
    check_start,
    identifier,
    parse,
    word,
)
from airflow_provider_arroyo.sandbox.sql.plan import Field, Later, Plan, nanoseconds, sink_input
from airflow_provider_arroyo.sandbox.sql.queries import QueryPlanner
from airflow_provider_arroyo.sandbox.sql.resolve import Resolver, Scope
from airflow_provider_arroyo.sandbox.sql.steps import Graph, Step, forward
from airflow_provider_arroyo.sandbox.sql.types import Type, from_catalog
from airflow_provider_arroyo.sandbox.sql.udfs import Udf


@dataclass(slots=True)
class Table:
    """A table that SQL may name.

    :param name: its name as it was created.
    :param fields: its columns; empty for a sink that takes what it gets.
    :param connection: its connector; None for a view or a table in memory.
    :param plan: what a view, or a table in memory that was written to, yields.
    :param updating: whether its format tells of rows that change.
    :param primary_keys: its primary keys.
    :param is_open: whether it may have columns that are not known.
    """

    name: str
    fields: list[tuple[str, Type | None]]
    connection: Connection | None = None
    plan: Plan | None = None
    updating: bool = False
    primary_keys: frozenset[str] = frozenset()
    is_open: bool = False
    inferred: bool = False


@dataclass(slots=True)
class Program:
    """Takes statements, and makes a graph of them.

    :param text: the whole query.
    :param arroyo_version: whose words to use.
    :param udfs: the user-defined functions.
    """

    text: Text
    arroyo_version: str
    udfs: Mapping[str, Udf]
    tables: dict[str, Table] = field(default_factory=dict)
    not_judged: dict[str, None] = field(default_factory=dict)
    queries: int = 0
    _writes: list[tuple[str, Plan]] = field(default_factory=list)

    def add_catalog(self, table: CatalogTable) -> None:
        """Make a connection table of the server known."""
        connection = connectors.from_config(table.connector, table.config, table.table_type)
        columns = [(name, from_catalog(kind)) for name, kind in table.columns]
        fields = columns or list(connection.columns)
        is_open = not fields and connection.type != "sink"
        if is_open:
            self.not_judged[f"the columns of the table {table.name}"] = None
        self.tables[table.name.lower()] = Table(table.name, fields, connection, is_open=is_open)

    def statement(self, tokens: list[Token]) -> None:
        """Take one statement.

        :raises RefusedError: Arroyo refuses it.
        """
        first = check_start(self.text, tokens)
        check_shape(self.text, tokens)
        if first == "CREATE" and is_create_table(tokens):
            self._create_table(read_create_table(self.text, tokens))
        elif first in ("SELECT", "WITH", "VALUES", "FROM", "(") or first in ("INSERT", "CREATE", "SET"):
            self._tree(first, parse(self.text, tokens))
        elif first == "EXPLAIN":
            raise planning("EXPLAIN is not supported (Explain)")
        else:
            whole = self.text.text[tokens[0].start : tokens[-1].end + 1]
            raise not_implemented(f"Unsupported SQL statement: {whole}")

    def _tree(self, first: str, tree: exp.Expression) -> None:
        if isinstance(tree, exp.Insert):
            self._insert(tree)
        elif isinstance(tree, exp.Create) and str(tree.args.get("kind")).upper() == "VIEW":
            self._view(tree)
        elif first == "SET":
            self._set(tree)
        elif isinstance(tree, exp.Query | exp.Values | exp.Subquery | exp.Table) and first not in (
            "CREATE",
            "INSERT",
        ):
            self.queries += 1
            self._writes.append(("", self._planned(tree)))
        else:
            raise UnjudgedError(f"the statement {first}")

    def accept(self, tokens: Sequence[Token], reason: str) -> None:
        """Take a statement without a check, as far as its tables can be told.

        :param tokens: the statement.
        :param reason: what is not known about it.
        """
        self.not_judged[reason] = None
        words = [word(token).split(" ")[0] for token in tokens]
        steps: list[Step] = []
        for place, token in enumerate(tokens[1:]):
            if words[place] not in ("FROM", "JOIN", ","):
                continue
            table = self.tables.get(token.text.lower())
            if table is not None and (table.plan is not None or _reads(table)):
                steps.extend(self._scan_table(token.text.lower(), table).steps)
        steps = steps or [Step("unknown", "source", kind="source")]
        plan = Plan(fields=(), steps=(forward("value_{}", "not judged", steps),), is_open=True)
        if words[0] == "INSERT" and len(tokens) > 2:
            self.queries += 1
            self._writes.append((tokens[2].text.lower(), plan))
        elif words[0] == "CREATE":
            place = next((i for i, w in enumerate(words) if w in ("VIEW", "TABLE")), 0)
            name = tokens[min(place + 1, len(tokens) - 1)].text.lower()
            self.tables[name] = Table(name, [], plan=plan, is_open=True)
        else:
            self.queries += 1
            self._writes.append(("", plan))

    # --- tables ---------------------------------------------------------------------------------------

    def _create_table(self, created: CreateTable) -> None:
        name = created.name
        if created.query is not None:
            plan = self._planned(created.query)
            self._add_view(name, plan)
            return
        fields = [(column.name, column.type) for column in created.columns]
        self._check_generated(created)
        options = Options(created.options)
        connector = options.text("connector")
        if connector in (None, "memory"):
            self._memory_table(created, options, connector)
            return
        assert connector is not None  # noqa: S101 - for mypy; told by the line above
        if options.text("connection_profile") is not None:
            self.not_judged["connection profiles"] = None
        for constraint in created.constraints:
            raise planning(f"Unsupported table constraint `{constraint}`")
        if len(created.watermarks) > 1:
            raise planning("Only one WATERMARK FOR constraint is allowed per table")
        try:
            table = self._connector_table(created, connector, options, fields)
        except RefusedError as refusal:
            first = refusal.diagnostics[0].text.removeprefix("Error during planning: ")
            raise in_table(name, first) from refusal
        self.tables[name.lower()] = table

    def _connector_table(
        self, created: CreateTable, connector: str, options: Options, fields: list[tuple[str, Type | None]]
    ) -> Table:
        format_option = created.options.get("format")
        updating = format_option is not None and format_option.text == "debezium_json"
        if updating and any(column.generated is not None for column in created.columns):
            raise planning("can't use virtual fields with debezium format")
        if created.temporary:
            kind = options.text("type")
            if kind not in (None, "lookup"):
                raise planning(
                    f"Cannot have a temporary table with type '{kind}'; temporary tables must be type 'lookup'"
                )
            options = options.with_text("type", "lookup")
        connection = connectors.create(connector, options)
        if not connection.judged:
            self.not_judged[f"the options of the connector {connector}"] = None
        if connection.columns and fields and fields != list(connection.columns):
            own = "; omit fields to rely on inference" if connector == "nexmark" else ""
            raise planning(f"invalid schema for {connector} source{own}")
        keys = frozenset(column.name for column in created.columns if column.primary)
        self._check_watermark(created)
        if connection.type == "source" and updating and not keys:
            raise planning("Debezium source must have at least one PRIMARY KEY field")
        return Table(created.name, fields or list(connection.columns), connection, None, updating, keys)

    def _memory_table(self, created: CreateTable, options: Options, connector: str | None) -> None:
        if any(column.generated is not None for column in created.columns):
            raise planning("Virtual fields are not supported in memory tables; instead write a query")
        if len(options):
            hint = "" if connector else "; to create a connection table set the 'connector' option"
            raise planning(f"Memory tables do not allow with options{hint}")
        fields = [(column.name, column.type) for column in created.columns]
        self.tables[created.name.lower()] = Table(created.name, fields)

    def _resolver(self) -> Resolver:
        def refuse(_node: exp.Expression, _scope: Scope) -> Plan:
            raise UnjudgedError("a query inside of the expression of a column")

        return Resolver(self.udfs, refuse, self.not_judged)

    def _check_generated(self, created: CreateTable) -> None:
        plain = [Field(created.name.lower(), c.name, c.type) for c in created.columns if c.generated is None]
        for column in created.columns:
            if column.generated is not None:
                resolver = self._resolver()
                resolver.resolve(column.generated, Scope(Plan(tuple(plain))))
                resolver.settle()

    def _check_watermark(self, created: CreateTable) -> None:
        for name, expression in created.watermarks:
            column: Column | None = next((c for c in created.columns if c.name == name), None)
            if column is None:
                raise planning(f"WATERMARK FOR field `{name}` does not exist in table")
            if column.type is not None and not column.type.name.startswith("Timestamp("):
                raise planning(
                    f'WATERMARK FOR field `"{name}"` has type {column.type.name}, but expected TIMESTAMP'
                )
            if expression is not None:
                plain = [
                    Field(created.name.lower(), c.name, c.type)
                    for c in created.columns
                    if c.generated is None
                ]
                self._resolver().resolve(expression, Scope(Plan(tuple(plain))))

    def _view(self, tree: exp.Create) -> None:
        target, columns = tree.this, []
        if isinstance(target, exp.Schema):
            columns = [identifier(c.this if isinstance(c, exp.ColumnDef) else c) for c in target.expressions]
            target = target.this
        if not isinstance(target, exp.Table) or tree.expression is None:
            raise UnjudgedError("the statement CREATE VIEW")
        name = identifier(target.this)
        plan = self._planned(tree.expression)
        if columns:
            plan = plan.aliased(name, columns)
        self._add_view(name, plan)

    def _add_view(self, name: str, plan: Plan) -> None:
        step = forward("value_{}", name, plan.steps, key=("table", name))
        self.tables[name.lower()] = Table(
            name,
            [(f.name, f.type) for f in plan.fields],
            plan=replace(plan, steps=(step,)),
            is_open=plan.is_open,
        )

    def _set(self, tree: exp.Expression) -> None:
        items = tree.expressions if isinstance(tree, exp.Set) else []
        if len(items) != 1 or not isinstance(items[0].this, exp.EQ):
            raise UnjudgedError("the statement SET")
        name, value = items[0].this.this, items[0].this.expression
        if name.sql() != "updating_ttl":
            raise planning(f"invalid option '{name.sql()}'; supported options are 'updating_ttl'")
        try:
            nanoseconds(value)
        except RefusedError as refusal:
            raise planning(f"expected an interval, but found '{value.sql()[:200]}'") from refusal

    # --- queries --------------------------------------------------------------------------------------

    def _planned(self, tree: exp.Expression) -> Plan:
        later = Later()
        plan = QueryPlanner(lambda name: self._scan(name, later), self.udfs, later, self.not_judged).plan(
            tree
        )
        later.settle()
        return plan

    def _scan(self, name: str, later: Later) -> Plan | None:
        table = self.tables.get(name.lower())
        if table is None:
            return None
        if table.connection is None and table.plan is None:
            later.rewriting(
                planning(f"Can't query from memory table {table.name} without first inserting into it.")
            )
        elif table.connection is not None and table.connection.type == "sink":
            if self.arroyo_version == "0.15":
                later.building(planning("cannot read from sink"))
            else:
                later.rewriting(planning(f"attempted to read from table '{table.name}', but it is a sink"))
        return self._scan_table(name, table)

    def _scan_table(self, name: str, table: Table) -> Plan:
        fields = tuple(Field(name, column, kind) for column, kind in table.fields)
        if table.connection is None:
            if table.plan is None:
                return Plan(fields, is_open=table.is_open)
            return replace(table.plan, fields=fields, bare=False, parts=())
        if table.connection.type == "lookup":
            return Plan(fields, lookup=(table.name, table.primary_keys), is_open=table.is_open)
        source = Step(
            table.connection.connector,
            table.connection.description,
            key=("source", name),
            kind="source",
            table=table,
        )
        value = forward("value_{}", name, (source,), key=("table", name))
        watermark = forward("watermark_{}", "watermark", (value,), key=("watermark", name))
        return Plan(
            fields, (watermark,), bare=True, updating=table.updating and _reads(table), is_open=table.is_open
        )

    def _insert(self, tree: exp.Insert) -> None:
        target = tree.this
        columns = []
        if isinstance(target, exp.Schema):
            columns = [identifier(column) for column in target.expressions]
            target = target.this
        if not isinstance(target, exp.Table) or not isinstance(tree.expression, exp.Expression):
            raise UnjudgedError("the statement INSERT")
        parts = [target.args[part] for part in ("catalog", "db", "this") if target.args.get(part)]
        name = ".".join(identifier(part) for part in parts)
        written = ".".join(str(part.this) for part in parts)
        query = tree.expression
        clause = arg(tree, "with")
        if clause is not None and arg(query, "with") is None:
            query.set("with_" if "with_" in query.arg_types else "with", clause)
        plan = self._planned(query)
        self.queries += 1
        table = self.tables.get(name.lower())
        if table is None:
            raise planning(f"table {written} not found")
        self._check_insert(table, plan, columns)
        if table.connection is None and table.plan is None:
            fields = [Field(name, column, kind) for column, kind in table.fields]
            table.plan = replace(plan, fields=tuple(fields), bare=False, parts=())
            self.queries -= 1
            self._memory_written = True
            return
        self._writes.append((name.lower(), plan))

    _memory_written: bool = False

    def _check_insert(self, table: Table, plan: Plan, columns: Sequence[str]) -> None:
        if plan.is_open or table.is_open:
            return
        if not table.fields or table.inferred:
            fields = [(f.name, f.type) for f in plan.fields]
            if table.connection is not None and table.fields and fields != table.fields:
                raise planning("all inserts into a table must share the same schema")
            if table.connection is not None:
                table.fields, table.inferred = fields, True
                return
        names = [name for name, _ in table.fields]
        for place, column in enumerate(columns):
            if column not in names:
                valid = ", ".join(names)
                raise schema_error(f"No field named {column}. Valid fields are {valid}.")
            if column in columns[:place]:
                raise schema_error(f"Schema contains duplicate unqualified field name {column}")
        if len(plan.fields) != len(columns or names):
            raise planning("Column count doesn't match insert query!")

    # --- the graph ------------------------------------------------------------------------------------

    def sinks(self) -> list[Step]:
        """Return the steps that write, one for each table.

        :raises RefusedError: a table cannot be written to, or nothing is written at all.
        """
        if not self.queries and not self._memory_written:
            raise planning("The provided SQL does not contain a query")
        made: dict[str, Step] = {}
        unnamed: list[Step] = []
        order: list[Step] = []
        for name, plan in self._writes:
            inputs = self._sink_input(name, plan)
            if name and name in made:
                made[name].inputs = (*made[name].inputs, *inputs)
                made[name].edges = ("Forward",) * len(made[name].inputs)
                continue
            table = self.tables[name] if name else Table("preview", [(f.name, f.type) for f in plan.fields])
            connection = table.connection or Connection("preview", "sink", "PreviewSink")
            step = Step(
                connection.connector,
                connection.description,
                inputs,
                ("Forward",) * len(inputs),
                key=("sink", name) if name else None,
                kind="sink",
                table=table,
            )
            made[name] = step
            order.append(step)
            if not name:
                unnamed.append(step)
        return order

    def _sink_input(self, name: str, plan: Plan) -> tuple[Step, ...]:
        if name:
            table = self.tables.get(name)
            if table is None or table.connection is None:
                raise planning(
                    "shouldn't be inserting more data into a table made with CREATE TABLE AS"
                    if table is not None and table.plan is not None
                    else f"Connection {name} not found"
                )
            if table.connection.type == "lookup":
                raise planning("cannot use a lookup table as a sink")
            if table.connection.type == "source" and self.arroyo_version != "0.15":
                raise planning(f"attempted to insert into table '{table.name}', but it is a source")
            if plan.updating and not table.updating:
                raise planning(
                    "input is updating, but sink is not configured as an updating sink (hint: use `format = "
                    "'debezium_json'`)"
                )
        return sink_input(plan)


def _reads(table: Table) -> bool:
    return table.connection is not None and table.connection.type == "source"


def build(sinks: Sequence[Step]) -> Graph:
    """Return the graph of some sinks and all that feeds them, chained."""
    graph = Graph()
    for sink in sinks:
        graph.add(sink)
    graph.chain()
    return graph


def described(graph: Graph) -> tuple[tuple[Source, ...], tuple[Sink, ...]]:
    """Return the sources and the sinks of a graph."""
    sources: list[Source] = []
    sinks: list[Sink] = []
    for node in graph.nodes:
        table = node.step.table
        if not isinstance(table, Table):
            continue
        connection = table.connection
        if node.kind == "source" and connection is not None:
            sources.append(
                Source(
                    table.name,
                    connection.connector,
                    connection.event_rate,
                    connection.message_count,
                    connection.path,
                    node.id,
                )
            )
        elif node.kind == "sink":
            columns = tuple((name, "?" if kind is None else kind.name) for name, kind in table.fields)
            sinks.append(Sink(table.name, node.operators[0], node.id, columns))
    return tuple(sources), tuple(sinks)
