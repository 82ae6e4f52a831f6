"""The tables that SQL can name: those of the server, and those that it creates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql import connectors
from airflow_provider_arroyo.sandbox.sql.connectors import Connection, Options
from airflow_provider_arroyo.sandbox.sql.refusals import in_table, no_column, planning
from airflow_provider_arroyo.sandbox.sql.shape import Flow
from airflow_provider_arroyo.sql.dialect import Metadata, Option, Watermark, properties, table_name
from airflow_provider_arroyo.sql.errors import RefusedError

# The Arrow names of integer types, by their names in SQL and in sqlglot.
_INTEGERS = {
    **{"INT": "Int32", "INTEGER": "Int32", "INT4": "Int32", "BIGINT": "Int64"},
    **{"INT UNSIGNED": "UInt32", "INTEGER UNSIGNED": "UInt32", "UINT": "UInt32"},
    **{"BIGINT UNSIGNED": "UInt64", "UBIGINT": "UInt64"},
}
# Other types that columns of connectors can certainly have, by sqlglot's names.
_TYPES = re.compile(
    "BOOLEAN|FLOAT|DOUBLE|CHAR|VARCHAR|TEXT|VARBINARY|TIMESTAMP(_N?M?S)?|DATETIME|JSON|STRUCT|ARRAY"
)


@dataclass(slots=True)
class Table:
    """A table that SQL can name.

    :param name: its name as it was written when it was created.
    :param columns: by name, the Arrow type if it is an integer type, else None.
    :param connection: its connector; None for a view or a memory table.
    :param flow: the rows of a view, or of a memory table that was written to.
    :param in_memory: whether it is a memory table.
    :param updating: whether its format has updates of rows.
    :param is_open: whether it may have other columns.
    """

    name: str
    columns: dict[str, str | None] = field(default_factory=dict)
    connection: Connection | None = None
    flow: Flow | None = None
    in_memory: bool = False
    updating: bool = False
    is_open: bool = False

    @property
    def kind(self) -> str:
        """``source``, ``sink`` or ``lookup``; empty for a table without a connector."""
        return "" if self.connection is None else self.connection.type

    def check_insert(self, columns: Sequence[str], count: int | None) -> None:
        """Check that the rows of an INSERT fit its columns.

        :param columns: the columns that the INSERT names; empty: all.
        :param count: how many columns the rows have; None: that is not known.
        :raises RefusedError: if they do not fit.
        """
        if self.is_open:
            return
        for column in columns:
            if column not in self.columns:
                raise no_column((None, column), [(None, name) for name in self.columns], None)
        if count is not None and count != len(columns or self.columns):
            raise planning("Column count doesn't match insert query!")


def from_server(table: Mapping[str, Any], arroyo_version: str) -> Table:
    """Return the table for a connection table of the server, given as the API returns it."""
    config, fields = table["config"] or {}, table["schema"]["fields"]
    made = connectors.from_config(table["connector"], config, table["table_type"], arroyo_version)
    columns = {field["name"]: field["sql_name"] or "" for field in fields} or made.columns
    return Table(table["name"], _integers(columns), made, is_open=not columns or made.type == "sink")


def from_statement(tree: exp.Create, arroyo_version: str, not_judged: dict[str, None]) -> Table:
    """Return the table that a CREATE TABLE without a query creates.

    :raises RefusedError: if Arroyo refuses it.
    """
    schema = tree.this if isinstance(tree.this, exp.Schema) else exp.Schema(this=tree.this)
    name = table_name(schema.this)
    parts = properties(tree)
    options = Options(
        {p.args["name"]: (p.args["kind"], p.args["text"]) for p in parts if isinstance(p, Option)}
    )
    if any(isinstance(part, exp.PartitionedByProperty) for part in parts):
        not_judged["PARTITIONED BY"] = None
    items = schema.expressions
    columns = {item.name: _column(item, not_judged) for item in items if isinstance(item, exp.ColumnDef)}
    connector = options.text("connector")
    if connector is None or connector == "memory":
        if options:
            hint = "" if connector else "; to create a connection table set the 'connector' option"
            raise planning(f"Memory tables do not allow with options{hint}")
        return Table(name, columns, in_memory=True)
    profile = options.text("connection_profile")
    if profile is not None:
        not_judged[f"the connection profile {profile}"] = None
    watermarks = [item for item in items if isinstance(item, Watermark)]
    for item in items:
        if isinstance(item, exp.PrimaryKey | exp.ForeignKey | exp.Constraint):
            raise planning(f"Unsupported table constraint `{item.sql('postgres')}`")
    if len(watermarks) > 1:
        raise planning("Only one WATERMARK FOR constraint is allowed per table")
    try:
        if any(isinstance(part, exp.TemporaryProperty) for part in parts):
            kind = options.text("type") or "lookup"
            if kind != "lookup":
                only = "temporary tables must be type 'lookup'"
                raise planning(f"Cannot have a temporary table with type '{kind}'; {only}")
            options["type"] = ("string", kind)
        updating = options.get("format") == ("string", "debezium_json")
        made = connectors.create(
            connector,
            options,
            arroyo_version=arroyo_version,
            profile=profile is not None,
            not_judged=not_judged,
        )
        for watermark in watermarks:
            not_judged["WATERMARK FOR"] = None
            if watermark.name not in columns:
                raise planning(f"WATERMARK FOR field `{watermark.name}` does not exist in table")
    except RefusedError as refusal:
        raise in_table(name, refusal) from refusal
    if (columns and made.columns) or (updating and made.type == "source"):
        not_judged[f"the columns of the table {name}"] = None
    known = columns or _integers(made.columns)
    return Table(name, known, made, updating=updating, is_open=not known)


def _column(column: exp.ColumnDef, not_judged: dict[str, None]) -> str | None:
    """Return the Arrow type of a column if it is an integer type; note what is not checked about the column."""
    kind = column.args.get("kind")
    kinds = list(kind.find_all(exp.DataType)) if isinstance(kind, exp.DataType) else []
    names = [one.this.name if isinstance(one.this, exp.DataType.Type) else "" for one in kinds] or [""]
    if any(name not in _INTEGERS and not _TYPES.fullmatch(name) for name in names):
        shown = kind.sql()[:50] if isinstance(kind, exp.Expression) else "?"
        not_judged[f"the type {shown} of the column {column.name}"] = None
    for constraint in column.args.get("constraints") or []:
        if not isinstance(constraint.kind, exp.NotNullColumnConstraint | exp.PrimaryKeyColumnConstraint):
            found = "METADATA FROM" if isinstance(constraint.kind, Metadata) else "the expression"
            not_judged[f"{found} of the column {column.name}"] = None
    return _INTEGERS.get(names[0])


def _integers(columns: Mapping[str, str]) -> dict[str, str | None]:
    return {name: _INTEGERS.get(kind.upper()) for name, kind in columns.items()}
