"""Names and types in expressions: every column must be there, every function known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql import functions
from airflow_provider_arroyo.sandbox.sql.diagnostics import (
    RefusedError,
    Span,
    UnjudgedError,
    closest,
    no_field,
    planning,
    quote,
    schema_error,
)
from airflow_provider_arroyo.sandbox.sql.parsing import identifier, span_of
from airflow_provider_arroyo.sandbox.sql.plan import Plan
from airflow_provider_arroyo.sandbox.sql.scope import Scope, Typed, literal, short
from airflow_provider_arroyo.sandbox.sql.trees import children
from airflow_provider_arroyo.sandbox.sql.types import (
    BOOLEAN,
    INT64,
    NULL,
    UTF8,
    WINDOW,
    Type,
    arithmetic,
    coerces,
    from_cast,
)
from airflow_provider_arroyo.sandbox.sql.udfs import Udf

_INTERVAL = "Interval(MonthDayNano)"
_SIGNATURES = {
    "hop": (_INTERVAL, _INTERVAL),
    "tumble": (_INTERVAL,),
    "session": (_INTERVAL,),
    "metadata": ("Utf8",),
}

_COMPARISONS = (
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.And,
    exp.Or,
    exp.Is,
    exp.Like,
    exp.ILike,
)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_SIGNS: dict[type[Any], str] = {
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.And: "AND",
    exp.Or: "OR",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.DPipe: "||",
    exp.Like: "LIKE",
    exp.ILike: "ILIKE",
}
# What an expression may be that Arroyo's parser reads as a call, with the name of the function.
_CALLS = {
    "CurrentTimestamp": "current_timestamp",
    "CurrentDate": "current_date",
    "CurrentTime": "current_time",
    "Extract": "date_part",
    "StrPosition": "strpos",
    "Substring": "substr",
    "Trim": "btrim",
    "Overlay": "overlay",
}


@dataclass(slots=True)
class Resolver:
    """Finds the names in expressions.

    :param udfs: the user-defined functions.
    :param subquery: plans a query inside of an expression.
    :param not_judged: where it notes what it accepts without a check.
    :param mismatches: refusals for types that do not fit; Arroyo looks at types after all names.
    :param located: whether it says where a name stands that is not there.
    :param seen: what was found for each node, by the id of the node.
    :param called: the names of the functions that were called.
    :param any_over: whether there was a call with OVER.
    """

    udfs: Mapping[str, Udf]
    subquery: Callable[[exp.Expression, Scope], Plan]
    not_judged: dict[str, None]
    mismatches: list[RefusedError] = field(default_factory=list)
    located: bool = True
    seen: dict[int, Typed] = field(default_factory=dict)
    called: dict[str, None] = field(default_factory=dict)
    any_over: bool = False

    def settle(self) -> None:
        """Raise the first refusal for types that do not fit, now that every name was found."""
        if self.mismatches:
            raise self.mismatches[0]

    def resolve(self, node: exp.Expression, scope: Scope) -> Typed:
        """Return an expression with its names found.

        :raises RefusedError: a name is not there.
        """
        chain: list[exp.Binary] = []
        while isinstance(node, exp.Binary) and type(node) in _SIGNS and isinstance(node.this, exp.Expression):
            chain.append(node)
            node = node.this
        typed = self._leaf(node, scope)
        self.seen[id(node)] = typed
        columns = set(typed.columns)
        for binary in reversed(chain):
            right = self.resolve(binary.expression, scope)
            columns |= right.columns
            # Only the whole is asked for its columns; a set for each step of a long sum would be slow.
            whole = frozenset(columns) if binary is chain[0] else frozenset()
            typed = _binary(binary, typed, right, whole)
            self.seen[id(binary)] = typed
        return typed

    def _leaf(self, node: exp.Expression, scope: Scope) -> Typed:
        if isinstance(node, exp.Column):
            return self._column(node, scope)
        if isinstance(node, exp.Literal):
            return literal(node)
        if isinstance(node, exp.Null):
            return Typed("NULL", NULL, name="NULL")
        if isinstance(node, exp.Boolean):
            text = f"Boolean({'true' if node.this else 'false'})"
            return Typed(text, BOOLEAN, name=text)
        if isinstance(node, exp.Paren):
            return self.resolve(node.this, scope)
        if isinstance(node, exp.Alias):
            inner = self.resolve(node.this, scope)
            alias = identifier(node.args["alias"])
            return Typed(f"{inner.text} AS {alias}", inner.type, inner.place, inner.columns, alias)
        if isinstance(node, exp.Cast):
            return self._cast(node, scope)
        if isinstance(node, exp.Anonymous):
            return self._call(node, scope, windowed=False)
        if isinstance(node, exp.Window):
            return self._over(node, scope)
        if isinstance(node, exp.Interval):
            return Typed(node.sql(), Type(_INTERVAL), name=node.sql())
        if isinstance(node, exp.Dot):
            return self._dot(node, scope)
        if isinstance(node, exp.Bracket):
            return self._bracket(node, scope)
        if isinstance(node, exp.Subquery | exp.Select | exp.SetOperation):
            plan = self.subquery(node, scope)
            return Typed("(<subquery>)", plan.fields[0].type if plan.fields else None, name="(<subquery>)")
        if isinstance(node, exp.Star):
            return Typed("*", INT64, name="*")
        return self._other(node, scope)

    def _column(self, node: exp.Column, scope: Scope) -> Typed:
        if isinstance(node.this, exp.Star):
            return Typed(node.sql(), None, name="*")
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        names = [identifier(part) for part in parts]
        span = _union(parts)
        if len(names) == 1 and names[0] in scope.aliases and not scope.find(None, names[0]):
            return self.resolve(scope.aliases[names[0]], Scope(scope.plan, scope.outer))
        level: Scope | None = scope
        while level is not None:
            found = self._search(names, level, span)
            if found is not None:
                return found if level is scope else Typed(found.text, found.type, name=found.name)
            level = level.outer
        if scope.plan.is_open:
            return Typed(".".join(names), None, name=names[-1])
        qualifier = ".".join(names[:-1]) or None
        raise no_field(qualifier, names[-1], scope.valid, span, located=self.located)

    def _search(self, names: Sequence[str], scope: Scope, span: Span | None) -> Typed | None:
        """Look for ``a.b.c`` as a table with a column, or a column with fields inside."""
        for tables in range(min(len(names) - 1, 3), -1, -1):
            qualifier = ".".join(names[:tables]) or None
            places = scope.find(qualifier, names[tables])
            if not places:
                continue
            if len(places) > 1:
                name = names[tables]
                message = f"Ambiguous reference to unqualified field {quote(name)}"
                headline = f"column '{name}' is ambiguous" if self.located else None
                raise schema_error(message, headline=headline, span=span)
            item = scope.plan.fields[places[0]]
            text = item.name if item.qualifier is None else f"{item.qualifier}.{item.name}"
            inner = names[tables + 1 :]
            if not inner:
                return Typed(text, item.type, places[0], frozenset(places), item.name, item.qualifier)
            for name in inner:
                text += f"[{name}]"
            return Typed(text, _nested(item.type, inner), None, frozenset(places), text)
        return None

    def _cast(self, node: exp.Cast, scope: Scope) -> Typed:
        inner = self.resolve(node.this, scope)
        target = node.args["to"]
        kind = target.this if isinstance(target, exp.DataType) else None
        sizes = tuple(part.sql() for part in target.expressions) if isinstance(target, exp.DataType) else ()
        into = from_cast(str(getattr(kind, "name", kind)), sizes)
        shown = into.name if into is not None else str(target)
        verb = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
        # Arroyo names the column after what was cast, and shows the cast in messages only.
        return Typed(
            f"{verb}({inner.text} AS {shown})", into, None, inner.columns, inner.name, inner.qualifier
        )

    def _call(self, node: exp.Anonymous, scope: Scope, *, windowed: bool) -> Typed:
        written = node.this
        quoted = isinstance(written, exp.Identifier)
        name = identifier(written) if quoted else str(written).lower()
        arguments = [part for part in node.expressions if isinstance(part, exp.Expression)]
        self.called[name] = None
        udf = self.udfs.get(name)
        if udf is None and not _known(name, windowed=windowed):
            raise self._unknown_function(name, node, windowed)
        distinct = ""
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            distinct = "DISTINCT "
            arguments = list(arguments[0].expressions)
        typed = [self.resolve(argument, scope) for argument in arguments]
        text = short(f"{name}({distinct}{', '.join(part.text for part in typed)})")
        columns = frozenset(place for part in typed for place in part.columns)
        if udf is not None:
            self._check_signature(name, [part.type for part in typed], udf.arguments)
            return Typed(text, udf.returns, None, columns, text)
        if name in _SIGNATURES:
            self._check_signature(name, [part.type for part in typed], [Type(t) for t in _SIGNATURES[name]])
        if name in functions.WINDOWS:
            return Typed(text, WINDOW, None, columns, text)
        return Typed(text, functions.returned(name, [part.type for part in typed]), None, columns, text)

    def _unknown_function(self, name: str, node: exp.Expression, windowed: bool) -> RefusedError:
        known: Iterator[str] | frozenset[str]
        if windowed:
            known = functions.AGGREGATES | functions.WINDOW_FUNCTIONS
        else:
            known = functions.SCALARS | functions.AGGREGATES | set(self.udfs)
        near = closest(known, name)
        return planning(
            f"Invalid function '{name}'.\nDid you mean '{near}'?",
            headline=f"Invalid function '{name}'" if self.located else None,
            span=span_of(node),
        )

    def _check_signature(
        self, name: str, given: Sequence[Type | None], wanted: Sequence[Type | None]
    ) -> None:
        if any(part is None for part in (*given, *wanted)):
            self.not_judged[f"the types of the arguments of {name}"] = None
            return
        types = [part.name for part in given if part is not None]
        into = [part.name for part in wanted if part is not None]
        if len(types) == len(into) and all(map(coerces, into, types)):
            return
        if types or not into:
            problem = (
                f"Failed to coerce arguments to satisfy a call to '{name}' function: coercion from "
                f"[{', '.join(types)}] to the signature Exact([{', '.join(into)}]) failed"
            )
        else:
            problem = f"'{name}' does not support zero arguments"
        self.mismatches.append(
            planning(
                f"{problem} No function matches the given name and argument types "
                f"'{name}({', '.join(types)})'. You might need to add explicit type casts.\n"
                f"\tCandidate functions:\n\t{name}({', '.join(into)})"
            )
        )

    def _over(self, node: exp.Window, scope: Scope) -> Typed:
        self.any_over = True
        call = node.this
        while isinstance(call, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
            call = call.this
        if not isinstance(call, exp.Anonymous):
            raise UnjudgedError("a window function that is not a plain call")
        inner = self._call(call, scope, windowed=True)
        for part in node.args.get("partition_by") or []:
            self.resolve(part, scope)
        order = node.args.get("order")
        for part in order.expressions if order is not None else []:
            self.resolve(part.this, scope)
        text = f"{inner.text} OVER (…)"
        return Typed(text, inner.type, None, frozenset(), text)

    def _dot(self, node: exp.Dot, scope: Scope) -> Typed:
        if isinstance(node.expression, exp.Anonymous):
            call = node.expression
            names = [part.name for part in node.find_all(exp.Identifier)][::-1]
            raise self._unknown_function(".".join([*names, str(call.this)])[:200], call, False)
        inner = self.resolve(node.this, scope)
        name = identifier(node.expression) if isinstance(node.expression, exp.Identifier) else ""
        text = f"{inner.text}[{name}]"
        return Typed(text, _nested(inner.type, [name]), None, inner.columns, text)

    def _bracket(self, node: exp.Bracket, scope: Scope) -> Typed:
        inner = self.resolve(node.this, scope)
        columns = set(inner.columns)
        shown = []
        for index in node.expressions:
            typed = self.resolve(index, scope)
            columns |= typed.columns
            # sqlglot counts from 0 where the query counts from 1.
            plain = isinstance(index, exp.Literal) and not index.is_string and str(index.this).isdigit()
            shown.append(f"Int64({int(str(index.this)[:18]) + 1})" if plain else typed.text)
        text = short(f"{inner.text}[{', '.join(shown)}]")
        item = inner.type.item if inner.type is not None else None
        return Typed(text, item, None, frozenset(columns), text)

    def _other(self, node: exp.Expression, scope: Scope) -> Typed:
        columns: set[int] = set()
        inside: list[Typed] = []
        for child in children(node):
            typed = self.resolve(child, scope)
            inside.append(typed)
            columns |= typed.columns
        text = short(f"{type(node).__name__}({', '.join(part.text for part in inside)})")
        result: Type | None = None
        called = _CALLS.get(type(node).__name__)
        if called is not None:
            result = functions.returned(called, [part.type for part in inside])
            text = short(f"{called}({', '.join(part.text for part in inside)})")
        elif isinstance(node, (exp.Not, exp.In, exp.Between, exp.Exists, *_COMPARISONS)):
            result = BOOLEAN
        elif isinstance(node, exp.Neg | exp.Filter | exp.WithinGroup) and inside:
            result = inside[0].type
        elif isinstance(node, exp.Case) and inside:
            branch = node.args["ifs"][0].args.get("true") if node.args.get("ifs") else None
            result = self.seen[id(branch)].type if id(branch) in self.seen else None
        return Typed(text, result, None, frozenset(columns), text)


def _binary(node: exp.Binary, left: Typed, right: Typed, columns: frozenset[int]) -> Typed:
    result: Type | None = None
    if isinstance(node, _COMPARISONS):
        result = BOOLEAN
    elif isinstance(node, _ARITHMETIC):
        result = arithmetic(left.type, right.type)
    elif isinstance(node, exp.DPipe):
        result = UTF8
    text = short(f"{left.text} {_SIGNS[type(node)]} {right.text}")
    return Typed(text, result, None, columns, text)


def _known(name: str, *, windowed: bool) -> bool:
    if windowed:
        return name in functions.WINDOW_FUNCTIONS or name in functions.AGGREGATES
    return name in functions.SCALARS or name in functions.AGGREGATES


def _nested(outer: Type | None, names: Sequence[str]) -> Type | None:
    for name in names:
        if outer is None:
            return None
        outer = outer.field(name)
    return outer


def _union(parts: Sequence[exp.Expression]) -> Span | None:
    span: Span | None = None
    for part in parts:
        found = span_of(part)
        if found is not None:
            span = found.union(span)
    return span
