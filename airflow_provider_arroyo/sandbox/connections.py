"""The calls about connectors, connection tables and profiles, and global UDFs; the same in both versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from airflow_provider_arroyo.sql.errors import RefusedError as InvalidSqlError

from . import bodies
from .bodies import TYPE
from .engine import Engine
from .messages import EMPTY, Call, RefusedError, Response, Route, json_response, listing, page, render
from .records import new_id
from .sql.functions import read as read_udfs

_SQL_NAMES = {
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint32": "INTEGER UNSIGNED",
    "uint64": "BIGINT UNSIGNED",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "TEXT",
    "bytes": "BYTEA",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}

# The title and direction of each.
_CONNECTORS: Mapping[str, tuple[str, str]] = {
    "blackhole": ("Blackhole", "sink"),
    "confluent": ("Confluent Cloud", "both"),
    "delta": ("Delta Lake", "sink"),
    "filesystem": ("FileSystem", "both"),
    "fluvio": ("Fluvio", "both"),
    "iceberg": ("Iceberg", "sink"),
    "impulse": ("Impulse", "source"),
    "kafka": ("Kafka", "both"),
    "kinesis": ("Kinesis Stream", "both"),
    "mqtt": ("MQTT", "both"),
    "nats": ("NATS", "both"),
    "nexmark": ("Nexmark", "source"),
    "polling_http": ("Polling HTTP", "source"),
    "rabbitmq": ("RabbitMQ", "source"),
    "redis": ("Redis", "sink"),
    "single_file": ("Single File", "both"),
    "sse": ("Server-Sent Events", "source"),
    "stdout": ("StdOut", "sink"),
    "webhook": ("Webhook", "sink"),
    "websocket": ("WebSocket", "source"),
}

# Their tables need a connection profile.
_WITH_PROFILE = frozenset({"confluent", "kafka", "mqtt", "nats", "rabbitmq", "redis"})
_OWN_SCHEMA = frozenset({"impulse", "nexmark"})
# The required keys of the configuration of a table.
_REQUIRED = {
    "impulse": ("event_rate",),
    "kafka": ("topic", "type"),
    "confluent": ("topic", "type"),
    "nexmark": ("event_rate",),
    "single_file": ("path", "table_type"),
    **dict.fromkeys(("sse", "websocket", "webhook", "polling_http"), ("endpoint",)),
}
# Keys of the configuration of sinks.
_OF_SINKS = frozenset(("commit_mode", "key_field", "timestamp_field", "retain", "sinkType", "target"))
_OF_SINKS |= {"records_per_batch", "batch_max_buffer_size", "batch_flush_interval_millis"}


class Connections:
    """Responds to those calls as a real server does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store

    def routes(self) -> list[Route]:
        """Return the calls."""
        profiles, tables, udfs = self._store.profiles, self._store.tables, self._store.udfs
        return [
            Route("GET", "connectors", lambda call: listing(map(render, _connectors()))),
            Route("POST", "connection_profiles", self._create_profile, bodies.PROFILE),
            Route("GET", "connection_profiles", lambda call: listing(map(render, profiles.values()))),
            Route("DELETE", "connection_profiles/*", partial(_delete, profiles, "Connection profile")),
            Route("GET", "connection_tables", self._tables),
            Route("POST", "connection_tables", self._create_table, bodies.TABLE),
            # One that is in use can be deleted, too.
            Route("DELETE", "connection_tables/*", partial(_delete, tables, "Connection table")),
            Route("POST", "udfs", self._create_udf, bodies.UDF),
            Route("GET", "udfs", lambda call: listing(map(render, udfs.values()))),
            Route("POST", "udfs/validate", self._validate_udf, bodies.UDF_VALIDATE),
            Route("DELETE", "udfs/*", partial(_delete, udfs, "UDF")),
        ]

    def _tables(self, call: Call) -> Response:
        newest_first = sorted(self._store.tables.values(), key=lambda item: -int(item["created_at"]))
        found, more = page(call, newest_first, lambda item: (item["id"], item["created_at"]))
        shown = (render(item | {"consumers": self._store.consumers(item["id"])}) for item in found)
        return listing(shown, has_more=more)

    def _create_table(self, call: Call) -> Response:
        fields = call.fields
        connector, config = fields["connector"], fields.get("config")
        if connector not in _CONNECTORS:
            raise RefusedError(500, "Something went wrong")
        profile = self._profile_of_table(fields.get("connection_profile_id"), connector)
        if problem := _config_problem(connector, config):
            raise RefusedError(400, problem)
        if not fields["name"]:
            raise RefusedError(400, "Field name must be set")
        try:
            schema = _table_schema(connector, fields.get("schema"))
        except (AttributeError, TypeError) as error:
            raise RefusedError(422, f"{TYPE}schema: {error}") from error
        table = {
            "id": new_id(self._engine.rng, "ct"),
            "name": fields["name"],
            "created_at": self._store.dated(self._engine.server_now),
            "connector": connector,
            "connection_profile": profile,
            "table_type": _table_type(connector, config or {}),
            "config": config,
            "schema": schema,
            "consumers": 0,
        }
        return _add(self._store.tables, "connection_table with that name already exists", table)

    def _profile_of_table(self, profile_id: str | None, connector: str) -> Mapping[str, Any] | None:
        if profile_id is None:
            if connector in _WITH_PROFILE:
                but = "but `connectionProfileId` was not specified"
                raise RefusedError(400, f"this connector requires a connection profile, {but}")
            return None
        profile = self._store.profiles.get(profile_id)
        if profile is None:
            raise RefusedError(400, f"No connection profile with id '{profile_id}'")
        if profile["connector"] != connector:
            found = f"found {profile['connector']}, expected {connector}"
            different = "Stored connection has a different connector than requested"
            raise RefusedError(400, f"{different} ({found})")
        return profile

    def _create_profile(self, call: Call) -> Response:
        name, connector, config = (call.fields.get(key) for key in ("name", "connector", "config"))
        if connector not in _CONNECTORS:
            raise RefusedError(400, "Unknown connector type")
        profile = {
            "id": new_id(self._engine.rng, "cp"),
            "name": name,
            "connector": connector,
            "config": config,
            "description": _profile_description(config),
        }
        # In Arroyo's database on SQLite, names need not be unique.
        is_taken = None
        if self._store.has_unique_profiles:
            is_taken = "A record already exists with that name"
            is_taken += "" if self._engine.version == "0.15" else " or id"
        return _add(self._store.profiles, is_taken, profile)

    def _create_udf(self, call: Call) -> Response:
        # A real server compiles Rust for half a minute.
        fields = call.fields
        name, problem = _read_udf(fields)
        if problem is not None:
            raise RefusedError(400, problem)
        now = self._store.dated(self._engine.server_now)
        udf = {
            "id": new_id(self._engine.rng, "udf"),
            "prefix": fields["prefix"],
            "name": name,
            "language": fields.get("language", "rust"),
            "created_at": now,
            "updated_at": now,
            "definition": fields["definition"],
            "description": fields.get("description"),
            "dylib_url": None,
        }
        return _add(self._store.udfs, "udf with that name already exists", udf)

    def _validate_udf(self, call: Call) -> Response:
        name, problem = _read_udf(call.fields)
        errors = [] if problem is None else [problem.removeprefix("invalid UDF: ")]
        return json_response({"udf_name": name, "errors": errors})


def _read_udf(fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the name of the function that a UDF defines, or what is wrong with it."""
    try:
        return next(iter(read_udfs([fields]))), None
    except InvalidSqlError as error:
        return None, error.text


def _add(records: dict[str, dict[str, Any]], is_taken: str | None, record: dict[str, Any]) -> Response:
    if is_taken is not None and any(item["name"] == record["name"] for item in records.values()):
        raise RefusedError(400, is_taken)
    records[record["id"]] = record
    return json_response(record)


def _delete(records: dict[str, dict[str, Any]], kind: str, call: Call) -> Response:
    if records.pop(call.ids[0], None) is None:
        raise RefusedError(404, f"{kind} not found")
    return EMPTY


def _connectors() -> list[dict[str, Any]]:
    """Return what ``GET /connectors`` lists."""
    return [
        {
            "id": name,
            "name": title,
            "icon": "",
            "description": title,
            "table_config": f'{{"type": "object", "title": "{title.replace(" ", "")}Table"}}',
            "enabled": True,
            "source": direction != "sink",
            "sink": direction != "source",
            "custom_schemas": name not in _OWN_SCHEMA,
            "testing": False,
            "hidden": name == "single_file",
            "connection_config": '{"type": "object"}' if name in _WITH_PROFILE else None,
        }
        for name, (title, direction) in _CONNECTORS.items()
    ]


def _config_problem(connector: str, config: Any) -> str | None:
    """Return what a real server finds wrong with the configuration of a table; None: nothing."""
    if isinstance(config, Mapping):
        problems = [f"missing field `{name}`" for name in _REQUIRED.get(connector, ()) if name not in config]
    else:
        problems = [f"invalid type: {type(config).__name__}"]
    return f'Failed to parse config: Error("{problems[0]}", line: 0, column: 0)' if problems else None


def _table_type(connector: str, config: Mapping[str, Any]) -> str:
    """Return whether a connection table is a source, a sink or a lookup."""
    kind = config.get("type") or config.get("table_type") or config.get("connectorType")
    if isinstance(kind, Mapping):
        # Kafka's, say, is {"offset": …} of a source and {"commit_mode": …} of a sink.
        by_key = "lookup" if "lookup" in kind else "sink" if _OF_SINKS & kind.keys() else None
        kind = kind.get("type", by_key)
    if isinstance(kind, str) and kind.lower() in ("source", "sink", "lookup"):
        return kind.lower()
    return "sink" if _CONNECTORS[connector][1] == "sink" else "source"


def _table_schema(connector: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schema of a connection table, with every key that a real server sends."""
    given = schema or {}
    fields = given.get("fields") or []
    if connector == "impulse":
        fields = [{"name": name, "type": "int64", "required": True} for name in ("counter", "subtask_index")]
    keys = ("format", "bad_data", "framing", "fields", "definition", "inferred", "primary_keys")
    found = {key: given.get(key) for key in keys}
    return found | {"fields": [_field(item) for item in fields], "primary_keys": found["primary_keys"] or []}


def _field(item: Mapping[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "string")
    name = _SQL_NAMES.get(kind)
    if kind == "decimal128":
        name = f"DECIMAL({item.get('precision', 38)}, {item.get('scale', 0)})"
    extra = {key: value for key, value in item.items() if key not in ("name", "type", "required", "sql_name")}
    return {
        "name": item.get("name", ""),
        "type": kind,
        **extra,
        "required": bool(item.get("required", False)),
        "sql_name": name,
    }


def _profile_description(config: Any) -> str:
    """Return the description of a profile: the address of its server, if it has one."""
    given = config if isinstance(config, Mapping) else {}
    values = (given.get(key) for key in ("bootstrapServers", "url", "endpoint", "address", "servers"))
    return next((value for value in values if isinstance(value, str)), "")
