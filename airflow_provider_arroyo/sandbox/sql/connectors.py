"""What the judge knows of Arroyo's connectors: options, columns, descriptions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, planning
from airflow_provider_arroyo.sandbox.sql.generators import Connection, impulse, nexmark
from airflow_provider_arroyo.sandbox.sql.options import Options


class _OwnWordsError(Exception):
    """A refusal in a connector's own words, to which the planner adds its prefix once."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a connector needs and shows, where its options are not known in full.

    :param kinds: what it can be, each with its name in the graph and the option shown with it.
    :param server: the options that say where it connects to; not needed with a connection profile.
    :param table: the other options that it needs.
    :param needs_format: whom it names when it has no format; None when it needs none.
    :param kind_refused: what it says of another kind; None when it does not look at the kind.
    :param metadata: the names and types of what a column can take from a message's envelope.
    :param others: how all its other options begin; None when they are not known.
    :param choices: the values that some options can have.
    """

    kinds: Mapping[str, tuple[str, str | None]]
    server: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    needs_format: str | None = None
    kind_refused: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_SOURCE_OR_SINK = "type must be one of 'source' or 'sink"
_KAFKA = {"source": ("KafkaSource", "topic"), "sink": ("KafkaSink", "topic")}
_KAFKA_METADATA = {
    "offset_id": "Int64",
    "partition": "Int32",
    "topic": "Utf8",
    "timestamp": "Int64",
    "key": "Binary",
}
_KAFKA_OTHERS = (
    *("auth.", "schema_registry.", "source.group_id", "source.group_id_prefix", "sink.timestamp_field"),
    *("sink.key_field", "client_configs", "value.subject"),
)
_KAFKA_CHOICES = {
    "source.offset": ("earliest", "group", "latest"),
    "source.read_mode": ("read_committed", "read_uncommitted"),
    "sink.commit_mode": ("at_least_once", "exactly_once"),
}
_SHAPES: dict[str, _Shape] = {
    "kafka": _Shape(
        _KAFKA,
        ("bootstrap_servers",),
        ("topic",),
        "Kafka connection",
        _SOURCE_OR_SINK,
        _KAFKA_METADATA,
        _KAFKA_OTHERS,
        _KAFKA_CHOICES,
    ),
    "confluent": _Shape(
        _KAFKA,
        ("bootstrap_servers", "key", "secret"),
        ("topic",),
        "Kafka connection",
        _SOURCE_OR_SINK,
        _KAFKA_METADATA,
    ),
    "kinesis": _Shape(
        {"source": ("KinesisSource", "stream_name"), "sink": ("KinesisSink", "stream_name")},
        (),
        ("stream_name",),
        "kinesis connections",
        _SOURCE_OR_SINK,
    ),
    "mqtt": _Shape(
        {"source": ("MqttSource", "topic"), "sink": ("MqttSink", "topic")},
        ("url",),
        ("topic",),
        "Mqtt connection",
        _SOURCE_OR_SINK,
        {"topic": "Utf8"},
    ),
    "fluvio": _Shape(
        {"source": ("FluvioSource", "topic"), "sink": ("FluvioSink", "topic")},
        (),
        ("topic",),
        "Fluvio connection",
        _SOURCE_OR_SINK,
    ),
    "nats": _Shape(
        {"source": ("NatsSource", "subject"), "sink": ("NatsSink", "subject")},
        ("servers",),
        (),
        "NATS connection",
        "Type must be one of 'source' or 'sink'",
    ),
    "rabbitmq": _Shape(
        {"source": ("RabbitmqStreamSource", "stream")},
        (),
        ("stream",),
        "RabbitMQ Stream connection",
        "type must 'source'",
    ),
    "redis": _Shape(
        {"sink": ("RedisSink", None), "lookup": ("RedisLookup", None)},
        (),
        (),
        "Redis connection",
        "'{}' is not a valid type; must be `sink`",
        {"key": "Utf8"},
    ),
    "filesystem": _Shape(
        {"source": ("FileSystem", None), "sink": ("FileSystemSink", "path")},
        (),
        ("path",),
        "FileSystem connection",
        "type must be one of 'source' or 'sink'",
    ),
    "delta": _Shape(
        {"sink": ("DeltaLakeSink", "path")}, (), ("path",), "DeltaLake connection", "type must be 'sink'"
    ),
    "iceberg": _Shape(
        {"sink": ("IcebergSink", "table_name")},
        ("catalog.type",),
        ("table_name",),
        None,
        "type must be 'sink'",
    ),
    "sse": _Shape(
        {"source": ("SSESource", "endpoint")},
        (),
        ("endpoint",),
        "SSE connection",
        others=("headers", "events"),
    ),
    "websocket": _Shape(
        {"source": ("WebsocketSource", "endpoint")},
        (),
        ("endpoint",),
        "WebSocket connection",
        others=("headers", "subscription_message"),
    ),
    "polling_http": _Shape(
        {"source": ("PollingHTTPSource", "endpoint")},
        (),
        ("endpoint",),
        "polling HTTP connection",
        others=("headers", "method", "body", "poll_interval_ms", "emit_behavior"),
    ),
    "webhook": _Shape(
        {"sink": ("WebhookSink", "endpoint")}, (), ("endpoint",), "webhook connection", others=("headers",)
    ),
}
_FIXED = ("impulse", "nexmark", "single_file", "blackhole", "stdout", "preview")

# Options that no connector sees, because they are about every connector.
_FORMATS = ("framing", "json.", "avro.", "parquet.", "raw_bytes.", "raw_string.", "protobuf.", "bad_data")
_COMMON = ("event_time_field", "watermark_field", "idle_micros", "lookup.cache.")
_FORMAT_NAMES = frozenset(("json", "debezium_json", "avro", "raw_string", "raw_bytes", "protobuf", "parquet"))


def create(connector: str, options: Options, *, arroyo_version: str, profile: bool = False) -> Connection:
    """Return the connection that a CREATE TABLE asks for.

    :param connector: the connector's name.
    :param options: its options; what it knows is taken out.
    :param arroyo_version: whose descriptions to use.
    :param profile: whether a connection profile says where it connects to.
    :raises RefusedError: there is no such connector, or an option is missing or of the wrong kind.
    """
    if connector not in _SHAPES and connector not in _FIXED:
        raise planning(f"Unknown connector '{connector}'")
    format_name = options.text("format")
    if format_name is not None and format_name not in _FORMAT_NAMES:
        raise planning(f"invalid format: 'Error during planning: unknown format '{format_name}''")
    options.drop(*_FORMATS)
    try:
        if connector in _SHAPES:
            made = _shaped(connector, options, format_name, arroyo_version, profile=profile)
        else:
            made = _fixed(connector, options, format_name)
    except _OwnWordsError as refused:
        raise planning(str(refused)) from refused
    except RefusedError as refused:
        # Arroyo wraps a planning error of a connector into a second one.
        raise planning(refused.diagnostics[0].text) from refused
    options.drop(*_COMMON)
    if not made.judged:
        options.drop("")
    elif len(options):
        names = ", ".join(f"'{name}'" for name in options.left())
        raise planning(f"unknown options provided in WITH clause: {names}")
    return made


def _fixed(connector: str, options: Options, format_name: str | None) -> Connection:
    """Return the connection of a connector whose options are all known."""
    if connector == "preview":
        raise _OwnWordsError("Preview connector cannot be created in SQL")
    if connector == "blackhole":
        return Connection("blackhole", "sink", "Blackhole")
    if connector == "stdout":
        if format_name is None:
            raise _OwnWordsError("'format' must be set for stdout sink")
        return Connection("stdout", "sink", "StdoutSink")
    if connector == "single_file":
        path, kind = options.required_text("path"), options.required_text("type")
        if kind not in ("source", "sink"):
            raise _OwnWordsError("'type' must be 'source' or 'sink'")
        options.boolean("wait_for_control")
        if format_name is None:
            raise _OwnWordsError("'format' must be set for Single File Source connection")
        return Connection("single_file", kind, "Single File Source", path=path)
    event_rate = options.double("event_rate")
    if event_rate is None:
        raise planning("required option 'event_rate' not set")
    if connector == "nexmark":
        return nexmark(event_rate, options.double("runtime"))
    return impulse(event_rate, options.integer("event_time_interval"), options.integer("message_count"))


def _shaped(
    connector: str, options: Options, format_name: str | None, arroyo_version: str, *, profile: bool
) -> Connection:
    shape = _SHAPES[connector]
    for name in () if profile else shape.server:
        options.required_text(name)
    kind = next(iter(shape.kinds))
    if shape.kind_refused is not None:
        kind = options.required_text("type")
        if kind not in shape.kinds:
            raise _OwnWordsError(shape.kind_refused.replace("{}", kind))
    for name, allowed in shape.choices.items():
        value = options.text(name) if name.startswith(kind) else None
        if value is not None and value not in allowed:
            shown = "commit_mode" if name == "sink.commit_mode" else name
            raise _OwnWordsError(f"invalid value for {shown} '{value}'")
    given = {name: options.required_text(name) for name in shape.table}
    shows = shape.kinds[kind][1]
    if shows is not None and shows not in given:
        given[shows] = options.text(shows) or ""
    if shape.needs_format is not None and format_name is None:
        raise _OwnWordsError(f"'format' must be set for {shape.needs_format}")
    version = (options.text("sink.version") or "v1").upper()
    described = {
        **given,
        "format": format_name or "",
        "version": version,
        "namespace": options.text("namespace") or "",
    }
    if shape.others is not None:
        options.drop(*shape.others)
    return Connection(
        connector,
        kind,
        _description(connector, kind, described, arroyo_version),
        path=given.get("path"),
        judged=shape.others is not None,
        partitions=options.names("partitioning.fields"),
    )


def _description(connector: str, kind: str, given: Mapping[str, str], arroyo_version: str) -> str:
    name, shows = _SHAPES[connector].kinds.get(kind, (connector, None))
    if shows is None or not given.get(shows):
        return name
    shown = given[shows]
    version = given.get("version", "V1") if arroyo_version == "0.16" else ""
    if connector == "filesystem":
        return f"{name}{version}<{given.get('format', '').removeprefix('debezium_')}, {shown}>"
    if connector == "delta":
        return f"{name}<{given.get('format', '')}, {shown}>"
    if connector == "iceberg":
        return f"{name}{version}<{given.get('namespace') or 'default'}.{shown}>"
    return f'{name}<"{shown}">' if connector == "nats" else f"{name}<{shown}>"


def metadata_type(connector: str, key: str) -> str | None:
    """Return the Arrow type of what a column takes from a message's envelope; None when there is none."""
    shape = _SHAPES.get(connector)
    return None if shape is None else shape.metadata.get(key)


def from_config(
    connector: str, config: Mapping[str, Any], table_type: str, *, arroyo_version: str
) -> Connection:
    """Return the connection of a connection table that the server has.

    :param connector: the connector's name.
    :param config: its configuration as the API took it; what does not fit is read as not set.
    :param table_type: ``source``, ``sink`` or ``lookup``.
    :param arroyo_version: whose descriptions to use.
    """
    event_rate = _number(config.get("event_rate")) or 0.0
    if connector == "impulse":
        return impulse(
            event_rate, _whole(config.get("event_time_interval")), _whole(config.get("message_count"))
        )
    if connector == "nexmark":
        return nexmark(event_rate, _number(config.get("runtime")))
    if connector in ("blackhole", "stdout"):
        return Connection(connector, "sink", "Blackhole" if connector == "blackhole" else "StdoutSink")
    given = {name: value for name, value in config.items() if isinstance(value, str)}
    path = given.get("path")
    if connector == "single_file":
        return Connection(connector, table_type, "Single File Source", path=path)
    shown = _description(connector, table_type, given, arroyo_version) if connector in _SHAPES else connector
    return Connection(connector, table_type, shown, path=path, judged=False)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and math.isfinite(number) else None
