"""What the judge knows of Arroyo's connectors: options, columns, descriptions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, planning
from airflow_provider_arroyo.sandbox.sql.types import INT64, TIMESTAMP, UTF8, Type


@dataclass(frozen=True, slots=True)
class Option:
    """The value of an option in a WITH clause.

    :param kind: ``string``, ``number``, ``boolean``, ``name`` or ``expression``.
    :param text: the value; of a string what stands between the quotes.
    """

    kind: str
    text: str


class Options:
    """The options of a WITH clause; each one that is asked for is taken out."""

    def __init__(self, options: Mapping[str, Option]) -> None:
        self._options = dict(options)

    def __len__(self) -> int:
        return len(self._options)

    def left(self) -> list[str]:
        """Return the names that nothing asked for."""
        return list(self._options)

    def with_text(self, name: str, text: str) -> Options:
        """Return the options with one more, which is a string."""
        return Options({**self._options, name: Option("string", text)})

    def drop(self, *prefixes: str) -> None:
        """Take out every option whose name begins with one of the texts."""
        for name in self.left():
            if name.startswith(prefixes):
                del self._options[name]

    def text(self, name: str) -> str | None:
        """Take out an option that must be a string."""
        option = self._options.pop(name, None)
        if option is None:
            return None
        if option.kind != "string":
            raise planning(
                f"expected with option '{name}' to be a single-quoted string, but it was `{option.text}`"
            )
        return option.text

    def required_text(self, name: str) -> str:
        """Take out an option that must be a string and must be there."""
        found = self.text(name)
        if found is None:
            raise planning(f"required option '{name}' not set")
        return found

    def integer(self, name: str) -> int | None:
        """Take out an option that must be a whole number of 64 bits."""
        text = self._number(name, "an integer")
        if text is None:
            return None
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdigit()) or not -(2**63) <= int(text[:40]) < 2**63:
            raise planning(f"expected with option '{name}' to be an integer, but it was `{text}`")
        return int(text)

    def double(self, name: str) -> float | None:
        """Take out an option that must be a number."""
        text = self._number(name, "a double")
        if text is None:
            return None
        try:
            if "_" in text or text != text.strip():
                raise ValueError(text)
            return float(text)
        except ValueError as error:
            raise planning(f"expected with option '{name}' to be a double, but it was `{text}`") from error

    def boolean(self, name: str) -> bool | None:
        """Take out an option that must be true or false."""
        option = self._options.pop(name, None)
        if option is None:
            return None
        known = {"true": True, "yes": True, "false": False, "no": False}
        if option.kind in ("string", "boolean") and option.text.lower() in known:
            return known[option.text.lower()]
        shown = f"'{option.text}'" if option.kind == "string" else option.text
        raise planning(f"expected with option '{name}' to be a boolean, but it was `{shown}`")

    def _number(self, name: str, what: str) -> str | None:
        option = self._options.pop(name, None)
        if option is None:
            return None
        if option.kind not in ("string", "number"):
            raise planning(f"expected with option '{name}' to be {what}, but it was `{option.text}`")
        return option.text


@dataclass(frozen=True, slots=True)
class Connection:
    """A table's connector with its settings.

    :param connector: name of the connector.
    :param type: ``source``, ``sink`` or ``lookup``.
    :param description: what the graph shows for it.
    :param event_rate: rows a second that a source makes, where it has such a setting.
    :param message_count: after how many rows a source ends.
    :param path: the file or folder that it reads or writes.
    :param columns: the columns that the connector brings along.
    :param judged: False when its options were taken as they are.
    """

    connector: str
    type: str
    description: str
    event_rate: float | None = None
    message_count: int | None = None
    path: str | None = None
    columns: tuple[tuple[str, Type | None], ...] = ()
    judged: bool = True


IMPULSE_COLUMNS: tuple[tuple[str, Type | None], ...] = (("counter", INT64), ("subtask_index", INT64))


def _struct(**fields: Type | None) -> Type:
    return Type("Struct", tuple(fields.items()))


_TIME = Type(TIMESTAMP)
NEXMARK_COLUMNS: tuple[tuple[str, Type | None], ...] = (
    (
        "person",
        _struct(
            id=INT64,
            name=UTF8,
            email_address=UTF8,
            credit_card=UTF8,
            city=UTF8,
            state=UTF8,
            datetime=_TIME,
            extra=UTF8,
        ),
    ),
    (
        "auction",
        _struct(
            id=INT64,
            description=UTF8,
            item_name=UTF8,
            initial_bid=INT64,
            reserve=INT64,
            datetime=_TIME,
            expires=_TIME,
            seller=INT64,
            category=INT64,
            extra=UTF8,
        ),
    ),
    (
        "bid",
        _struct(
            auction=INT64,
            bidder=INT64,
            price=INT64,
            channel=UTF8,
            url=UTF8,
            datetime=_TIME,
            extra=UTF8,
        ),
    ),
)


def rate(value: float) -> str:
    """Return a number as Arroyo prints it: no exponent, no zero behind the point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = format(Decimal(repr(value)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text or "0"


def duration(nanos: int) -> str:
    """Return a time as Arroyo prints it, such as ``1ms``."""
    nanos %= 2**64
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanos >= size:
            return rate_of(nanos, size) + unit
    return f"{nanos}ns"


def rate_of(value: int, size: int) -> str:
    """Return a quotient without loss and without zeros at its end."""
    text = format(Decimal(value) / Decimal(size), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _impulse(options: Options) -> Connection:
    event_rate = options.double("event_rate")
    if event_rate is None:
        raise planning("required option 'event_rate' not set")
    interval = options.integer("event_time_interval")
    return impulse(event_rate, interval, options.integer("message_count"))


def impulse(event_rate: float, interval: int | None, count: int | None) -> Connection:
    """Return an impulse source."""
    bounded = "" if count is None else "Bounded"
    spacing = "" if interval is None else f", {duration(interval)}"
    return Connection(
        "impulse",
        "source",
        f"{bounded}Impulse<{rate(event_rate)} eps{spacing}>",
        event_rate=event_rate,
        message_count=count,
        columns=IMPULSE_COLUMNS,
    )


def _nexmark(options: Options) -> Connection:
    event_rate = options.double("event_rate")
    if event_rate is None:
        raise planning("required option 'event_rate' not set")
    return nexmark(event_rate, options.double("runtime"))


def nexmark(event_rate: float, runtime: float | None) -> Connection:
    """Return a nexmark source; with a running time it ends by itself."""
    count = None
    if runtime is not None and math.isfinite(event_rate * runtime):
        count = int(event_rate * runtime)
    bounded = "" if runtime is None else "Bounded"
    return Connection(
        "nexmark",
        "source",
        f"{bounded}Nexmark<{rate(event_rate)} eps>",
        event_rate=event_rate,
        message_count=count,
        columns=NEXMARK_COLUMNS,
    )


def _single_file(options: Options) -> Connection:
    path = options.required_text("path")
    kind = options.required_text("type")
    if kind not in ("source", "sink"):
        raise _OwnWordsError("'type' must be 'source' or 'sink'")
    options.boolean("wait_for_control")
    return Connection("single_file", kind, "Single File Source", path=path)


class _OwnWordsError(Exception):
    """A refusal in a connector's own words, to which the planner adds its prefix once."""


_FIXED: dict[str, Callable[[Options], Connection]] = {
    "impulse": _impulse,
    "nexmark": _nexmark,
    "single_file": _single_file,
    "blackhole": lambda _: Connection("blackhole", "sink", "Blackhole"),
    "stdout": lambda _: Connection("stdout", "sink", "StdoutSink"),
}

# Connector: (what it can be, names for the graph with the option that they show).
_SHOWN: dict[str, tuple[str, dict[str, tuple[str, str | None]]]] = {
    "kafka": ("type", {"source": ("KafkaSource", "topic"), "sink": ("KafkaSink", "topic")}),
    "confluent": ("type", {"source": ("KafkaSource", "topic"), "sink": ("KafkaSink", "topic")}),
    "kinesis": ("type", {"source": ("KinesisSource", "stream_name"), "sink": ("KinesisSink", "stream_name")}),
    "mqtt": ("type", {"source": ("MqttSource", "topic"), "sink": ("MqttSink", "topic")}),
    "fluvio": ("type", {"source": ("FluvioSource", "topic"), "sink": ("FluvioSink", "topic")}),
    "nats": ("type", {"source": ("NatsSource", "subject"), "sink": ("NatsSink", "subject")}),
    "rabbitmq": ("type", {"source": ("RabbitmqStreamSource", "stream")}),
    "redis": ("type", {"sink": ("RedisSink", None), "lookup": ("RedisLookup", None)}),
    "filesystem": ("type", {"source": ("FileSystem", None), "sink": ("FileSystemSink", "path")}),
    "delta": ("sink", {"sink": ("DeltaLakeSink", "path")}),
    "iceberg": ("sink", {"sink": ("IcebergSink", "table_name")}),
    "sse": ("source", {"source": ("SSESource", "endpoint")}),
    "websocket": ("source", {"source": ("WebsocketSource", "endpoint")}),
    "polling_http": ("source", {"source": ("PollingHTTPSource", "endpoint")}),
    "webhook": ("sink", {"sink": ("WebhookSink", "endpoint")}),
}

CONNECTORS = frozenset((*_FIXED, *_SHOWN, "preview"))

# Options that no connector sees, because they are about every connector.
_FORMATS = (
    "format",
    "framing",
    "json.",
    "avro.",
    "parquet.",
    "raw_bytes.",
    "raw_string.",
    "protobuf.",
    "bad_data",
)
_COMMON = ("event_time_field", "watermark_field", "idle_micros", "lookup.cache.")
_FORMAT_NAMES = frozenset(("json", "debezium_json", "avro", "raw_string", "raw_bytes", "protobuf", "parquet"))


def create(connector: str, options: Options) -> Connection:
    """Return the connection that a CREATE TABLE asks for.

    :param connector: the connector's name.
    :param options: its options; what it knows is taken out.
    :raises RefusedError: there is no such connector, or an option is missing or of the wrong kind.
    """
    if connector not in CONNECTORS:
        raise planning(f"Unknown connector '{connector}'")
    format_name = options.text("format")
    if format_name is not None and format_name not in _FORMAT_NAMES:
        raise planning(f"invalid format: 'Error during planning: Unknown format '{format_name}''")
    options.drop(*_FORMATS)
    try:
        if connector == "preview":
            raise _OwnWordsError("Preview connector cannot be created in SQL")
        made = _FIXED[connector](options) if connector in _FIXED else _shown(connector, options)
        if connector == "single_file" and format_name is None:
            raise _OwnWordsError("'format' must be set for Single File Source connection")
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


def _shown(connector: str, options: Options) -> Connection:
    chooses, kinds = _SHOWN[connector]
    if chooses == "type":
        kind = options.required_text("type")
        if kind not in kinds:
            raise _OwnWordsError("type must be one of 'source' or 'sink")
    else:
        kind = options.text("type") or chooses
        kind = kind if kind in kinds else chooses
    name, shows = kinds[kind]
    shown = None if shows is None else options.text(shows)
    path = shown if shows == "path" else options.text("path")
    return Connection(connector, kind, name if shown is None else f"{name}<{shown}>", path=path, judged=False)


def from_config(connector: str, config: Mapping[str, Any], table_type: str) -> Connection:
    """Return the connection of a connection table that the server has.

    :param connector: the connector's name.
    :param config: its configuration as the API took it; what does not fit is read as not set.
    :param table_type: ``source``, ``sink`` or ``lookup``.
    """
    event_rate = _number(config.get("event_rate"))
    if connector == "impulse":
        return impulse(
            event_rate or 0.0, _whole(config.get("event_time_interval")), _whole(config.get("message_count"))
        )
    if connector == "nexmark":
        return nexmark(event_rate or 0.0, _number(config.get("runtime")))
    path = config.get("path")
    found_path = path if isinstance(path, str) else None
    if connector in ("blackhole", "stdout"):
        return _FIXED[connector](Options({}))
    if connector == "single_file":
        return Connection(connector, table_type, "Single File Source", path=found_path)
    name, shows = _SHOWN.get(connector, ("", {}))[1].get(table_type, (connector, None))
    shown = config.get(shows) if shows else None
    description = f"{name}<{shown}>" if isinstance(shown, str) else name
    return Connection(connector, table_type, description, path=found_path, judged=False)


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
