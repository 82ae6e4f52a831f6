"""Where names are looked up, and what an expression is once its names were found."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql.plan import Plan
from airflow_provider_arroyo.sandbox.sql.types import FLOAT64, INT64, UTF8, Type

_LONG = 500


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression whose names were found.

    :param text: the expression as Arroyo shows it.
    :param type: its type; None when not known.
    :param place: the place of the column in the plan, if it is nothing but a column.
    :param columns: the places of all columns in it.
    :param name: the name that it has as a column of a result.
    :param qualifier: the table that goes with the name.
    """

    text: str
    type: Type | None = None
    place: int | None = None
    columns: frozenset[int] = frozenset()
    name: str = ""
    qualifier: str | None = None


@dataclass(slots=True)
class Scope:
    """Where names are looked up.

    :param plan: the relation whose columns they are.
    :param outer: the scope around a subquery.
    :param aliases: names given in SELECT, where they count.
    """

    plan: Plan
    outer: Scope | None = None
    aliases: Mapping[str, exp.Expression] = field(default_factory=dict)
    by_name: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, item in enumerate(self.plan.fields):
            self.by_name.setdefault(item.name, []).append(place)

    def find(self, qualifier: str | None, name: str) -> list[int]:
        """Return the places of the columns with that name."""
        found = self.by_name.get(name, [])
        if qualifier is None:
            return found
        return [place for place in found if self.plan.fields[place].qualifier == qualifier]

    @property
    def valid(self) -> list[tuple[str | None, str]]:
        """Table and name of every column."""
        return [(item.qualifier, item.name) for item in self.plan.fields]


def short(text: str) -> str:
    """Return a text that stands for a long one, and differs where those differ."""
    if len(text) <= _LONG:
        return text
    return f"{text[:_LONG]}…{zlib.crc32(text.encode('utf-8', 'surrogatepass')):x}{len(text)}"


def literal(node: exp.Literal) -> Typed:
    """Return a number or a text, as Arroyo reads it."""
    value = str(node.this)
    if node.is_string:
        text = f'Utf8("{value[:1000]}")'
        return Typed(text, UTF8, name=text)
    digits = value.replace("_", "")
    if digits.isascii() and digits.isdigit() and len(digits) <= 20:
        number = int(digits)
        if number < 2**63:
            return Typed(f"Int64({number})", INT64, name=f"Int64({number})")
        if number < 2**64:
            return Typed(f"UInt64({number})", Type("UInt64"), name=f"UInt64({number})")
    text = f"Float64({value[:50]})"
    return Typed(text, FLOAT64, name=text)
