"""Connections, and the sources that make their own rows: impulse and nexmark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_arroyo.sandbox.sql.types import INT64, TIMESTAMP, UTF8, Type
from airflow_provider_arroyo.sandbox.sql.windows import duration


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
    :param partitions: the columns by which a sink cuts its files.
    """

    connector: str
    type: str
    description: str
    event_rate: float | None = None
    message_count: int | None = None
    path: str | None = None
    columns: tuple[tuple[str, Type | None], ...] = ()
    judged: bool = True
    partitions: tuple[str, ...] = ()


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
