"""The rows of a preview: what its SELECT makes of each number that the source counts."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.simplify import simplify

_COUNTED: dict[str, Callable[[int], int]] = {
    "counter": lambda number: number,
    "subtask_index": lambda number: 0,
}


def row_maker(query: str, columns: Sequence[str]) -> Callable[[int], dict[str, Any]]:
    """Return a function from a row's number to the row.

    Arithmetic and texts over the columns of the demo source are worked out. What the sandbox cannot work
    out has the row's number for its value: no data flows here.
    """
    names = tuple(columns) or ("counter",)
    projections = _projections(query)
    if len(projections) != len(names):
        projections = [None] * len(names)

    def row(number: int) -> dict[str, Any]:
        pairs = zip(names, projections, strict=True)
        return {name: _value(projection, number) for name, projection in pairs}

    return row


def _projections(query: str) -> list[Any]:
    try:
        statements = [item for item in sqlglot.parse(query, read="postgres") if item is not None]
    except SqlglotError:
        return []
    last = statements[-1] if statements else None
    select = last.find(exp.Select) if last is not None else None
    if select is None:
        return []
    return [item.unalias() for item in select.expressions]


def _value(projection: Any, number: int) -> Any:
    if projection is None:
        return number
    if isinstance(projection, exp.CurrentTimestamp):
        return datetime.datetime.now(datetime.UTC).isoformat()

    def counted(node: Any) -> Any:
        if isinstance(node, exp.Column) and node.name in _COUNTED:
            return exp.Literal.number(_COUNTED[node.name](number))
        return node

    try:
        result = simplify(projection.copy().transform(counted))
    except (SqlglotError, ArithmeticError, ValueError):
        return number
    if isinstance(result, exp.Literal):
        if result.is_string:
            return result.name
        return float(result.name) if "." in result.name else int(result.name)
    if isinstance(result, exp.Boolean):
        return bool(result.this)
    return number
