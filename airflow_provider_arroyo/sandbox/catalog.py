"""What a server knows about connectors, and how it processes tables, profiles and UDFs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
"""Title and direction of each."""

WITH_PROFILE = frozenset({"confluent", "kafka", "mqtt", "nats", "rabbitmq", "redis"})
"""Those whose tables need a connection profile."""
_OWN_SCHEMA = frozenset({"impulse", "nexmark"})
_REQUIRED = {
    "impulse": ("event_rate",),
    "kafka": ("topic", "type"),
    "confluent": ("topic", "type"),
    "nexmark": ("event_rate",),
    "single_file": ("path", "table_type"),
    **dict.fromkeys(("sse", "websocket", "webhook", "polling_http"), ("endpoint",)),
}
_OF_SINKS = frozenset(("commit_mode", "key_field", "timestamp_field", "retain", "sinkType", "target"))
_OF_SINKS |= {"records_per_batch", "batch_max_buffer_size", "batch_flush_interval_millis"}
NAMES = frozenset(_CONNECTORS)


def connectors() -> list[dict[str, Any]]:
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
            "connection_config": '{"type": "object"}' if name in WITH_PROFILE else None,
        }
        for name, (title, direction) in _CONNECTORS.items()
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
    kind = config.get("type") or config.get("table_type") or config.get("connectorType")
    if isinstance(kind, Mapping):
        # Kafka's, say, is {"offset": …} of a source and {"commit_mode": …} of a sink.
        by_key = "lookup" if "lookup" in kind else "sink" if _OF_SINKS & kind.keys() else None
        kind = kind.get("type", by_key)
    if isinstance(kind, str) and kind.lower() in ("source", "sink", "lookup"):
        return kind.lower()
    return "sink" if _CONNECTORS[connector][1] == "sink" else "source"


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


def profile_description(config: Any) -> str:
    """Return the line that tells profiles apart: an address of their server, where there is one."""
    if not isinstance(config, Mapping):
        return ""
    for key in ("bootstrapServers", "url", "endpoint", "address", "servers"):
        if isinstance(config.get(key), str):
            return str(config[key])
    return ""
