"""The condition of a wait for a metric: above or below a bound for some time, while the pipeline is running.

A value alone proves nothing: values remain after a stop, and while a worker does not respond. A value counts only if
it is newer than the one read shortly before, in the same run. This needs no clock of another machine: how long a
bound has been crossed is measured only by the timestamps of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_arroyo.client.checks import check_duration, check_number
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.monitoring.condition import Condition, Detail, Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import (
    HOLE_MICROS,
    HOLE_SECONDS,
    Aggregation,
    Measure,
    MetricName,
    Operators,
    Round,
    find_operators,
    rounds,
)
from airflow_provider_arroyo.text import duration, shorten

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import OperatorMetrics
    from airflow_provider_arroyo.client.models import Job, PipelineGraph

_NEAR_SECONDS = 30.0
"""How many seconds ago the last reading may have been for a newer value to be current; a triggerer may be busy."""

_MOST: Mapping[str, float] = {MetricName.BACKPRESSURE: 1.0}
"""The highest possible value of a metric; the lowest is 0."""

_ALWAYS_0: Mapping[str, Mapping[str, str]] = {
    Operators.SOURCES: {
        MetricName.MESSAGES_RECV: MetricName.MESSAGES_SENT,
        MetricName.BYTES_RECV: MetricName.BYTES_SENT,
    },
    Operators.SINKS: {
        MetricName.MESSAGES_SENT: MetricName.MESSAGES_RECV,
        MetricName.BYTES_SENT: MetricName.BYTES_RECV,
        MetricName.BACKPRESSURE: MetricName.MESSAGES_RECV,
    },
}
"""Metrics that these operators never have, and those that they have: Arroyo measures data between operators."""


class Measured(NamedTuple):
    """The values read of a metric.

    :param operators: ids of the selected nodes.
    :param rounds: the metric's values, oldest first.
    """

    operators: frozenset[int]
    rounds: Sequence[Round]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory(JsonValue):
    """What the last reading showed.

    :param operators: ids of the selected nodes.
    :param job_id, run_id: the run.
    :param read_at: when it was read, by the waiter's clock; None if no value counted then.
    :param newest_micros: when the newest value was measured; None if there is none.
    :param fresh_at: when that value was first read, by the waiter's clock.
    :param held_since_micros: the time of the first value since which the bound has been crossed; None if it is not.
    """

    operators: frozenset[int]
    job_id: str = ""
    run_id: int = 0
    read_at: float | None = None
    newest_micros: int | None = None
    fresh_at: float = 0.0
    held_since_micros: int | None = None


def check_bound(value: Any, argument: str, metric: str, *, may_be_text: bool = False) -> float:
    """Return a bound that the metric can be on both sides of.

    :param value: the bound.
    :param argument: ``above`` or ``below``.
    :param metric: name of the metric.
    :param may_be_text: whether text is accepted, as from a rendered template; default False.
    :raises ValueError: if it is invalid.
    """
    most = _MOST.get(metric)
    if argument == "above":
        return check_number(value, argument, least=0, less_than=most, may_be_text=may_be_text)
    return check_number(value, argument, more_than=0, most=most, may_be_text=may_be_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCondition(Condition):
    """The metric that a wait is for, and when it counts.

    :param metric: its name.
    :param operator: the operators: one of :class:`.Operators`, or a single operator, see :func:`.find_operators`.
    :param measure: the value as Arroyo reports it (default), or the rate without smoothing.
    :param aggregation: how the subtasks are combined; default None: the worst for backpressure, otherwise the sum.
    :param above, below: the bound, exclusive; exactly one of the two.
    :param stable_for: how long it must have been crossed, default 0: one value is enough.
    :raises ValueError: if an argument is invalid; names it.
    """

    metric: MetricName
    operator: str
    measure: Measure = Measure.VALUE
    aggregation: Aggregation | None = None
    above: float | None = None
    below: float | None = None
    stable_for: timedelta = timedelta(0)

    detail: ClassVar[Detail] = Detail.METRICS
    # Arroyo measures nothing once one of several sources has ended. A stopped pipeline may be resumed.
    ended_in: ClassVar[frozenset[str]] = frozenset(
        {JobState.FAILING, JobState.FAILED, JobState.FINISHING, JobState.FINISHED}
    )
    read_in: ClassVar[frozenset[str] | None] = frozenset({JobState.RUNNING})

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            given = "neither" if self.above is None else "both"
            raise ValueError(f"exactly one of above and below must be given, got {given}")
        argument = "below" if self.above is None else "above"
        check_bound(getattr(self, argument), argument, self.metric)
        if instead := _ALWAYS_0.get(self.operator, {}).get(self.metric):
            raise ValueError(
                f"metric: {self.metric} of the {self.operator} is always 0, since Arroyo measures what passes "
                f"between operators; they show {instead}"
            )
        check_duration(self.stable_for, "stable_for")
        if self.metric == MetricName.BACKPRESSURE:
            if self.measure == Measure.RATE:
                raise ValueError("measure must be 'value' for backpressure, which is a share and not a rate")
            if self.aggregation == Aggregation.SUM:
                raise ValueError("aggregation must be 'worst' for backpressure, whose shares cannot be added")

    @property
    def goal(self) -> str:
        """The goal, in words."""
        lasting = f" for {duration(self.stable_for.total_seconds())}" if self.stable_for else ""
        return f"{self._name} {self._bound} {self._where}{lasting}"

    @property
    def advice(self) -> str:
        """What to check if it does not become true in time."""
        return "Check its metrics in Arroyo's console"

    # -- reading -------------------------------------------------------------------------------------------------

    def measured(
        self, metrics: Sequence[OperatorMetrics], graph: Callable[[], PipelineGraph], before: Finding
    ) -> Measured:
        """Return the values that count among a job's metrics. May take a while if the job has many subtasks.

        :param metrics: the metrics of all operators.
        :param graph: returns the pipeline's graph; called if the operators must still be found.
        :param before: the finding before.
        :raises UnknownNameError: if there is no such operator or metric; lists those that exist.
        """
        known = before.recall(_Memory)
        operators = find_operators(self.operator, graph()) if known is None else known.operators
        usual = Aggregation.WORST if self.metric == MetricName.BACKPRESSURE else Aggregation.SUM
        aggregation = self.aggregation or usual
        found = rounds(metrics, operators, metric=self.metric, measure=self.measure, aggregation=aggregation)
        return Measured(operators, found)

    # -- the decision --------------------------------------------------------------------------------------------

    def check(self, before: Finding, job: Job, reading: Reading, now: float) -> Finding:
        """Return the finding after a :class:`Measured` was read, see :meth:`.Condition.check`."""
        measured: Measured = reading.value
        if job.state != JobState.RUNNING or not job.running_desired:
            # Any values are from an earlier run, or nothing is measured yet.
            return Finding(seen=before.seen, memory=_Memory(operators=measured.operators).to_dict())
        known = before.recall(_Memory)
        if known is None or (known.job_id, known.run_id) != (job.id, job.run_id):
            known = _Memory(operators=measured.operators, job_id=job.id, run_id=job.run_id)
        newest = measured.rounds[-1] if measured.rounds else None
        at = newest.at_micros if newest else None
        is_near = known.read_at is not None and 0 <= now - known.read_at <= _NEAR_SECONDS
        is_live = is_near and at is not None and (known.newest_micros is None or at > known.newest_micros)
        since = self._held_since(measured.rounds, known)
        memory = replace(
            known,
            read_at=now,
            newest_micros=at,
            fresh_at=known.fresh_at if is_near and at == known.newest_micros else now,
            held_since_micros=since,
        )
        is_held, was_held = since is not None, known.held_since_micros is not None
        held_seconds = 0.0 if since is None or at is None else (at - since) / 1e6
        is_long_enough = is_held and held_seconds >= self.stable_for.total_seconds()
        old_seconds = now - memory.fresh_at
        facts = (
            {"metric": self._facts(newest, held_seconds)} if newest and is_long_enough and is_live else None
        )
        crossed = self._bound if is_held else f"no longer {self._bound}"
        return Finding(
            facts=facts,
            seen=self._seen(newest, held_seconds, old_seconds, is_held=is_held),
            news=None if is_held == was_held or facts else crossed,
            memory=memory.to_dict(),
            is_unsettled=is_long_enough and not is_live and old_seconds <= HOLE_SECONDS,
        )

    def _held_since(self, found: Sequence[Round], known: _Memory) -> int | None:
        """Return the time since which the bound has been crossed without a gap; None if it is not."""
        since: int | None = None
        for one in reversed(found):
            if not self._is_beyond(one.value) or (since is not None and since - one.at_micros > HOLE_MICROS):
                return since
            since = one.at_micros
        # Arroyo keeps no older values, so it may have begun earlier. Values that do not reach back to the last
        # ones belong to a new run that no poll has seen yet.
        before, last = known.held_since_micros, known.newest_micros
        if since is None or before is None or last is None:
            return since
        return before if since <= last <= found[-1].at_micros else since

    def _is_beyond(self, value: float | None) -> bool:
        if value is None:
            return False
        return value > self.above if self.above is not None else self.below is not None and value < self.below

    # -- in words ------------------------------------------------------------------------------------------------

    @property
    def _bound(self) -> str:
        side, bound = ("below", self.below) if self.above is None else ("above", self.above)
        return f"{side} {self._shown(bound)}"

    @property
    def _name(self) -> str:
        rate = " (not smoothed)" if self.measure == Measure.RATE else ""
        return f"{self.metric}{rate}"

    @property
    def _where(self) -> str:
        several = {"sources": "its sources", "sinks": "its sinks", "all": "all operators"}
        operator = several.get(self.operator, f"operator {shorten(self.operator, 80)!r}")
        worst = "the worst subtask of " if self.aggregation == Aggregation.WORST else ""
        return f"at {worst}{operator}"

    def _shown(self, value: float | None) -> str:
        if value is None:
            return "no value"
        number = f"{value:.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
        return number if self.metric == MetricName.BACKPRESSURE else f"{number}/s"

    def _seen(self, newest: Round | None, held_seconds: float, old_seconds: float, *, is_held: bool) -> str:
        if newest is None:
            return f"has shown no {self._name} {self._where} yet"
        held = f", {self._bound} for {duration(held_seconds)}" if is_held and self.stable_for else ""
        old = f", and nothing new for {duration(old_seconds)}" if old_seconds > HOLE_SECONDS else ""
        return f"last showed {self._name} {self._shown(newest.value)} {self._where}{held}{old}"

    def _facts(self, newest: Round, held_seconds: float) -> dict[str, Any]:
        return {
            "name": str(self.metric),
            "operator": self.operator,
            "value": newest.value,
            "time_micros": newest.at_micros,
            "held_seconds": held_seconds,
        }
