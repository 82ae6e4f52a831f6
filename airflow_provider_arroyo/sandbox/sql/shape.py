"""Derives the steps of a query, which become the nodes of its graph, from the query's clauses alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from airflow_provider_arroyo.sandbox.sql import functions
from airflow_provider_arroyo.sandbox.sql.functions import Udf
from airflow_provider_arroyo.sandbox.sql.graph import Step, forward
from airflow_provider_arroyo.sandbox.sql.refusals import planning
from airflow_provider_arroyo.sql.dialect import arg


@dataclass(frozen=True, slots=True)
class Flow:
    """The rows of a relation.

    :param steps: the steps that produce them; several for a union.
    :param bare: whether no projection follows the last step.
    :param windowed: whether they were aggregated in windows.
    :param updating: whether later rows may update earlier ones.
    :param parts: the inputs of a union.
    :param lookup: the name of the lookup table, if it is one.
    """

    steps: tuple[Step, ...] = ()
    bare: bool = False
    windowed: bool = False
    updating: bool = False
    parts: tuple[Flow, ...] = ()
    lookup: str | None = None

    def read(self) -> Flow:
        """Return the flow as the input of a projection."""
        return replace(self, bare=False, parts=(), lookup=None)


@dataclass(slots=True)
class Shaper:
    """Derives the steps of a query.

    :param scan: returns the flow of a table by its name.
    """

    scan: Callable[[str], Flow]
    udfs: Mapping[str, Udf]
    panic: str | None = None

    def flow(self, node: exp.Expression, ctes: Mapping[str, Flow]) -> Flow:
        """Return the flow of a query.

        :param node: the query, its unquoted names in lower case.
        :param ctes: the flows of the common table expressions that it sees.
        :raises RefusedError: if it reads a lookup table other than by a join.
        """
        clause = arg(node, "with")
        if clause is not None:
            ctes = dict(ctes)
            for cte in clause.expressions:
                ctes[cte.alias] = self.flow(cte.this, ctes)
        if isinstance(node, exp.Select):
            return self._select(node, ctes)
        if isinstance(node, exp.SetOperation):
            return self._union(node, ctes)
        if isinstance(node, exp.Table | exp.Subquery):
            return self._relation(node, ctes)
        return Flow((Step("values", "Values", kind="source"),))

    def _union(self, node: exp.SetOperation, ctes: Mapping[str, Flow]) -> Flow:
        branches: list[exp.SetOperation] = []
        left: exp.Expression = node
        while isinstance(left, exp.SetOperation) and (left is node or arg(left, "with") is None):
            branches.append(left)
            left = left.this
        flows = [self.flow(left, ctes)]
        for branch in reversed(branches):
            flows.append(self.flow(branch.expression, ctes))
            if branch.args.get("distinct"):
                flows = [_aggregated(_united(flows), None)]
        return flows[0] if len(flows) == 1 else _united(flows)

    def _relation(self, node: exp.Expression, ctes: Mapping[str, Flow]) -> Flow:
        if isinstance(node, exp.Subquery):
            flow = self.flow(node.this, ctes)
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            name = ".".join(str(part.this) for part in node.parts if isinstance(part, exp.Identifier))
            flow = ctes[name] if name in ctes else self.scan(name)
        else:
            flow = Flow((Step("values", "Values", kind="source"),))
        return self._joined(flow, node, ctes)

    def _joined(self, flow: Flow, node: exp.Expression, ctes: Mapping[str, Flow]) -> Flow:
        for join in node.args.get("joins") or []:
            right = self.flow(join.this, ctes)
            if right.lookup is not None:
                description = f"LookupJoin<{right.lookup}>"
                step = Step("lookupjoin_{}", description, (_key(flow, "left"),), ("Shuffle",))
            else:
                sides = (_key(flow, "left"), _key(right, "right"))
                step = Step("join_{}", "join", sides, ("LeftJoin", "RightJoin"))
            flow = Flow((step,), bare=True, windowed=flow.windowed)
        return flow

    def _select(self, node: exp.Select, ctes: Mapping[str, Flow]) -> Flow:
        clause = arg(node, "from")
        flow = Flow() if clause is None else self.flow(clause.this, ctes)
        if flow.lookup is not None:
            raise planning("lookup tables must be used directly within a join")
        flow = self._joined(flow, node, ctes)
        group, having = node.args.get("group"), node.args.get("having")
        items = [*node.expressions, *([having.this] if having is not None else [])]
        called = {name for item in items for name in _calls(item)}
        if group is not None or any(self._is_aggregate(name) for name in called):
            flow = _aggregated(flow, self._window(group, node.expressions))
        if any(item.find(exp.Window) is not None for item in node.expressions):
            step = _shuffled("window_function_{}", "window function", _key(flow))
            flow = replace(flow, steps=(step,), bare=True, parts=())
        slow = next((name for name in sorted(called) if name in self.udfs and self.udfs[name].is_async), None)
        if slow is not None and flow.steps:
            steps = flow.steps
            if not flow.bare and node.args.get("where") is None:
                steps = (forward("value_{}", "subquery_projection", steps),)
            flow = replace(flow, steps=(forward("async_udf_{}", f"async_udf<{slow}>", steps),), parts=())
        flow = replace(flow, bare=slow is not None, parts=(), lookup=None)
        distinct = node.args.get("distinct")
        if distinct is None:
            return flow
        if distinct.args.get("on") is not None:
            self.panic = "DISTINCT ON"
        return _aggregated(flow, None)

    def _is_aggregate(self, name: str) -> bool:
        udf = self.udfs.get(name)
        return udf.aggregate if udf is not None else name in functions.AGGREGATES

    def _window(
        self, group: exp.Expression | None, items: Sequence[exp.Expression]
    ) -> tuple[str, str] | None:
        """Return operator and description of the window in GROUP BY, if there is one."""
        aliases = {item.alias: item.this for item in items if isinstance(item, exp.Alias)}
        for written in group.expressions if group is not None else []:
            one = written
            if isinstance(one, exp.Column) and not one.args.get("table"):
                one = aliases.get(one.name, one)
            elif isinstance(one, exp.Literal) and re.fullmatch(r"\d{1,5}", one.name):
                one = items[int(one.name) - 1] if 0 < int(one.name) <= len(items) else one
            one = one.unalias() if isinstance(one, exp.Alias) else one
            name = call_name(one)
            if name in functions.WINDOWS and name not in self.udfs:
                return self._cut(str(name), [_interval(argument) for argument in one.expressions])
        return None

    def _cut(self, name: str, times: Sequence[str]) -> tuple[str, str]:
        if name == "session":
            return "SessionWindow", "session_window_{}"
        if any(re.search(r"\d", time) and not re.search(r"[1-9]", time) for time in times):
            self.panic = "a window of zero width"
        if name == "hop" and len(set(times)) > 1:
            return "sliding_window_{}", "sliding window"
        return "tumbling_{}", "TumblingWindow<TumblingWindow>"


def call_name(node: Any) -> str | None:
    """Return the name of the function that an expression calls; None: it is no call."""
    if not isinstance(node, exp.Anonymous):
        return None
    return str(node.this.this if isinstance(node.this, exp.Identifier) else str(node.this).lower())


def _calls(item: exp.Expression) -> Iterator[str]:
    """Yield the names of the functions in an expression, without those in subqueries and in OVER."""
    pending: list[Any] = [item]
    while pending:
        node = pending.pop()
        name = call_name(node)
        if name is not None:
            yield name
        if isinstance(node, exp.Window):
            pending.extend(node.this.iter_expressions())
        elif not isinstance(node, exp.Query):
            pending.extend(node.iter_expressions())


def _interval(node: Any) -> str:
    """Return an interval, or a string that stands for one, in a normalized form."""
    unit = node.args.get("unit") if isinstance(node, exp.Interval) else None
    amount = node.this if isinstance(node, exp.Interval) else node
    text = f"{amount.name if isinstance(amount, exp.Literal) else ''}{unit.name if unit is not None else ''}"
    return re.sub(r"\s|s$", "", text.lower())


def _key(flow: Flow, label: str = "_") -> Step:
    return forward("key_{}", f"ArrowKey<{label}>", flow.steps)


def _shuffled(operator: str, description: str, step: Step) -> Step:
    """Return a step whose input is partitioned by key."""
    return Step(operator, description, (step,), ("Shuffle",))


def _aggregated(flow: Flow, window: tuple[str, str] | None) -> Flow:
    """Return a flow after aggregation, by a window or, if its rows have one already, by that."""
    if flow.windowed:
        window = ("instant_window_{}", "instant window")
    if window is None:
        step = _shuffled("updating_aggregate_{}", "UpdatingAggregate", _key(flow))
        return Flow((step,), bare=True, updating=True)
    return Flow((_shuffled(*window, _key(flow)),), bare=True, windowed=True)


def _united(flows: Sequence[Flow]) -> Flow:
    """Return the union of flows."""
    parts = tuple(part for flow in flows for part in (flow.parts or (flow,)))
    steps = [
        part.steps[0]
        if part.bare and len(part.steps) == 1
        else forward("value_{}", "union_input", part.steps)
        for part in parts
    ]
    updating = any(part.updating for part in parts)
    return Flow(tuple(steps), windowed=parts[0].windowed, updating=updating, parts=parts)


def sink_input(flow: Flow) -> tuple[Step, ...]:
    """Return the steps that feed a sink."""
    if flow.bare and not flow.updating:
        return flow.steps
    return (forward("value_{}", "sink projection", flow.steps),)
