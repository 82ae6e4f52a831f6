"""SELECT: what it makes of the rows that FROM gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql import functions
from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, UnjudgedError, planning
from airflow_provider_arroyo.sandbox.sql.parsing import arg, identifier, span_of
from airflow_provider_arroyo.sandbox.sql.plan import (
    Field,
    Later,
    Plan,
    aggregated,
    key_step,
    shuffled,
)
from airflow_provider_arroyo.sandbox.sql.resolve import Resolver
from airflow_provider_arroyo.sandbox.sql.scope import Scope, Typed
from airflow_provider_arroyo.sandbox.sql.steps import forward
from airflow_provider_arroyo.sandbox.sql.trees import call_name, calls, columns_outside, overs, unaliased
from airflow_provider_arroyo.sandbox.sql.windows import Window, window_of

_Item = tuple[exp.Expression, Typed]


@dataclass(slots=True)
class Selection:
    """Plans one SELECT.

    :param scope: the rows that it takes, and what is around it.
    :param resolver: finds the names in its expressions.
    :param later: where refusals go that Arroyo finds only after every name was found.
    """

    scope: Scope
    resolver: Resolver
    later: Later

    @property
    def _base(self) -> Plan:
        return self.scope.plan

    def plan(self, node: exp.Select) -> Plan:
        """Return the plan of a SELECT.

        :raises RefusedError: a name is not there, or Arroyo does not have the construct.
        :raises UnjudgedError: the construct is not known here.
        """
        where = node.args.get("where")
        if where is not None:
            self._where(where.this)
        items = self._expand(node.expressions)
        outputs = [(item, self.resolver.resolve(item, self.scope)) for item in items]
        self.resolver.settle()
        aliases = {identifier(item.args["alias"]): item.this for item in items if isinstance(item, exp.Alias)}
        named = Scope(self._base, self.scope.outer, aliases)
        having = node.args.get("having")
        if having is not None:
            self._having(having.this, named)
        groups = self._groups(node, items, named)
        plan = self._gathered(groups, [*items, *([having.this] if having is not None else [])], having)
        plan = self._window_functions(plan, items)
        asynchronous = self._async_calls(plan, items, where)
        plan = asynchronous or plan
        self._unique(outputs)
        if plan.empty is not None:
            self.later.rewriting(
                planning(
                    f"No timestamp field found in projection input ({plan.empty}). Query should've been rewritten"
                )
            )
        fields, window_fields = self._fields(outputs, plan, groups)
        plan = replace(plan.projected(fields, window_fields), bare=asynchronous is not None)
        distinct = node.args.get("distinct")
        if distinct is None:
            return plan
        if distinct.args.get("on") is not None:
            raise UnjudgedError("DISTINCT ON")
        return replace(aggregated(plan, [], bool(plan.window_fields), self.later), fields=plan.fields)

    def _where(self, condition: exp.Expression) -> None:
        self.resolver.resolve(condition, self.scope)
        if any(True for _ in self._calls(condition, self._is_aggregate)):
            raise planning(
                "Aggregate functions are not allowed in the WHERE clause. Consider using HAVING instead"
            )
        self._no_windows([condition])

    def _having(self, condition: exp.Expression, named: Scope) -> None:
        # Arroyo names no place for what it does not find here.
        self.resolver.located = False
        self.resolver.resolve(condition, named)
        self.resolver.located = True

    def _expand(self, written: Sequence[exp.Expression]) -> list[exp.Expression]:
        """Put columns in the place of stars."""
        base = self._base
        found: list[exp.Expression] = []
        for item in written:
            star = item.this if isinstance(item, exp.Column) else item
            if not isinstance(star, exp.Star):
                found.append(item)
                continue
            table = item.args.get("table") if isinstance(item, exp.Column) else None
            if table is None and base.empty == "EmptyRelation":
                raise planning("SELECT * with no tables specified is not valid")
            qualifier = identifier(table) if table is not None else None
            left_out = {
                identifier(part.this if isinstance(part, exp.Column) else part)
                for part in arg(star, "except") or []
            }
            fields = [f for f in base.fields if qualifier is None or f.qualifier == qualifier]
            if qualifier is not None and not fields and not base.is_open:
                raise planning(f"Invalid qualifier {qualifier}")
            found.extend(_column(f) for f in fields if f.name not in left_out)
        return found

    # --- GROUP BY -----------------------------------------------------------------------------------

    def _calls(
        self, item: exp.Expression, wanted: Callable[[str], bool], *, windowed: bool = False
    ) -> Iterator[exp.Anonymous]:
        """Go through the calls of some functions; at once where nothing called any of them."""
        if any(wanted(name) for name in self.resolver.called):
            yield from calls(item, wanted, windowed=windowed)

    def _is_aggregate(self, name: str) -> bool:
        udf = self.resolver.udfs.get(name)
        return udf.aggregate if udf is not None else name in functions.AGGREGATES

    def _is_window(self, name: str) -> bool:
        return name in functions.WINDOWS and name not in self.resolver.udfs

    def _groups(self, node: exp.Select, items: Sequence[exp.Expression], named: Scope) -> list[_Item]:
        """Return the expressions of GROUP BY, with names and positions looked up."""
        clause = node.args.get("group")
        if clause is None:
            return []
        if any(clause.args.get(name) for name in ("rollup", "cube", "grouping_sets")):
            raise UnjudgedError("ROLLUP, CUBE and GROUPING SETS")
        written = clause.expressions
        if clause.args.get("all"):
            written = [
                i for i in items if not any(True for _ in self._calls(unaliased(i), self._is_aggregate))
            ]
        found: list[_Item] = []
        for one in written:
            if type(one).__name__ in ("Rollup", "Cube", "GroupingSets"):
                raise UnjudgedError("ROLLUP, CUBE and GROUPING SETS")
            item = self._group(unaliased(one), items, named)
            found.append((item, self.resolver.resolve(item, named)))
        self.resolver.settle()
        return found

    @staticmethod
    def _group(item: exp.Expression, items: Sequence[exp.Expression], named: Scope) -> exp.Expression:
        if (
            isinstance(item, exp.Column)
            and isinstance(item.this, exp.Identifier)
            and not item.args.get("table")
        ):
            name = identifier(item.this)
            if name in named.aliases and not named.find(None, name):
                item = unaliased(named.aliases[name])
        if isinstance(item, exp.Literal) and not item.is_string and str(item.this).isdigit():
            position = int(str(item.this)[:18])
            if not 1 <= position <= len(items):
                raise planning(
                    f"Cannot find column with position {position} in SELECT clause. Valid columns: 1 to {len(items)}"
                )
            item = unaliased(items[position - 1])
        return item

    def _gathered(self, groups: Sequence[_Item], items: Sequence[exp.Expression], having: object) -> Plan:
        """Return the plan after GROUP BY and aggregates, if there are any."""
        if not groups and not any(
            True for item in items for _ in self._calls(item, self._is_aggregate, windowed=True)
        ):
            if having is not None:
                raise planning(
                    f"HAVING clause references: {items[-1].sql()[:200]} must appear in the GROUP BY clause or be "
                    "used in an aggregate function"
                )
            self._no_windows(items)
            return self._base
        windows: list[Window] = []
        for item, _ in groups:
            name = call_name(item)
            if name is None or not self._is_window(name):
                continue
            try:
                window = window_of(name, item.expressions)
            except RefusedError as refusal:
                self.later.rewriting(refusal)
                window = Window("tumble", 1)
            if window is not None:
                windows.append(window)
        by_field = any(typed.place in self._base.window_fields for _, typed in groups)
        if self._base.empty is not None:
            self.later.rewriting(planning("no timestamp field found in schema"))
        self._check_grouped(groups, items)
        return aggregated(self._base, windows, by_field, self.later)

    def _check_grouped(self, groups: Sequence[_Item], items: Sequence[exp.Expression]) -> None:
        """Refuse columns that are neither grouped by nor inside of an aggregate."""
        texts = {typed.text for _, typed in groups}

        def covered(node: exp.Expression) -> bool:
            name = call_name(node.this if isinstance(node, exp.WithinGroup | exp.Filter) else node)
            if name is not None and self._is_aggregate(name):
                return True
            typed = self.resolver.seen.get(id(node))
            return typed is not None and typed.text in texts

        for item in items:
            for column in columns_outside(unaliased(item), covered):
                typed = self.resolver.seen.get(id(column))
                if typed is None or not typed.columns:
                    continue
                allowed = ", ".join(dict.fromkeys([t.text for _, t in groups] + self._aggregates(items)))
                raise planning(
                    "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "
                    f'"{typed.text}" must appear in the GROUP BY clause or must be part of an aggregate function, '
                    f'currently only "{allowed}" appears in the SELECT clause satisfies this requirement',
                    headline=(
                        f"'{typed.text}' must appear in GROUP BY clause because it's not an aggregate expression"
                    ),
                    span=span_of(column.this),
                )
            self._no_windows([call for call in self._calls(item, self._is_window) if not covered(call)])

    def _aggregates(self, items: Sequence[exp.Expression]) -> list[str]:
        found = [call for item in items for call in self._calls(item, self._is_aggregate)]
        return [self.resolver.seen[id(call)].text for call in found if id(call) in self.resolver.seen]

    def _no_windows(self, items: Sequence[exp.Expression]) -> None:
        for item in items:
            for call in self._calls(item, self._is_window):
                self.later.checking(
                    planning(
                        f"time window function {call_name(call)} is not allowed in this context. Are you missing a "
                        "GROUP BY clause?"
                    )
                )

    # --- steps --------------------------------------------------------------------------------------

    def _window_functions(self, plan: Plan, items: Sequence[exp.Expression]) -> Plan:
        found = [node for item in items for node in overs(item)] if self.resolver.any_over else []
        if not found:
            return plan
        problem = None
        if plan.window is None:
            problem = "Window functions require already windowed input"
        elif plan.window.kind == "session":
            problem = "Window functions do not support session windows"
        elif len(found) > 1:
            problem = "Window functions require exactly one window expression"
        if problem is not None:
            self.later.rewriting(planning(problem))
        try:
            step = shuffled("window_function_{}", "window function", key_step(plan))
        except RefusedError as refusal:
            self.later.building(refusal)
            return plan
        return replace(plan, steps=(step,), bare=True, parts=())

    def _async_calls(
        self, plan: Plan, items: Sequence[exp.Expression], where: exp.Expression | None
    ) -> Plan | None:
        """Return the plan after a call of an asynchronous function; None when there is none."""
        udfs = self.resolver.udfs

        def is_async(name: str) -> bool:
            return name in udfs and udfs[name].is_async

        for call in self._calls(where.this, is_async) if where is not None else ():
            self.later.rewriting(
                planning(
                    f"async UDFs are only supported in projections, but {call_name(call)} was called in another "
                    "context"
                )
            )
        names = [call_name(call) for item in items for call in self._calls(item, is_async)]
        if not names or not plan.steps:
            return None
        if len(names) > 1:
            self.later.rewriting(
                planning(
                    "Projection contains multiple async UDFs, which is not supported \n(hint: two async UDFs calls, "
                    f"{names[0]} and {names[1]}, appear in the same SELECT statement)"
                )
            )
        steps = plan.steps
        if not plan.bare and where is None:
            steps = (forward("value_{}", "subquery_projection", steps),)
        step = forward("async_udf_{}", f"async_udf<{names[0]}>", steps)
        return replace(plan, steps=(step,), bare=True, parts=())

    # --- columns ------------------------------------------------------------------------------------

    @staticmethod
    def _unique(outputs: Sequence[_Item]) -> None:
        """Refuse two columns of the same name."""
        seen: dict[tuple[str | None, str], tuple[int, str]] = {}
        for place, (_, typed) in enumerate(outputs):
            first = seen.setdefault((typed.qualifier, typed.name), (place, typed.text))
            if first[0] != place:
                raise planning(
                    f'Projections require unique expression names but the expression "{first[1]}" at position '
                    f'{first[0]} and "{typed.text}" at position {place} have the same name. Consider aliasing '
                    '("AS") one of them.'
                )

    def _fields(
        self, outputs: Sequence[_Item], plan: Plan, groups: Sequence[_Item]
    ) -> tuple[list[Field], frozenset[int]]:
        """Return the columns of a SELECT, and which of them hold the window."""
        kept = self._base.window_fields
        holders = {
            typed.text
            for item, typed in groups
            if typed.place in kept or ((name := call_name(item)) is not None and self._is_window(name))
        }
        gathered = plan.window is not None and plan.window is not self._base.window
        fields: list[Field] = []
        windows: set[int] = set()
        for place, (item, typed) in enumerate(outputs):
            fields.append(Field(typed.qualifier, typed.name, typed.type))
            inner = self.resolver.seen.get(id(unaliased(item)), typed)
            if inner.text in holders or (not gathered and not groups and inner.place in kept):
                windows.add(place)
        return fields, frozenset(windows) if plan.window is not None else frozenset()


def _column(field: Field) -> exp.Column:
    table = None if field.qualifier is None else exp.to_identifier(field.qualifier, quoted=True)
    return exp.column(exp.to_identifier(field.name, quoted=True), table)
