"""Windows and intervals: how a stream is cut into pieces of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql.diagnostics import not_implemented, planning

_NANOS = {
    "NANOSECOND": 1,
    "MICROSECOND": 1_000,
    "MILLISECOND": 1_000_000,
    "SECOND": 10**9,
    "SEC": 10**9,
    "S": 10**9,
    "MINUTE": 60 * 10**9,
    "MIN": 60 * 10**9,
    "M": 60 * 10**9,
    "HOUR": 3600 * 10**9,
    "H": 3600 * 10**9,
    "DAY": 86400 * 10**9,
    "D": 86400 * 10**9,
    "WEEK": 7 * 86400 * 10**9,
    "W": 7 * 86400 * 10**9,
}
_MONTHS = ("MONTH", "MON", "YEAR", "QUARTER", "DECADE", "CENTURY", "MILLENNIUM")


@dataclass(frozen=True, slots=True)
class Window:
    """How a stream is cut: ``tumble``, ``hop`` or ``session``; times in nanoseconds."""

    kind: str
    width: int
    slide: int = 0


def nanoseconds(node: exp.Expression) -> int:
    """Return the length of an interval, or of a text that stands for one, in nanoseconds.

    :raises RefusedError: it is not an interval, or is one of months.
    """
    if isinstance(node, exp.Paren):
        return nanoseconds(node.this)
    text = ""
    if isinstance(node, exp.Interval):
        amount = node.this
        text = str(amount.this) if isinstance(amount, exp.Literal) else ""
        unit = node.args.get("unit")
        text += f" {unit.this if isinstance(unit, exp.Var) else unit or ''}"
    elif isinstance(node, exp.Literal) and node.is_string:
        text = str(node.this)
    parts = re.findall(r"([+-]?\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]+)", text)
    if not parts and (plain := re.fullmatch(r"\s*(\d{1,18})\s*", text)):
        parts = [(plain.group(1), "SECOND")]
    total = 0
    for amount, unit in parts:
        name = unit.upper()
        singular = name[:-1] if name.endswith("S") and len(name) > 1 else name
        if singular in _MONTHS:
            raise not_implemented("Windows do not support durations specified as months")
        size = _NANOS.get(singular)
        if size is None:
            parts = []
            break
        total += int(float(amount) * size) if "." in amount else int(amount) * size
    if not parts:
        raise planning(f"unsupported Duration expression, expect duration literal, not {node.sql()[:200]}")
    return total


def duration(nanos: int) -> str:
    """Return a time as Arroyo prints it, such as ``1.5s`` or ``20ms``."""
    nanos %= 2**64
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanos >= size:
            text = format(Decimal(nanos) / Decimal(size), "f")
            return (text.rstrip("0").rstrip(".") if "." in text else text) + unit
    return f"{nanos}ns"


def window_of(name: str, arguments: Sequence[exp.Expression]) -> Window | None:
    """Return the window that a call asks for; None when its arguments do not fit its signature.

    :raises RefusedError: an argument is no interval, or width and slide do not go together.
    """
    if len(arguments) != (2 if name == "hop" else 1):
        return None
    times = [nanoseconds(argument) for argument in arguments]
    if name != "hop":
        return Window(name, times[0])
    slide, width = times
    if slide == 0 or width % slide:
        raise planning(
            f"hop() width {duration(width)} currently must be a multiple of slide {duration(slide)}"
        )
    return Window("tumble", width) if slide == width else Window("hop", width, slide)
