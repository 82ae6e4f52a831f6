"""Programs: tables, views and inserts, one statement after the other, up to the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import Token, exp

from airflow_provider_arroyo.sandbox.sql.ddl import read_create_table
from airflow_provider_arroyo.sandbox.sql.diagnostics import (
    RefusedError,
    UnjudgedError,
    no_field,
    not_implemented,
    planning,
    quote,
    schema_error,
)
from airflow_provider_arroyo.sandbox.sql.generators import Connection
from airflow_provider_arroyo.sandbox.sql.model import CatalogTable
from airflow_provider_arroyo.sandbox.sql.parsing import (
    Text,
    arg,
    check_shape,
    check_start,
    identifier,
    no_rows,
    parse,
    parse_query,
    word,
)
from airflow_provider_arroyo.sandbox.sql.plan import Field, Later, Plan, sink_input
from airflow_provider_arroyo.sandbox.sql.queries import QueryPlanner
from airflow_provider_arroyo.sandbox.sql.statements import created_object, read_create_view, read_set
from airflow_provider_arroyo.sandbox.sql.steps import Step, forward
from airflow_provider_arroyo.sandbox.sql.tables import Creator, Table, from_server
from airflow_provider_arroyo.sandbox.sql.udfs import Udf
from airflow_provider_arroyo.sandbox.sql.windows import nanoseconds


@dataclass(slots=True)
class _Write:
    """A query and where its rows go: a table by its name in small letters, or the preview."""

    table: str | None
    plan: Plan
    later: Later


@dataclass(slots=True)
class Program:
    """Takes statements, and makes the steps of a graph of them.

    :param text: the whole query.
    :param arroyo_version: whose words to use.
    :param udfs: the user-defined functions.
    :param not_judged: where it notes what it accepts without a check.
    """

    text: Text
    arroyo_version: str
    udfs: Mapping[str, Udf]
    not_judged: dict[str, None] = field(default_factory=dict)
    _tables: dict[str, Table] = field(default_factory=dict)
    _writes: list[_Write] = field(default_factory=list)

    def add_catalog(self, table: CatalogTable) -> None:
        """Make a connection table of the server known."""
        made = from_server(table, self.arroyo_version)
        if made.is_open:
            self.not_judged[f"the columns of the table {table.name}"] = None
        self._tables[table.name.lower()] = made

    def statement(self, tokens: list[Token]) -> None:
        """Take one statement.

        :raises RefusedError: Arroyo refuses it.
        :raises UnjudgedError: it is not known here.
        """
        first = check_start(self.text, tokens)
        check_shape(self.text, tokens)
        if first == "CREATE":
            self._create(tokens)
        elif first == "SET":
            self._set(*read_set(self.text, tokens))
        elif first == "INSERT":
            self._insert(parse(self.text, tokens))
        elif first in ("SELECT", "WITH", "VALUES", "FROM", "("):
            tree = parse_query(self.text, tokens)
            if isinstance(tree, exp.Insert):
                self._insert(tree)
                return
            plan, later = self._planned(tree)
            self._writes.append(_Write(None, plan, later))
        elif first == "EXPLAIN":
            raise planning("EXPLAIN is not supported (Explain)")
        else:
            whole = self.text.text[tokens[0].start : tokens[-1].end + 1]
            raise not_implemented(f"Unsupported SQL statement: {whole}")

    def _create(self, tokens: list[Token]) -> None:
        what = created_object(self.text, tokens)
        if what == "VIEW":
            view = read_create_view(self.text, tokens)
            plan = self._settled(view.query)
            self._add_view(view.name, plan.aliased(view.name, view.columns) if view.columns else plan)
        elif what == "TABLE":
            created = read_create_table(self.text, tokens)
            if created.query is not None:
                self._add_view(created.name, self._settled(created.query))
                return
            made = Creator(self.arroyo_version, self.udfs, self.not_judged).create(created)
            self._tables[created.name.lower()] = made
        else:
            raise UnjudgedError(f"the statement CREATE {what}")

    def accept(self, tokens: Sequence[Token], reason: str) -> None:
        """Take a statement without a check, as far as its tables can be told.

        :param tokens: the statement.
        :param reason: what is not known about it.
        """
        self.not_judged[reason] = None
        words = [word(token).split(" ")[0] for token in tokens]
        steps: list[Step] = []
        for before, token in zip(words, tokens[1:], strict=False):
            table = self._tables.get(token.text.lower()) if before in ("FROM", "JOIN", ",") else None
            if table is not None and (table.plan is not None or table.is_source):
                steps.extend(self._scanned(token.text.lower(), table).steps)
        steps = steps or [Step("unknown", "source", kind="source")]
        plan = Plan(fields=(), steps=(forward("value_{}", "not judged", steps),), is_open=True)
        if words[0] == "INSERT" and len(tokens) > 2:
            name = tokens[2].text.lower()
            known = self._tables.get(name)
            writable = known is not None and known.connection is not None and not known.is_source
            self._writes.append(_Write(name if writable else None, plan, Later()))
        elif words[0] == "CREATE":
            place = next((i for i, w in enumerate(words) if w in ("VIEW", "TABLE")), 0)
            name = tokens[min(place + 1, len(tokens) - 1)].text.lower()
            self._tables[name] = Table(name, [], plan=plan, is_open=True)
        elif words[0] != "SET":
            self._writes.append(_Write(None, plan, Later()))

    # --- views and settings ---------------------------------------------------------------------------

    def _add_view(self, name: str, plan: Plan) -> None:
        step = forward("value_{}", name, plan.steps, key=("table", name))
        columns = [(f.name, f.type) for f in plan.fields]
        view = replace(plan, steps=(step,), lookup=None)
        self._tables[name.lower()] = Table(name, columns, plan=view, is_open=plan.is_open)

    @staticmethod
    def _set(name: str, value: exp.Expression) -> None:
        if name != "updating_ttl":
            raise planning(f"invalid option '{name}'; supported options are 'updating_ttl'")
        try:
            nanoseconds(value)
        except RefusedError as refusal:
            raise planning(f"expected an interval, but found '{value.sql()[:200]}'") from refusal

    # --- queries --------------------------------------------------------------------------------------

    def _planned(self, tree: exp.Expression) -> tuple[Plan, Later]:
        later = Later()
        planner = QueryPlanner(lambda name: self._scan(name, later), self.udfs, later, self.not_judged)
        return planner.plan(tree), later

    def _settled(self, tree: exp.Expression) -> Plan:
        plan, later = self._planned(tree)
        later.settle()
        return plan

    def _scan(self, name: str, later: Later) -> Plan | None:
        table = self._tables.get(name.lower())
        if table is None:
            return None
        if table.in_memory and table.plan is None:
            later.rewriting(
                planning(f"Can't query from memory table {table.name} without first inserting into it.")
            )
        elif table.connection is not None and table.connection.type == "sink":
            if self.arroyo_version == "0.15":
                later.building(planning("cannot read from sink"))
            else:
                later.rewriting(planning(f"attempted to read from table '{table.name}', but it is a sink"))
        return self._scanned(name, table)

    @staticmethod
    def _scanned(name: str, table: Table) -> Plan:
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
        updating = table.updating and table.is_source
        return Plan(fields, (watermark,), bare=True, updating=updating, is_open=table.is_open)

    # --- inserts --------------------------------------------------------------------------------------

    def _insert(self, tree: exp.Expression) -> None:
        target, columns = tree.this, []
        if isinstance(target, exp.Schema):
            columns = [identifier(column) for column in target.expressions]
            target = target.this
        query = tree.args.get("expression")
        if query is None and not tree.args.get("default"):
            raise no_rows(self.text)
        if not isinstance(target, exp.Table) or not isinstance(query, exp.Expression):
            raise UnjudgedError("the statement INSERT")
        clause = arg(tree, "with")
        if clause is not None and arg(query, "with") is None:
            query.set("with_" if "with_" in query.arg_types else "with", clause)
        plan, later = self._planned(query)
        parts = [target.args[part] for part in ("catalog", "db", "this") if target.args.get(part)]
        name = ".".join(identifier(part) for part in parts).lower()
        table = self._tables.get(name)
        if table is None:
            raise planning(f"table {'.'.join(str(part.this) for part in parts)} not found")
        _check_insert(table, plan, columns)
        if table.in_memory:
            if table.plan is not None:
                later.rewriting(planning("Can only insert into a memory table once"))
            fields = tuple(Field(name, column, kind) for column, kind in table.fields)
            table.plan = replace(plan, fields=fields, bare=False, parts=())
        self._writes.append(_Write(name, plan, later))

    def sinks(self) -> list[Step]:
        """Return the steps that write, one for each table.

        :raises RefusedError: a table cannot be written to, or nothing is written at all.
        """
        if not self._writes:
            raise planning("The provided SQL does not contain a query")
        inputs: dict[str, list[Step]] = {}
        order: list[tuple[_Write, list[Step]]] = []
        built: list[RefusedError] = []
        for write in self._writes:
            write.later.settle_rewriting()
            table = self._tables[write.table] if write.table is not None else None
            if table is not None and table.in_memory:
                continue
            if table is not None:
                self._check_sink(table, write.plan)
            built += write.later.at_building()
            try:
                feeding = sink_input(write.plan)
            except RefusedError as refusal:
                built.append(refusal)
                continue
            if write.table in inputs:
                inputs[write.table].extend(feeding)
                continue
            order.append((write, list(feeding)))
            if write.table is not None:
                inputs[write.table] = order[-1][1]
        if built:
            raise built[0]
        return [self._sink(write, feeding) for write, feeding in order]

    def _check_sink(self, table: Table, plan: Plan) -> None:
        if table.connection is None:
            raise planning("shouldn't be inserting more data into a table made with CREATE TABLE AS")
        if table.connection.type == "lookup":
            raise planning("lookup (temporary) tables cannot be inserted into")
        if table.connection.type == "source" and self.arroyo_version != "0.15":
            raise planning(f"attempted to insert into table '{table.name}', but it is a source")
        if plan.updating and not table.updating:
            raise planning(
                "input is updating, but sink is not configured as an updating sink (hint: use `format = "
                "'debezium_json'`)"
            )

    def _sink(self, write: _Write, inputs: Sequence[Step]) -> Step:
        if write.table is not None:
            table = self._tables[write.table]
        else:
            table = Table("preview", [(f.name, f.type) for f in write.plan.fields])
        connection = table.connection or Connection("preview", "sink", "PreviewSink")
        return Step(
            connection.connector,
            connection.description,
            tuple(inputs),
            ("Forward",) * len(inputs),
            key=None if write.table is None else ("sink", write.table),
            kind="sink",
            table=table,
        )


def _check_insert(table: Table, plan: Plan, columns: Sequence[str]) -> None:
    """Refuse rows whose columns do not go with those of the table."""
    if plan.is_open or table.is_open:
        return
    if table.connection is not None and (table.inferred or not table.fields):
        fields = [(f.name, f.type) for f in plan.fields]
        if table.inferred and fields != table.fields:
            raise planning("all inserts into a table must share the same schema")
        table.fields, table.inferred = fields, True
        return
    names = [name for name, _ in table.fields]
    for place, column in enumerate(columns):
        if column not in names:
            raise no_field(None, column, [(None, name) for name in names], None, located=False)
        if column in columns[:place]:
            raise schema_error(f"Schema contains duplicate unqualified field name {quote(column)}")
    if len(plan.fields) != len(columns or names):
        raise planning("Column count doesn't match insert query!")
