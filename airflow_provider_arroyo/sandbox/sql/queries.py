"""Queries: WITH, FROM with its joins, UNION, ORDER BY; what a SELECT makes of its rows is in `selection`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql.diagnostics import (
    RefusedError,
    Span,
    UnjudgedError,
    not_implemented,
    planning,
)
from airflow_provider_arroyo.sandbox.sql.parsing import arg, identifier, span_of
from airflow_provider_arroyo.sandbox.sql.plan import Field, Later, Plan, aggregated, joined, united
from airflow_provider_arroyo.sandbox.sql.resolve import Resolver
from airflow_provider_arroyo.sandbox.sql.scope import Scope
from airflow_provider_arroyo.sandbox.sql.selection import Selection
from airflow_provider_arroyo.sandbox.sql.trees import conjuncts
from airflow_provider_arroyo.sandbox.sql.udfs import Udf

# Conditions that do not hold where a column is NULL.
_STRICT = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.In, exp.Between)

_Ctes = Mapping[str, Plan]


@dataclass(slots=True)
class QueryPlanner:
    """Plans queries.

    :param scan: returns the plan of a table by its name, or None when there is no such table.
    :param udfs: the user-defined functions.
    :param later: where refusals go that Arroyo finds only after every name was found.
    :param not_judged: where it notes what it accepts without a check.
    """

    scan: Callable[[str], Plan | None]
    udfs: Mapping[str, Udf]
    later: Later
    not_judged: dict[str, None]
    _ctes: _Ctes = field(default_factory=dict)

    def plan(self, node: exp.Expression, ctes: _Ctes | None = None, outer: Scope | None = None) -> Plan:
        """Return the plan of a query.

        :raises RefusedError: a name is not there, or Arroyo does not have the construct.
        :raises UnjudgedError: the construct is not known here.
        """
        return self._query(node, ctes or {}, outer, inner=False)

    def _query(self, node: exp.Expression, ctes: _Ctes, outer: Scope | None, *, inner: bool) -> Plan:
        ctes = self._with(node, ctes, outer)
        while isinstance(node, exp.Subquery) and not (node.args.get("order") or node.args.get("limit")):
            node = node.this
            ctes = self._with(node, ctes, outer)
        scope: Scope | None = None
        if isinstance(node, exp.Select):
            plan, scope = self._select(node, ctes, outer)
        elif isinstance(node, exp.SetOperation):
            plan = self._set_operation(node, ctes, outer)
        elif isinstance(node, exp.Values):
            plan = _values(node)
        elif isinstance(node, exp.Subquery):
            plan = self._query(node.this, ctes, outer, inner=inner)
        elif isinstance(node, exp.Table):
            plan = self._table(node, ctes)
        else:
            raise UnjudgedError(f"a query of the kind {type(node).__name__}")
        self._order_and_limit(node, plan, scope, inner=inner)
        return plan

    def _with(self, node: exp.Expression, ctes: _Ctes, outer: Scope | None) -> _Ctes:
        clause = arg(node, "with")
        if clause is None:
            return ctes
        if clause.args.get("recursive"):
            self.later.rewriting(planning("Recursive CTEs are not supported (RecursiveQuery)"))
        known = dict(ctes)
        for cte in clause.expressions:
            alias = cte.args["alias"]
            name = identifier(alias.this)
            plan = self._query(cte.this, known, outer, inner=True)
            columns = [identifier(column) for column in alias.args.get("columns") or []]
            known[name] = plan.aliased(name, columns)
        return known

    def _order_and_limit(self, node: exp.Expression, plan: Plan, scope: Scope | None, *, inner: bool) -> None:
        """Refuse ORDER BY and LIMIT; a subquery's ORDER BY without a LIMIT is dropped by Arroyo."""
        order, limit = node.args.get("order"), node.args.get("limit")
        fetch = ""
        if limit is not None:
            amount = arg(limit, "expression") or arg(limit, "count")
            fetch = str(amount.this) if isinstance(amount, exp.Literal) else "None"
        if order is not None and (limit is not None or not inner):
            shown = [self._sort_key(item, plan, scope) for item in order.expressions]
            text = f"Sort: {', '.join(shown)}" + (f", fetch={fetch}" if fetch else "")
            self.later.rewriting(planning(f"ORDER BY is not currently supported ({text})"))
        elif limit is not None:
            text = f"Limit: skip=0, fetch={fetch}"
            self.later.rewriting(planning(f"LIMIT is not currently supported ({text})"))

    def _sort_key(self, item: exp.Expression, plan: Plan, scope: Scope | None) -> str:
        resolver = self._resolver()
        resolver.located = False
        key = item.this
        if isinstance(key, exp.Literal):
            shown = str(key.this)
        else:
            try:
                shown = resolver.resolve(key, Scope(plan)).text
            except RefusedError:
                if scope is None:
                    raise
                shown = resolver.resolve(key, scope).text
        down = bool(item.args.get("desc"))
        first = bool(item.args.get("nulls_first")) or down
        return f"{shown} {'DESC' if down else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"

    def _set_operation(self, node: exp.SetOperation, ctes: _Ctes, outer: Scope | None) -> Plan:
        branches: list[tuple[exp.Expression, bool]] = []
        left: exp.Expression = node
        while isinstance(left, exp.SetOperation) and (left is node or not arg(left, "with")):
            if not isinstance(left, exp.Union):
                raise UnjudgedError("INTERSECT and EXCEPT")
            branches.append((left.expression, bool(left.args.get("distinct"))))
            left = left.this
        plan = self._query(left, ctes, outer, inner=True)
        for branch, distinct in reversed(branches):
            right = self._query(branch, ctes, outer, inner=True)
            if len(plan.fields) != len(right.fields) and not (plan.is_open or right.is_open):
                message = "UNION queries have different number of columns"
                raise planning(message, headline=message)
            plan = united([plan, right], self.later)
            if distinct:
                plan = replace(aggregated(plan, [], False, self.later), fields=plan.fields)
        return plan

    def _resolver(self) -> Resolver:
        return Resolver(self.udfs, self._subquery, self.not_judged)

    def _subquery(self, node: exp.Expression, scope: Scope) -> Plan:
        plan = self._query(node, self._ctes, scope, inner=True)
        self.later.rewriting(not_implemented("can't handle non-inner joins without windows"))
        return plan

    # --- FROM ---------------------------------------------------------------------------------------

    def _from(self, node: exp.Select, ctes: _Ctes, outer: Scope | None) -> Plan:
        clause = arg(node, "from")
        if clause is None:
            return Plan(fields=(), empty="EmptyRelation")
        plan = self._relation(clause.this, ctes, outer)
        plan = self._joins(plan, clause.this.args.get("joins") or [], node, ctes, outer)
        plan = self._joins(plan, node.args.get("joins") or [], node, ctes, outer)
        if node.args.get("laterals"):
            raise UnjudgedError("LATERAL")
        return plan

    def _joins(
        self, plan: Plan, joins: Sequence[exp.Expression], node: exp.Select, ctes: _Ctes, outer: Scope | None
    ) -> Plan:
        for join in joins:
            right = self._relation(join.this, ctes, outer)
            right = self._joins(right, join.this.args.get("joins") or [], node, ctes, outer)
            plan = self._join(plan, right, join, node, outer)
        return plan

    def _join(
        self, left: Plan, right: Plan, join: exp.Expression, node: exp.Select, outer: Scope | None
    ) -> Plan:
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        name = side.title() if side else "Inner"
        if kind in ("SEMI", "ANTI"):
            name += kind.title()
        both = Scope(Plan(fields=(*left.fields, *right.fields), is_open=left.is_open or right.is_open), outer)
        if join.args.get("using") or str(join.args.get("method") or "").upper() == "NATURAL":
            self._check_using(join, left, right)
            self.later.rewriting(not_implemented("can't handle join constraint other than ON"))
            return joined(left, right, name, True, self.later)
        condition = join.args.get("on")
        where = node.args.get("where")
        if side and where is not None:
            name = self._without_nulls(name, where.this, both, len(left.fields))
        if condition is not None:
            resolver = self._resolver()
            self._check_lookup(right, condition, resolver, both, len(left.fields))
            equal = self._links(condition, resolver, both, len(left.fields))
            resolver.settle()
        else:
            equal = where is not None and self._would_link(where.this, both, len(left.fields))
        return joined(left, right, name, equal or both.plan.is_open, self.later)

    def _without_nulls(self, kind: str, condition: exp.Expression, both: Scope, size: int) -> str:
        """Return what an outer join becomes because WHERE drops the rows that one side lacks."""
        left, right = False, False
        for part in conjuncts(condition):
            if not isinstance(part, _STRICT):
                continue
            try:
                columns = self._resolver().resolve(part, both).columns
            except RefusedError:
                # WHERE is checked as a whole, once all tables are joined.
                continue
            left = left or any(place < size for place in columns)
            right = right or any(place >= size for place in columns)
        kept = {"Left": right, "Right": left}
        if kind in kept:
            return "Inner" if kept[kind] else kind
        if kind == "Full":
            return {(True, True): "Inner", (True, False): "Left", (False, True): "Right"}.get(
                (left, right), kind
            )
        return kind

    def _check_using(self, join: exp.Expression, left: Plan, right: Plan) -> None:
        for column in join.args.get("using") or []:
            for plan in (left, right):
                self._resolver().resolve(exp.column(column.copy()), Scope(plan))

    def _check_lookup(
        self, right: Plan, condition: exp.Expression, resolver: Resolver, both: Scope, size: int
    ) -> None:
        if right.lookup is None:
            return
        for part in conjuncts(condition):
            if not isinstance(part, exp.EQ):
                continue
            for end in (part.this, part.expression):
                typed = resolver.resolve(end, both)
                if typed.place is not None and typed.place >= size and typed.name not in right.lookup[1]:
                    self.later.rewriting(
                        planning(
                            "the right-side of a look-up join condition must be a PRIMARY KEY column, but "
                            f"'{typed.name}' is not"
                        )
                    )

    @staticmethod
    def _links(condition: exp.Expression, resolver: Resolver, both: Scope, size: int) -> bool:
        """Tell whether some column of the left side must equal one of the right."""
        linked = False
        for part in conjuncts(condition):
            resolver.resolve(part, both)
            if isinstance(part, exp.EQ):
                ends = [resolver.resolve(end, both).columns for end in (part.this, part.expression)]
                left = [bool(end) and max(end) < size for end in ends]
                right = [bool(end) and min(end) >= size for end in ends]
                linked = linked or (left[0] and right[1]) or (left[1] and right[0])
        return linked

    def _would_link(self, condition: exp.Expression, both: Scope, size: int) -> bool:
        for part in conjuncts(condition):
            if isinstance(part, exp.EQ):
                try:
                    if self._links(part, self._resolver(), both, size):
                        return True
                except RefusedError:
                    # The column may be of a table that is joined further on; WHERE is checked as a whole.
                    continue
        return False

    def _relation(self, node: exp.Expression, ctes: _Ctes, outer: Scope | None) -> Plan:
        alias = node.args.get("alias")
        if isinstance(node, exp.Table):
            plan = self._table(node, ctes)
        elif isinstance(node, exp.Subquery):
            if isinstance(node.this, exp.Table):
                plan = self._relation(node.this, ctes, outer)
                plan = self._joins(plan, node.this.args.get("joins") or [], exp.Select(), ctes, outer)
            else:
                plan = self._query(node.this, self._with(node, ctes, outer), outer, inner=True)
        elif isinstance(node, exp.Values):
            plan = _values(node)
        else:
            raise UnjudgedError(f"{type(node).__name__.upper()} in FROM")
        if isinstance(alias, exp.TableAlias) and alias.this is not None:
            columns = [identifier(column) for column in alias.args.get("columns") or []]
            plan = plan.aliased(identifier(alias.this), columns)
        return plan

    def _table(self, node: exp.Table, ctes: _Ctes) -> Plan:
        if not isinstance(node.this, exp.Identifier):
            raise UnjudgedError("a function in FROM")
        if node.args.get("sample") or node.args.get("pivots"):
            raise UnjudgedError("TABLESAMPLE and PIVOT")
        parts = [node.args[name] for name in ("catalog", "db", "this") if node.args.get(name)]
        name = ".".join(identifier(part) for part in parts)
        if name in ctes:
            return ctes[name]
        plan = self.scan(name)
        if plan is not None:
            return plan
        span: Span | None = None
        alias = node.args.get("alias")
        named = [alias.this, *(alias.args.get("columns") or [])] if isinstance(alias, exp.TableAlias) else []
        for part in (*parts, *named):
            found = span_of(part)
            span = found.union(span) if found is not None else span
        raise planning(f"Table {name} not found", headline=f"table '{name}' not found", span=span)

    def _select(self, node: exp.Select, ctes: _Ctes, outer: Scope | None) -> tuple[Plan, Scope]:
        """Return the plan of a SELECT, and the scope of the rows that it takes."""
        outside, self._ctes = self._ctes, ctes
        try:
            scope = Scope(self._from(node, ctes, outer), outer)
            return Selection(scope, self._resolver(), self.later).plan(node), scope
        finally:
            self._ctes = outside


def _values(node: exp.Values) -> Plan:
    rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions]
    width = max((len(row) for row in rows), default=0)
    if any(len(row) != width for row in rows):
        raise planning("Inconsistent data length across values list")
    return Plan(fields=tuple(Field(None, f"column{i + 1}") for i in range(width)), empty="Values")
