"""What is known of Arroyo's connectors: options, columns, descriptions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_arroyo.sandbox.sql.model import Source
from airflow_provider_arroyo.sandbox.sql.options import Options, check_set
from airflow_provider_arroyo.sandbox.sql.refusals import planning
from airflow_provider_arroyo.sql.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Connection:
    """A table's connector with its settings.

    :param connector: name of the connector.
    :param type: ``source``, ``sink`` or ``lookup``.
    :param description: what the graph shows for it.
    :param event_rate: rows a second that a source makes, where it has such a setting.
    :param message_count: after how many rows a source ends.
    :param path: the file or folder that it reads or writes.
    :param columns: names and types of the columns that the connector brings along.
    """

    connector: str
    type: str
    description: str
    event_rate: float | None = None
    message_count: int | None = None
    path: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def source(self, name: str) -> Source:
        """Return it as the source of a table with this name."""
        path = (self.path or "://").removeprefix("file://")
        if "://" in path:
            return Source(name, self.event_rate, self.message_count)
        # A source that reads a file of this machine ends with it, or fails without it.
        return Source(name, self.event_rate, self.message_count or 0, None if Path(path).exists() else path)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a connector needs and shows.

    :param kinds: what it can be, each with its description in the graph.
    :param needs: the options that it needs.
    :param server: the options that say where it connects to; not needed with a connection profile.
    :param format: whom it names when it has no format; None when it needs none.
    :param typed: what it says of another type than it can be; None when it does not ask for the type.
    :param others: how its other options begin; None when they are not known.
    :param variables: the options whose environment variables it wants to be set at once.
    """

    kinds: Mapping[str, str]
    needs: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    format: str | None = None
    typed: str | None = None
    others: tuple[str, ...] | None = None
    variables: tuple[str, ...] = ()


def _both(name: str, shown: str) -> dict[str, str]:
    return {"source": f"{name}Source<{shown}>", "sink": f"{name}Sink<{shown}>"}


def _http(kind: str, shown: str, format_name: str, *others: str, variables: tuple[str, ...] = ()) -> _Shape:
    variables = ("headers", *variables)
    kinds = {kind: f"{shown}<{{endpoint}}>"}
    return _Shape(kinds, ("endpoint",), (), format_name, None, ("headers", *others), variables)


_EITHER = "type must be one of 'source' or 'sink"
_KAFKA = _both("Kafka", "{topic}")
_KAFKA_OTHERS = (
    *("auth.", "schema_registry.", "client_configs", "value.subject", "source.offset", "source.read_mode"),
    *("source.group_id", "sink.commit_mode", "sink.timestamp_field", "sink.key_field"),
)
_FILES = {"source": "FileSystem", "sink": "FileSystemSink{version}<{format}, {path}>"}
_FILE = dict.fromkeys(("source", "sink"), "Single File Source")
_RABBIT = {"source": "RabbitmqStreamSource<{stream}>"}
_REDIS = {"sink": "RedisSink", "lookup": "RedisLookup"}
_REDIS_TYPES = "'{type}' is not a valid type; must be `sink`"
_FILE_TYPES = "'type' must be 'source' or 'sink'"
_POLLING = ("method", "body", "poll_interval_ms", "emit_behavior")
_SHAPES: dict[str, _Shape] = {
    "kafka": _Shape(_KAFKA, ("topic",), ("bootstrap_servers",), "Kafka connection", _EITHER, _KAFKA_OTHERS),
    "confluent": _Shape(
        _KAFKA, ("topic",), ("bootstrap_servers", "key", "secret"), "Kafka connection", _EITHER
    ),
    "kinesis": _Shape(
        _both("Kinesis", "{stream_name}"), ("stream_name",), (), "kinesis connections", _EITHER
    ),
    "mqtt": _Shape(_both("Mqtt", "{topic}"), ("topic",), ("url",), "Mqtt connection", _EITHER),
    "fluvio": _Shape(_both("Fluvio", "{topic}"), ("topic",), (), "Fluvio connection", _EITHER),
    "nats": _Shape(_both("Nats", '"{subject}"'), (), ("servers",), "NATS connection", f"T{_EITHER[1:]}'"),
    "rabbitmq": _Shape(_RABBIT, ("stream",), (), "RabbitMQ Stream connection", "type must 'source'"),
    "redis": _Shape(_REDIS, (), (), "Redis connection", _REDIS_TYPES),
    "filesystem": _Shape(_FILES, ("path",), (), "FileSystem connection", f"{_EITHER}'"),
    "delta": _Shape({"sink": "DeltaLakeSink<{format}, {path}>"}, ("path",), (), "DeltaLake connection"),
    "iceberg": _Shape({"sink": "IcebergSink{version}<{namespace}.{table_name}>"}, ("table_name",)),
    "sse": _http("source", "SSESource", "SSE connection", "events"),
    "websocket": _http("source", "WebsocketSource", "WebSocket connection", "subscription_message"),
    "polling_http": _http("source", "PollingHTTPSource", "polling HTTP connection", *_POLLING),
    "webhook": _http("sink", "WebhookSink", "webhook connection", variables=("endpoint",)),
    "single_file": _Shape(
        _FILE, ("path",), (), "Single File Source connection", _FILE_TYPES, ("wait_for_control",)
    ),
    "stdout": _Shape({"sink": "StdoutSink"}, format="stdout sink", others=()),
    "blackhole": _Shape({"sink": "Blackhole"}, others=()),
}
# What some connectors show in the graph besides what they need.
_SHOWN = ("subject", "namespace", "sink.version")
# The columns of those that make up their rows.
_GENERATED = {
    "impulse": {"counter": "BIGINT", "subtask_index": "BIGINT"},
    "nexmark": {"person": "STRUCT", "auction": "STRUCT", "bid": "STRUCT"},
}

# Options that no connector sees, because they are about every connector.
_COMMON = (
    *("format", "framing", "json.", "avro.", "parquet.", "raw_bytes.", "raw_string.", "protobuf."),
    *("bad_data", "event_time_field", "watermark_field", "idle_micros", "lookup.cache."),
)
_FORMATS = ("json", "debezium_json", "avro", "raw_string", "raw_bytes", "protobuf", "parquet")


def create(
    connector: str, options: Options, *, arroyo_version: str, profile: bool, not_judged: dict[str, None]
) -> Connection:
    """Return the connection that a CREATE TABLE asks for.

    :param connector: the connector's name.
    :param options: its options.
    :param arroyo_version: whose descriptions to use.
    :param profile: whether a connection profile says where it connects to.
    :param not_judged: where to note what is accepted without being checked.
    :raises RefusedError: there is no such connector, or an option is missing or of the wrong kind.
    """
    if connector not in _SHAPES and connector not in _GENERATED:
        raise planning(f"Unknown connector '{connector}'")
    format_name = options.text("format")
    if format_name is not None and format_name not in _FORMATS:
        raise planning(f"invalid format: 'Error during planning: unknown format '{format_name}''")
    if options.drop(*_COMMON):
        not_judged["the options of formats and watermarks"] = None
    shape = _SHAPES.get(connector)
    variables = options.variables()
    try:
        if shape is None:
            made = _generator(connector, options)
        else:
            kind, given = _needed(shape, options, profile)
    except RefusedError as refused:
        raise planning(refused.text) from refused  # Arroyo wraps such an error into a second one
    if shape is not None:
        if kind not in shape.kinds:
            raise planning(str(shape.typed).replace("{type}", kind))
        for name, named in variables.items():
            if name in shape.variables:
                check_set(named)
            elif named:
                not_judged[f"the environment variables of the option {name}"] = None
        if shape.format is not None and format_name is None:
            raise planning(f"'format' must be set for {shape.format}")
        given |= {name: options.text(name) or "" for name in _SHOWN if name in options}
        if options.drop(*(("",) if shape.others is None else shape.others)):
            not_judged[f"the options of the connector {connector}"] = None
        given["format"] = format_name or ""
        shown = _description(connector, kind, given, arroyo_version)
        made = Connection(connector, kind, shown, path=given.get("path"))
    if options:
        names = ", ".join(f"'{name}'" for name in options)
        raise planning(f"unknown options provided in WITH clause: {names}")
    return made


def _generator(connector: str, options: Options) -> Connection:
    rate = options.number("event_rate")
    if rate is None:
        raise planning("required option 'event_rate' not set")
    count: int | None = None
    spacing = ""
    if connector == "nexmark":
        name, limit = "Nexmark", options.number("runtime")
        if limit is not None and math.isfinite(rate * limit):
            count = int(rate * limit)
    else:
        name, interval = "Impulse", options.number("event_time_interval", whole=True)
        spacing = "" if interval is None else f", {_duration(int(interval))}"
        limit = options.number("message_count", whole=True)
        count = None if limit is None else int(limit)
    shown = f"{'' if limit is None else 'Bounded'}{name}<{_rate(rate)} eps{spacing}>"
    return Connection(connector, "source", shown, rate, count, columns=_GENERATED[connector])


def _needed(shape: _Shape, options: Options, profile: bool) -> tuple[str, dict[str, str]]:
    """Take out the options without which there is no connection; return its type and the others."""
    for name in () if profile else shape.server:
        options.required_text(name)
    kind = next(iter(shape.kinds)) if shape.typed is None else options.required_text("type")
    return kind, {name: options.required_text(name) for name in shape.needs}


def _description(connector: str, kind: str, given: Mapping[str, str], arroyo_version: str) -> str:
    version = given.get("sink.version", "v1").upper() if arroyo_version == "0.16" else ""
    values = {"namespace": "default", **given, "version": version}
    values["format"] = values.get("format", "").removeprefix("debezium_")
    shown = _SHAPES[connector].kinds.get(kind, connector)
    try:
        return shown.format_map(values)
    except KeyError:
        return shown.partition("<")[0].partition("{")[0]


def from_config(
    connector: str, config: Mapping[str, Any], table_type: str, arroyo_version: str
) -> Connection:
    """Return the connection of a connection table that the server has.

    :param connector: the connector's name.
    :param config: its configuration as the API took it; what does not fit is read as not set.
    :param table_type: ``source``, ``sink`` or ``lookup``.
    :param arroyo_version: whose descriptions to use.
    """
    if connector in _GENERATED:
        given = {name: ("number", str(value)) for name, value in config.items() if value is not None}
        try:
            return _generator(connector, Options(given))
        except RefusedError:
            return _generator(connector, Options(event_rate=("number", "0")))
    texts = {name: value for name, value in config.items() if isinstance(value, str)}
    if connector in ("blackhole", "stdout"):
        table_type = "sink"
    known = connector in _SHAPES
    shown = _description(connector, table_type, texts, arroyo_version) if known else connector
    return Connection(connector, table_type, shown, path=texts.get("path"))


def _rate(value: float) -> str:
    """Return a number as Arroyo prints it: no exponent, no zero behind the point."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return _plain(Decimal(repr(value)))


def _duration(nanos: int) -> str:
    """Return a time as Arroyo prints it, such as ``1.5s`` or ``20ms``."""
    nanos %= 2**64
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanos >= size:
            return _plain(Decimal(nanos) / size) + unit
    return f"{nanos}ns"


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
