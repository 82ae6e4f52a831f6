"""Tables: those of the server, and those that the SQL creates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql import connectors
from airflow_provider_arroyo.sandbox.sql.ddl import Column, CreateTable
from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, UnjudgedError, in_table, planning
from airflow_provider_arroyo.sandbox.sql.generators import Connection
from airflow_provider_arroyo.sandbox.sql.model import CatalogTable
from airflow_provider_arroyo.sandbox.sql.options import Options
from airflow_provider_arroyo.sandbox.sql.plan import Field, Plan
from airflow_provider_arroyo.sandbox.sql.resolve import Resolver
from airflow_provider_arroyo.sandbox.sql.scope import Scope
from airflow_provider_arroyo.sandbox.sql.types import Type, from_catalog
from airflow_provider_arroyo.sandbox.sql.udfs import Udf

# How SQL writes the types that a message's envelope has, and some more.
_SQL_NAMES = {
    "Utf8": "TEXT",
    "Int32": "INT",
    "Int64": "BIGINT",
    "Binary": "BYTEA",
    "Float64": "DOUBLE",
    "Float32": "FLOAT",
    "Boolean": "BOOLEAN",
    "UInt64": "BIGINT UNSIGNED",
    "UInt32": "INT UNSIGNED",
}


@dataclass(slots=True)
class Table:
    """A table that SQL may name.

    :param name: its name as it was created.
    :param fields: its columns; empty for a sink that takes what it gets.
    :param connection: its connector; None for a view or a table in memory.
    :param plan: what a view, or a table in memory that was written to, yields.
    :param in_memory: whether it is a table in memory.
    :param updating: whether its format tells of rows that change.
    :param primary_keys: its primary keys.
    :param is_open: whether it may have columns that are not known.
    :param inferred: whether its columns are those of what was first inserted.
    """

    name: str
    fields: list[tuple[str, Type | None]]
    connection: Connection | None = None
    plan: Plan | None = None
    in_memory: bool = False
    updating: bool = False
    primary_keys: frozenset[str] = frozenset()
    is_open: bool = False
    inferred: bool = False

    @property
    def is_source(self) -> bool:
        """Whether rows come from it."""
        return self.connection is not None and self.connection.type == "source"


def from_server(table: CatalogTable, arroyo_version: str) -> Table:
    """Return a connection table of the server."""
    connection = connectors.from_config(
        table.connector, table.config, table.table_type, arroyo_version=arroyo_version
    )
    fields = [(name, from_catalog(kind)) for name, kind in table.columns] or list(connection.columns)
    return Table(table.name, fields, connection, is_open=not fields and connection.type != "sink")


@dataclass(slots=True)
class Creator:
    """Creates tables.

    :param arroyo_version: whose words to use.
    :param udfs: the user-defined functions.
    :param not_judged: where it notes what it accepts without a check.
    """

    arroyo_version: str
    udfs: Mapping[str, Udf]
    not_judged: dict[str, None]

    def create(self, created: CreateTable) -> Table:
        """Return the table that a CREATE TABLE makes.

        :raises RefusedError: Arroyo refuses it.
        """
        for column in created.columns:
            if column.generated is not None:
                resolver = self._resolver()
                resolver.resolve(column.generated, self._plain_columns(created))
                resolver.settle()
        options = Options(created.options)
        connector = options.text("connector")
        if connector is None or connector == "memory":
            return self._in_memory(created, options, connector)
        profile = options.text("connection_profile") is not None
        if profile:
            self.not_judged["connection profiles"] = None
        for constraint in created.constraints:
            raise planning(f"Unsupported table constraint `{constraint}`")
        if len(created.watermarks) > 1:
            raise planning("Only one WATERMARK FOR constraint is allowed per table")
        try:
            return self._connected(created, connector, options, profile=profile)
        except RefusedError as refusal:
            raise in_table(
                created.name, refusal.diagnostics[0].text.removeprefix("Error during planning: ")
            ) from refusal

    @staticmethod
    def _in_memory(created: CreateTable, options: Options, connector: str | None) -> Table:
        if any(column.generated is not None for column in created.columns):
            raise planning("Virtual fields are not supported in memory tables; instead write a query")
        if len(options):
            hint = "" if connector else "; to create a connection table set the 'connector' option"
            raise planning(f"Memory tables do not allow with options{hint}")
        return Table(created.name, [(c.name, c.type) for c in created.columns], in_memory=True)

    def _connected(self, created: CreateTable, connector: str, options: Options, *, profile: bool) -> Table:
        given = created.options.get("format")
        updating = given is not None and given.text == "debezium_json"
        if created.temporary:
            kind = options.text("type")
            if kind not in (None, "lookup"):
                raise planning(
                    f"Cannot have a temporary table with type '{kind}'; temporary tables must be type 'lookup'"
                )
            options = options.with_text("type", "lookup")
        if updating and any(column.generated is not None for column in created.columns):
            raise planning("can't use virtual fields with debezium format")
        self._check_metadata(created, connector)
        connection = connectors.create(
            connector, options, arroyo_version=self.arroyo_version, profile=profile
        )
        if not connection.judged:
            self.not_judged[f"the options of the connector {connector}"] = None
        fields = [(column.name, column.type) for column in created.columns]
        self._check_columns(created, connection, fields)
        self._check_watermark(created)
        keys = frozenset(column.name for column in created.columns if column.primary)
        if connection.type == "source" and updating and not keys:
            raise planning("Debezium source must have at least one PRIMARY KEY field")
        return Table(
            created.name, fields or list(connection.columns), connection, updating=updating, primary_keys=keys
        )

    @staticmethod
    def _check_metadata(created: CreateTable, connector: str) -> None:
        for column in created.columns:
            if column.metadata is None:
                continue
            wanted = connectors.metadata_type(connector, column.metadata)
            if wanted is None:
                raise planning(
                    f"unknown metadata field '{column.metadata}' for {connector} connector '{created.name}'"
                )
            if column.type is not None and column.type.name != wanted:
                found = _SQL_NAMES.get(column.type.name, column.type.name)
                raise planning(
                    f"incorrect data type for metadata field '{column.name}'; expected {_SQL_NAMES[wanted]}, but "
                    f"found {found}"
                )

    def _check_columns(
        self, created: CreateTable, connection: Connection, fields: list[tuple[str, Type | None]]
    ) -> None:
        if connection.columns and fields and fields != list(connection.columns):
            hint = "; omit fields to rely on inference" if connection.connector == "nexmark" else ""
            raise planning(f"invalid schema for {connection.connector} source{hint}")
        names = [name for name, _ in fields]
        for name in connection.partitions if fields else ():
            if name in names:
                continue
            if self.arroyo_version == "0.15":
                raise planning(f"partition field '{name}' does not exist in the schema")
            valid = ", ".join(f'"{known}"' for known in [*names, "_timestamp"])
            raise planning(
                f'Arrow error: Schema error: Unable to get field named "{name}". Valid fields: [{valid}]'
            )
        if connection.connector == "redis" and connection.type == "lookup":
            for column in created.columns:
                if column.primary and column.metadata != "key":
                    raise planning(
                        "Redis lookup tables must have a PRIMARY KEY field defined as `field_name TEXT METADATA FROM "
                        "'key'`"
                    )

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
                try:
                    self._resolver().resolve(expression, self._plain_columns(created))
                except RefusedError as refusal:
                    text = refusal.diagnostics[0].text
                    raise planning(f"could not plan watermark expression\ncaused by\n{text}") from refusal

    @staticmethod
    def _plain_columns(created: CreateTable) -> Scope:
        plain = [Field(created.name.lower(), c.name, c.type) for c in created.columns if c.generated is None]
        return Scope(Plan(tuple(plain)))

    def _resolver(self) -> Resolver:
        def refuse(_node: exp.Expression, _scope: Scope) -> Plan:
            raise UnjudgedError("a query inside of the expression of a column")

        return Resolver(self.udfs, refuse, self.not_judged)
