"""Connectors, connection tables and profiles, global UDFs: what a server knows beside its pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SQL_NAMES = {
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

_BOTH = {"source": True, "sink": True}
_SOURCE = {"source": True, "sink": False}
_SINK = {"source": False, "sink": True}

_CONNECTORS: tuple[tuple[str, str, str, Mapping[str, bool]], ...] = (
    ("blackhole", "Blackhole", "No-op sink that swallows all data", _SINK),
    ("confluent", "Confluent Cloud", "Topics of Confluent Cloud", _BOTH),
    ("delta", "Delta Lake", "Delta Lake tables", _SINK),
    ("filesystem", "FileSystem", "Files in a folder or an object store", _BOTH),
    ("fluvio", "Fluvio", "Fluvio topics", _BOTH),
    ("iceberg", "Iceberg", "Iceberg tables", _SINK),
    ("impulse", "Impulse", "Periodic demo source", _SOURCE),
    ("kafka", "Kafka", "Kafka topics", _BOTH),
    ("kinesis", "Kinesis Stream", "Kinesis streams", _BOTH),
    ("mqtt", "MQTT", "MQTT topics", _BOTH),
    ("nats", "NATS", "NATS subjects", _BOTH),
    ("nexmark", "Nexmark", "Demo source of an auction house", _SOURCE),
    ("polling_http", "Polling HTTP", "An HTTP endpoint, asked again and again", _SOURCE),
    ("rabbitmq", "RabbitMQ", "RabbitMQ streams", _SOURCE),
    ("redis", "Redis", "Redis keys and lists", _SINK),
    ("single_file", "Single File", "One file, for tests", _BOTH),
    ("sse", "Server-Sent Events", "A stream of server-sent events", _SOURCE),
    ("stdout", "StdOut", "The worker's standard output", _SINK),
    ("webhook", "Webhook", "Calls of an HTTP endpoint", _SINK),
    ("websocket", "WebSocket", "Messages of a websocket", _SOURCE),
)
_WITH_PROFILE = frozenset({"confluent", "fluvio", "kafka", "mqtt", "nats", "rabbitmq", "redis"})
_OWN_SCHEMA = frozenset({"impulse", "nexmark"})
_REQUIRED = {
    "impulse": ("event_rate",),
    "kafka": ("topic", "type"),
    "confluent": ("topic", "type"),
    "nexmark": ("eventRate",),
    "sse": ("endpoint",),
    "websocket": ("endpoint",),
    "webhook": ("endpoint",),
    "polling_http": ("endpoint",),
    "single_file": ("path", "table_type"),
}

NAMES = frozenset(entry[0] for entry in _CONNECTORS)


def connectors() -> list[dict[str, Any]]:
    """Return what ``GET /connectors`` lists."""
    return [
        {
            "id": name,
            "name": title,
            "icon": "",
            "description": description,
            "table_config": f'{{"type": "object", "title": "{title.replace(" ", "")}Table"}}',
            "enabled": True,
            "source": directions["source"],
            "sink": directions["sink"],
            "custom_schemas": name not in _OWN_SCHEMA,
            "testing": False,
            "hidden": name == "single_file",
            "connection_config": '{"type": "object"}' if name in _WITH_PROFILE else None,
        }
        for name, title, description, directions in _CONNECTORS
    ]


def config_problem(connector: str, config: Any) -> str | None:
    """Return what a real server finds wrong with the configuration of a table; None: nothing."""
    if not isinstance(config, Mapping):
        return f'Failed to parse config: Error("invalid type: {type(config).__name__}", line: 0, column: 0)'
    for name in _REQUIRED.get(connector, ()):
        if name not in config:
            return f'Failed to parse config: Error("missing field `{name}`", line: 0, column: 0)'
    return None


def table_type(connector: str, config: Mapping[str, Any]) -> str:
    """Return whether a connection table is a source, a sink or a lookup."""
    kind = config.get("type") or config.get("table_type") or config.get("connector_type")
    if isinstance(kind, Mapping):
        kind = next(iter(kind), None) if "type" not in kind else kind["type"]
    if isinstance(kind, str) and kind.lower() in ("source", "sink", "lookup"):
        return kind.lower()
    directions = next(entry[3] for entry in _CONNECTORS if entry[0] == connector)
    return "source" if directions["source"] else "sink"


def table_schema(connector: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schema of a connection table, with every key that a real server sends."""
    given = schema or {}
    fields = given.get("fields") or []
    if connector == "impulse":
        fields = [{"name": name, "type": "int64", "required": True} for name in ("counter", "subtask_index")]
    return {
        "format": given.get("format"),
        "bad_data": given.get("bad_data"),
        "framing": given.get("framing"),
        "fields": [_field(item) for item in fields],
        "definition": given.get("definition"),
        "inferred": given.get("inferred"),
        "primary_keys": given.get("primary_keys") or [],
    }


def _field(item: Mapping[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "string")
    name = SQL_NAMES.get(kind)
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


def profile_description(connector: str, config: Any) -> str:
    """Return the line by which a profile is told from others."""
    if not isinstance(config, Mapping):
        return ""
    for key in ("bootstrapServers", "url", "endpoint", "address", "servers"):
        if isinstance(config.get(key), str):
            return str(config[key])
    return ""


_UDF_NAME = {
    "rust": re.compile(r"#\s*\[[^\]]*\budf\b[^\]]*\]\s*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)"),
    "python": re.compile(r"@\s*udf\b[^\n]*\n\s*(?:async\s+)?def\s+(\w+)"),
}


def udf_name(definition: str, language: str) -> str | None:
    """Return the name of the function that a UDF defines; None where it lacks its attribute."""
    match = _UDF_NAME[language].search(definition)
    return match[1] if match else None


def udf_problem(definition: str, language: str) -> str | None:
    """Return what a real server finds wrong with a UDF; None: nothing that the sandbox can see."""
    if udf_name(definition, language) is not None:
        return None
    if language == "python":
        return "UDF must contain a function decorated with @udf"
    return "UDF must contain a function with with the annotation #[udf]"
