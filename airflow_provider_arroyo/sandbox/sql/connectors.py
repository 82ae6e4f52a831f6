"""Arroyo's connectors: the options of their tables, their columns, and their descriptions in the graph."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_arroyo.sandbox.sql.graph import Source
from airflow_provider_arroyo.sandbox.sql.refusals import planning
from airflow_provider_arroyo.sql.errors import RefusedError


class Options(dict[str, tuple[str, str]]):
    """The options of a WITH clause: the kind (``string``, ``number``, ``boolean``, ``expression``) and text of each.

    Reading an option removes it, so that those that are left are unknown.
    """

    def drop(self, *prefixes: str) -> bool:
        """Remove every option whose name begins with one of the prefixes; return whether there was one."""
        names = [name for name in self if name.startswith(prefixes)]
        for name in names:
            del self[name]
        return bool(names)

    def text(self, name: str) -> str | None:
        """Return an option that must be a string; None: it is not set."""
        kind, text = self.pop(name, ("", ""))
        if kind not in ("", "string"):
            raise _wrong(name, "a single-quoted string", text)
        return text if kind else None

    def required_text(self, name: str) -> str:
        """Return an option that must be set, and be a string."""
        found = self.text(name)
        if found is None:
            raise planning(f"required option '{name}' not set")
        return found

    def number(self, name: str, *, whole: bool = False) -> float | None:
        """Return an option that must be a number, or with ``whole`` an integer of 64 bits; None: it is not set."""
        what = "an integer" if whole else "a double"
        kind, text = self.pop(name, ("", ""))
        if not kind:
            return None
        if kind in ("string", "number") and re.fullmatch(r"[+-]?[0-9]{1,19}" if whole else r"[^\s_]+", text):
            try:
                found = int(text) if whole else float(text)
                if not whole or -(2**63) <= found < 2**63:
                    return found
            except ValueError:
                pass
        raise _wrong(name, what, text)


def _wrong(name: str, what: str, text: str) -> RefusedError:
    return planning(f"expected with option '{name}' to be {what}, but it was `{text}`")


@dataclass(frozen=True, slots=True)
class Connection:
    """A table's connector with its settings.

    :param type: ``source``, ``sink`` or ``lookup``.
    :param description: its description in the graph.
    :param event_rate: rows per second of a generated source.
    :param message_count: after how many rows a source ends.
    :param path: the file or folder that it reads or writes.
    :param columns: names and types of the columns that the connector itself defines.
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
        # A source that reads a local file ends with the file, or fails if there is none.
        return Source(name, self.event_rate, self.message_count or 0, None if Path(path).exists() else path)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The options of a connector, and its description.

    :param kinds: the types that its tables can have, each with its description in the graph.
    :param needs: the required options.
    :param server: the required options that a connection profile replaces.
    :param format: the connector's name in Arroyo's error for a table without a format; None: it needs none.
    :param typed: Arroyo's error for another type; None: the connector has no option ``type``.
    :param others: prefixes of its other options; None: any option is accepted.
    :param variables: the options whose environment variables must be set when the table is created.
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
# Optional options that are part of descriptions.
_SHOWN = ("subject", "namespace", "sink.version")
# The columns of connectors that generate their rows.
_GENERATED = {
    "impulse": {"counter": "BIGINT", "subtask_index": "BIGINT"},
    "nexmark": {"person": "STRUCT", "auction": "STRUCT", "bid": "STRUCT"},
}

# Prefixes of options that tables of every connector have.
_COMMON = (
    *("format", "framing", "json.", "avro.", "parquet.", "raw_bytes.", "raw_string.", "protobuf."),
    *("bad_data", "event_time_field", "watermark_field", "idle_micros", "lookup.cache."),
)
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_FORMATS = ("json", "debezium_json", "avro", "raw_string", "raw_bytes", "protobuf", "parquet")


def create(
    connector: str, options: Options, *, arroyo_version: str, profile: bool, not_judged: dict[str, None]
) -> Connection:
    """Return the connection of a table that CREATE TABLE defines.

    :param profile: whether a connection profile says where it connects to.
    :param not_judged: where to note what is accepted without being checked.
    :raises RefusedError: if there is no such connector, or an option is missing or invalid.
    """
    shape = _SHAPES.get(connector)
    if shape is None and connector not in _GENERATED:
        raise planning(f"Unknown connector '{connector}'")
    format_name = options.text("format")
    if format_name is not None and format_name not in _FORMATS:
        raise planning(f"invalid format: 'Error during planning: unknown format '{format_name}''")
    if options.drop(*_COMMON):
        not_judged["the options of formats and watermarks"] = None
    variables = {name: _VARIABLE.findall(text) for name, (_, text) in options.items()}
    try:
        if shape is None:
            made = _generator(connector, options)
        else:
            for name in () if profile else shape.server:
                options.required_text(name)
            kind = next(iter(shape.kinds)) if shape.typed is None else options.required_text("type")
            given = {name: options.required_text(name) for name in shape.needs}
    except RefusedError as refused:
        raise planning(refused.text) from refused  # Arroyo writes the beginning of its message twice
    if shape is not None:
        if kind not in shape.kinds:
            raise planning(str(shape.typed).replace("{type}", kind))
        for option, names in variables.items():
            unset = [name for name in names if name not in os.environ]
            if unset and option in shape.variables:
                raise planning(f"Environment variable {unset[0]} not found")
            if names and option not in shape.variables:
                not_judged[f"the environment variables of the option {option}"] = None
        if shape.format is not None and format_name is None:
            raise planning(f"'format' must be set for {shape.format}")
        given |= {name: options.text(name) or "" for name in _SHOWN if name in options}
        if options.drop(*(("",) if shape.others is None else shape.others)):
            not_judged[f"the options of the connector {connector}"] = None
        given["format"] = format_name or ""
        shown = _description(connector, kind, given, arroyo_version)
        made = Connection(connector, kind, shown, path=given.get("path"))
    if options:
        names = [f"'{name}'" for name in options]
        raise planning(f"unknown options provided in WITH clause: {', '.join(names)}")
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
    """Return the connection of one of the server's connection tables; invalid settings count as not set."""
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
    """Return a number as Arroyo prints it: without an exponent, and without zeros at the end."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return _plain(Decimal(repr(value)))


def _duration(nanos: int) -> str:
    """Return a duration as Arroyo prints it, such as ``1.5s`` or ``20ms``."""
    nanos %= 2**64
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanos >= size:
            return _plain(Decimal(nanos) / size) + unit
    return f"{nanos}ns"


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
