"""Walks through sqlglot's trees that keep to what counts as an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql.parsing import identifier

# Holders of expressions that are none themselves.
_HOLDERS = (exp.If, exp.Where, exp.Ordered, exp.Order, exp.Tuple, exp.Distinct, exp.Slice)
_NOT_EXPRESSIONS = (exp.JSONPath, exp.Var, exp.DataType, exp.Identifier)
_QUERIES = (exp.Subquery, exp.Select, exp.SetOperation)


def children(node: exp.Expression) -> Iterator[exp.Expression]:
    """Go through the expressions inside of one, without names, types and units."""
    for name, value in node.args.items():
        if name in ("unit", "to", "alias", "kind", "zone_type", "frame", "spec"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, _NOT_EXPRESSIONS):
                continue
            if isinstance(part, exp.PropertyEQ):
                part = part.expression
            if isinstance(part, _HOLDERS):
                yield from children(part)
            elif isinstance(part, exp.Expression):
                yield part


def columns_outside(node: exp.Expression, covered: Callable[[exp.Expression], bool]) -> Iterator[exp.Column]:
    """Go through the columns of an expression that stand in no covered part of it."""
    pending = [node]
    while pending:
        current = pending.pop()
        if covered(current):
            continue
        if isinstance(current, exp.Column):
            yield current
        elif not isinstance(current, _QUERIES):
            pending.extend(reversed(list(children(current))))


def call_name(node: exp.Expression) -> str | None:
    """Return the name of the function that an expression calls, in small letters; None for another."""
    if not isinstance(node, exp.Anonymous):
        return None
    return identifier(node.this) if isinstance(node.this, exp.Identifier) else str(node.this).lower()


def calls(
    node: exp.Expression, wanted: Callable[[str], bool], *, windowed: bool = False
) -> Iterator[exp.Anonymous]:
    """Go through the calls of some functions in an expression, not those inside of subqueries.

    :param node: the expression.
    :param wanted: tells by its name whether a function is meant.
    :param windowed: whether to look inside of calls with OVER; their own function never counts.
    """
    pending = [node]
    while pending:
        current = pending.pop()
        name = call_name(current)
        if name is not None and wanted(name) and isinstance(current, exp.Anonymous):
            yield current
        if isinstance(current, _QUERIES):
            continue
        if isinstance(current, exp.Window):
            if not windowed:
                continue
            call = current.this
            pending.extend(call.expressions if isinstance(call, exp.Anonymous) else [])
            continue
        pending.extend(reversed(list(children(current))))


def unaliased(node: exp.Expression) -> exp.Expression:
    """Return an expression without the name that was given to it, and without brackets."""
    while isinstance(node, exp.Alias | exp.Paren):
        node = node.this
    return node


def overs(node: exp.Expression) -> list[exp.Expression]:
    """Return the calls with OVER in an expression, not those inside of subqueries."""
    found: list[exp.Expression] = []
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, _QUERIES):
            continue
        if isinstance(current, exp.Window):
            found.append(current)
        pending.extend(reversed(list(children(current))))
    return found


def conjuncts(node: exp.Expression) -> list[exp.Expression]:
    """Return the conditions that must all hold for a condition to hold."""
    found: list[exp.Expression] = []
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, exp.Paren):
            pending.append(current.this)
        elif isinstance(current, exp.And):
            pending.extend((current.expression, current.this))
        else:
            found.append(current)
    return found
