"""Plans: what a table, a view or a query yields, and which steps make it.

Only what decides acceptance and the shape of the graph is kept: columns, windows, whether rows are
updated later, and the steps beneath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from airflow_provider_arroyo.sandbox.sql.diagnostics import RefusedError, not_implemented, planning
from airflow_provider_arroyo.sandbox.sql.steps import Step, forward
from airflow_provider_arroyo.sandbox.sql.types import Type
from airflow_provider_arroyo.sandbox.sql.windows import Window, duration

_REWRITING, _CHECKING, _BUILDING = range(3)


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a plan: its table, its name, its type (None when not known)."""

    qualifier: str | None
    name: str
    type: Type | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a relation yields.

    :param fields: its columns.
    :param steps: the steps whose rows it takes; several for a union.
    :param bare: whether nothing stands between the last step and the next reader.
    :param window: the window in which its rows were gathered, if any.
    :param window_fields: places of the columns that hold the window.
    :param updating: whether a row may be taken back later.
    :param parts: the inputs of a union.
    :param lookup: name of the lookup table that it is, and its primary keys.
    :param empty: how Arroyo shows a relation that has no rows from a stream.
    :param is_open: whether it may have columns that are not known here.
    """

    fields: tuple[Field, ...]
    steps: tuple[Step, ...] = ()
    bare: bool = False
    window: Window | None = None
    window_fields: frozenset[int] = frozenset()
    updating: bool = False
    parts: tuple[Plan, ...] = ()
    lookup: tuple[str, frozenset[str]] | None = None
    empty: str | None = None
    is_open: bool = False

    def projected(self, fields: Sequence[Field], window_fields: frozenset[int] = frozenset()) -> Plan:
        """Return a plan of other columns over the same steps."""
        return replace(
            self, fields=tuple(fields), window_fields=window_fields, bare=False, parts=(), lookup=None
        )

    def aliased(self, name: str, columns: Sequence[str] = ()) -> Plan:
        """Return the plan under another name; ``columns`` renames its columns.

        :raises RefusedError: there are not as many names as columns.
        """
        if columns and len(columns) != len(self.fields) and not self.is_open:
            raise planning(
                f"Source table contains {len(self.fields)} columns but only {len(columns)} names given as "
                "column alias"
            )
        names = columns or [item.name for item in self.fields]
        fields = tuple(Field(name, new, old.type) for new, old in zip(names, self.fields, strict=False))
        return replace(self, fields=fields, bare=False, parts=())


@dataclass(slots=True)
class Later:
    """Refusals that Arroyo finds only after every name was found, in the order of its passes."""

    found: list[tuple[int, RefusedError]] = field(default_factory=list)

    def rewriting(self, refusal: RefusedError) -> None:
        """Note what is found when the plan is rewritten for streams."""
        self.found.append((_REWRITING, refusal))

    def checking(self, refusal: RefusedError) -> None:
        """Note what is found in the check after that."""
        self.found.append((_CHECKING, refusal))

    def building(self, refusal: RefusedError) -> None:
        """Note what is found when the graph is built."""
        self.found.append((_BUILDING, refusal))

    def settle_rewriting(self) -> None:
        """Raise the refusal that Arroyo comes upon first before it builds the graph.

        :raises RefusedError: there is one.
        """
        found = [item for item in self.found if item[0] < _BUILDING]
        if found:
            raise min(found, key=lambda item: item[0])[1]

    def at_building(self) -> list[RefusedError]:
        """Return what is found when the graph is built."""
        return [refusal for phase, refusal in self.found if phase == _BUILDING]

    def settle(self) -> None:
        """Raise the refusal that Arroyo comes upon first.

        :raises RefusedError: there is one.
        """
        self.settle_rewriting()
        for refusal in self.at_building():
            raise refusal


def key_step(plan: Plan, label: str = "_") -> Step:
    """Return the step that finds the key of each row.

    :raises RefusedError: the rows come from more than one place.
    """
    if len(plan.steps) > 1:
        raise planning("KeyCalculationExtension should have exactly one input")
    return forward("key_{}", f"ArrowKey<{label}>", plan.steps)


def shuffled(operator: str, description: str, step: Step) -> Step:
    """Return a step that gets its rows by their key."""
    return Step(operator, description, (step,), ("Shuffle",))


def window_step(window: Window, key: Step) -> Step:
    """Return the step that gathers rows in a window."""
    if window.kind == "tumble":
        return shuffled("tumbling_{}", "TumblingWindow<TumblingWindow>", key)
    if window.kind == "hop":
        return shuffled("sliding_window_{}", "sliding window", key)
    return shuffled(f"SessionWindow<{duration(window.width)}>", "session_window_{}", key)


def aggregated(plan: Plan, windows: Sequence[Window], grouped_by_window_field: bool, later: Later) -> Plan:
    """Return what remains of a plan after its rows were gathered; its columns are set by the caller.

    :param plan: what is gathered.
    :param windows: the windows among the expressions of GROUP BY.
    :param grouped_by_window_field: whether GROUP BY names a column that holds a window.
    :param later: where refusals go that Arroyo finds later.
    """
    if len(windows) > 1:
        later.rewriting(not_implemented(f"do not support {len(windows)} window expressions in group by"))
    window = windows[0] if windows else None
    try:
        key = key_step(plan)
    except RefusedError as refusal:
        later.building(refusal)
        return replace(plan, bare=True, parts=())
    done = replace(plan, bare=True, parts=(), fields=(), window_fields=frozenset(), empty=None)
    if window is None and plan.window is None:
        return replace(
            done, steps=(shuffled("updating_aggregate_{}", "UpdatingAggregate", key),), updating=True
        )
    if window is not None and plan.window is not None:
        if window != plan.window:
            later.rewriting(not_implemented("window in group by does not match input window"))
        elif window.kind == "session" and not plan.window_fields:
            later.rewriting(
                planning(
                    "can't reinvoke session window in nested aggregates. Need to pass the window struct up from "
                    "the source query."
                )
            )
        return replace(
            done, steps=(shuffled("instant_window_{}", "instant window", key),), window=plan.window
        )
    if window is None:
        if not grouped_by_window_field:
            later.rewriting(
                planning(
                    "must have window in aggregate. Make sure you are calling one of the windowing functions (hop, "
                    "tumble, session) or using the window field of the input"
                )
            )
        return replace(done, steps=(shuffled("instant_window_{}", "instant window", key),))
    return replace(done, steps=(window_step(window, key),), window=window)


def joined(left: Plan, right: Plan, kind: str, equal: bool, later: Later) -> Plan:
    """Return two plans joined.

    :param left: the left side.
    :param right: the right side.
    :param kind: ``Inner``, ``Left``, ``Right``, ``Full`` or another that Arroyo does not have.
    :param equal: whether some column of the one side must equal one of the other.
    :param later: where refusals go that Arroyo finds later.
    """
    plan = Plan(
        fields=(*left.fields, *right.fields),
        bare=True,
        window=left.window,
        is_open=left.is_open or right.is_open,
        empty=left.empty or right.empty,
    )
    if right.lookup is not None:
        name, _keys = right.lookup
        if kind not in ("Inner", "Left"):
            later.rewriting(
                planning(f"{kind} join is not supported for lookup tables; must be a left or inner join")
            )
        return replace(
            plan, steps=(shuffled("lookupjoin_{}", f"LookupJoin<{name}>", _side(left, "left", later)),)
        )
    if left.lookup is not None:
        later.rewriting(planning("lookup sources must be on the right side of an inner or left join"))
    windowed = _windowed_join(left, right, kind, later)
    for side, its_plan in (("left", left), ("right", right)):
        if its_plan.updating:
            later.rewriting(planning(f"can't handle updating {side} side of join"))
    if not equal and not windowed:
        later.rewriting(not_implemented("Updating joins must include an equijoin condition"))
    step = Step(
        "join_{}",
        "join",
        (_side(left, "left", later), _side(right, "right", later)),
        ("LeftJoin", "RightJoin"),
    )
    return replace(plan, steps=(step,))


def _side(plan: Plan, label: str, later: Later) -> Step:
    try:
        return key_step(plan, label)
    except RefusedError as refusal:
        later.building(refusal)
        return Step("key_{}", f"ArrowKey<{label}>")


def _windowed_join(left: Plan, right: Plan, kind: str, later: Later) -> bool:
    message = None
    if left.window is None and right.window is None:
        if kind != "Inner":
            message = "can't handle non-inner joins without windows"
    elif left.window is None:
        message = "can't handle mixed windowing between left (non-windowed) and right (windowed)."
    elif right.window is None:
        message = "can't handle mixed windowing between left (windowed) and right (non-windowed)."
    elif left.window != right.window:
        message = "can't handle mixed windowing between left and right"
    elif left.window.kind == "session":
        message = "can't handle session windows in joins"
    if message is not None:
        later.rewriting(not_implemented(message))
    return left.window is not None and right.window is not None


def united(plans: Sequence[Plan], later: Later) -> Plan:
    """Return plans one behind the other."""
    parts = [part for plan in plans for part in (plan.parts or (plan,))]
    steps: list[Step] = []
    for part in parts:
        if part.bare and len(part.steps) == 1:
            steps.append(part.steps[0])
            continue
        try:
            steps.append(forward("value_{}", "union_input", part.steps))
        except RefusedError as refusal:
            later.building(refusal)
    first = parts[0]
    return Plan(
        fields=first.fields,
        steps=tuple(steps),
        window=first.window,
        window_fields=first.window_fields,
        updating=any(part.updating for part in parts),
        parts=tuple(parts),
        is_open=any(part.is_open for part in parts),
        empty=first.empty,
    )


def sink_input(plan: Plan) -> tuple[Step, ...]:
    """Return the steps that feed a sink.

    :raises RefusedError: nothing feeds it.
    """
    if plan.bare and not plan.updating:
        return plan.steps
    return (forward("value_{}", "sink projection", plan.steps),)
