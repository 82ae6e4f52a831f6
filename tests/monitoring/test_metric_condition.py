"""When a metric has crossed its threshold: only new values of one run count, for long enough and without gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job, PipelineGraph
from airflow_provider_arroyo.monitoring.condition import Finding, Reading
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.metric_condition import Measured, MetricCondition
from airflow_provider_arroyo.monitoring.metrics import (
    Aggregation,
    Measure,
    MetricName,
    Round,
    UnknownNameError,
    rounds,
)
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.wait import PipelineWait

from .metrics import T0 as BEGAN_MICROS
from .metrics import VERSIONS, S, operator, recorded, series

NOW = 5_000_000.0
"""The waiter's clock is independent of the server's."""


def condition(**given: Any) -> MetricCondition:
    more = {"metric": MetricName.MESSAGES_SENT, "operator": "sources", **given}
    if not more.keys() & {"above", "below"}:
        more["above"] = 100.0
    if "stable_for" in more:
        more["stable_for"] = timedelta(seconds=more["stable_for"])
    return MetricCondition(**more)


@dataclass
class History:
    """Successive readings of one condition; its memory is converted to JSON and back each time."""

    condition: MetricCondition
    finding: Finding = field(default_factory=Finding)
    news: list[str] = field(default_factory=list)

    def read(
        self,
        at: float,
        values: Sequence[float | None],
        *,
        first: int = 0,
        step: float = 2.0,
        run_id: int = 1,
        state: str = "Running",
        desired: bool | None = True,
        job_id: str = "job_1",
    ) -> Finding:
        """Read the values of the rounds from number ``first`` on, that many seconds after the start."""
        found = [
            Round(BEGAN_MICROS + int((first + number) * step * S), value)
            for number, value in enumerate(values)
        ]
        job = Job(id=job_id, state=state, run_id=run_id, running_desired=desired)
        before = Finding.from_dict(json.loads(json.dumps(self.finding.to_dict())))
        reading = Reading(Measured(frozenset({0}), found))
        self.finding = self.condition.check(before, job, reading, NOW + at)
        if self.finding.news:
            self.news.append(self.finding.news)
        return self.finding


LOW, HIGH = 50.0, 150.0


@dataclass
class Case:
    """Readings, and whether the condition holds after the last one.

    :param readings: arguments of :meth:`History.read`, in order.
    :param stable_for: in seconds.
    :param is_unsettled: whether another reading should follow soon.
    """

    readings: Sequence[tuple[float, Sequence[float | None], dict[str, Any]]]
    holds: bool
    stable_for: float = 0.0
    is_unsettled: bool = False


def at(
    seconds: float, *values: float | None, **more: Any
) -> tuple[float, Sequence[float | None], dict[str, Any]]:
    return seconds, values, more


CASES = {
    "one reading proves nothing": Case([at(0, LOW, HIGH)], holds=False, is_unsettled=True),
    "the next value does": Case([at(0, LOW, HIGH), at(2, LOW, HIGH, HIGH)], holds=True),
    "the same value does not": Case([at(0, HIGH), at(2, HIGH)], holds=False, is_unsettled=True),
    "nor does it after a while": Case([at(n, HIGH) for n in range(0, 14, 2)], holds=False),
    "the first value of all": Case([at(0), at(2), at(4, HIGH)], holds=True),
    "the first value after a long pause": Case([at(0), at(60, HIGH)], holds=False, is_unsettled=True),
    "a new value after a long pause": Case(
        [at(0, HIGH), at(60, *[HIGH] * 30)], holds=False, is_unsettled=True
    ),
    "and the next one": Case([at(0, HIGH), at(60, *[HIGH] * 30), at(62, *[HIGH] * 31)], holds=True),
    "a busy triggerer": Case([at(0, HIGH), at(25, *[HIGH] * 13)], holds=True),
    "the waiter's clock stepped back": Case(
        [at(0, HIGH), at(-60, HIGH, HIGH)], holds=False, is_unsettled=True
    ),
    "the server's clock stepped back": Case(
        [at(0, HIGH, first=100), at(2, HIGH, first=50)], holds=False, is_unsettled=True
    ),
    "not beyond": Case([at(0, LOW), at(2, LOW, LOW)], holds=False),
    "the bound itself is not beyond it": Case([at(0, 100.0), at(2, 100.0, 100.0)], holds=False),
    "not beyond any more": Case([at(0, HIGH), at(2, HIGH, LOW)], holds=False),
    "no value is not beyond": Case([at(0, HIGH), at(2, HIGH, None)], holds=False),
    "another run": Case([at(0, HIGH), at(2, HIGH, HIGH, run_id=2)], holds=False, is_unsettled=True),
    "another job": Case([at(0, HIGH), at(2, HIGH, HIGH, job_id="job_2")], holds=False, is_unsettled=True),
    "long enough": Case([at(0, *[HIGH] * 5), at(2, *[HIGH] * 6)], holds=True, stable_for=10),
    "not long enough": Case([at(0, *[HIGH] * 4), at(2, *[HIGH] * 5)], holds=False, stable_for=10),
    "interrupted": Case(
        [at(0, *[HIGH] * 4, LOW, HIGH), at(2, *[HIGH] * 4, LOW, *[HIGH] * 2)], holds=False, stable_for=10
    ),
    "another run that no poll has shown yet": Case(
        [at(0, *[HIGH] * 4), at(8, HIGH, HIGH, first=5)], holds=False, stable_for=10
    ),
    "rounds left out": Case(
        [at(0, HIGH, HIGH, step=9), at(2, HIGH, HIGH, HIGH, step=9)], holds=True, stable_for=18
    ),
    "a hole": Case(
        [at(0, HIGH, HIGH, step=11), at(2, HIGH, HIGH, HIGH, step=11)], holds=False, stable_for=18
    ),
    "longer than Arroyo keeps": Case(
        [at(60 * n, *[HIGH] * 150, first=30 * n) for n in range(10)] + [at(542, *[HIGH] * 150, first=271)],
        holds=True,
        stable_for=800,
    ),
    "longer, with a hole between two readings": Case(
        [at(0, *[HIGH] * 150), at(600, *[HIGH] * 150, first=300), at(602, *[HIGH] * 150, first=301)],
        holds=False,
        stable_for=400,
    ),
    "Finishing": Case([at(0, HIGH), at(2, HIGH, HIGH, state="Finishing")], holds=False),
    "Stopped, with the last values": Case(
        [at(n, *[HIGH] * (n + 1), state="Stopped", desired=False) for n in range(4)], holds=False
    ),
    "Stopping": Case([at(0, HIGH), at(2, HIGH, HIGH, state="Stopping", desired=False)], holds=False),
    "a stop was requested": Case([at(0, HIGH), at(2, HIGH, HIGH, desired=False)], holds=False),
    "nobody knows whether one was": Case([at(0, HIGH), at(2, HIGH, HIGH, desired=None)], holds=False),
    "a stop was requested, and withdrawn": Case(
        [at(0, HIGH), at(2, HIGH, HIGH, desired=False), at(4, *[HIGH] * 3)], holds=False, is_unsettled=True
    ),
    "resumed": Case(
        [
            at(0, HIGH),
            at(2, HIGH, state="Stopped", desired=False),
            at(4, HIGH, run_id=2),
            at(6, *[HIGH] * 2, run_id=2),
        ],
        holds=True,
    ),
    "an unknown state": Case([at(0, HIGH), at(2, HIGH, HIGH, state="Hibernating")], holds=False),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("direction", ["above", "below"])
def test_when_the_condition_holds(case: Case, direction: str) -> None:
    history = History(condition(**{direction: 100.0}, stable_for=case.stable_for))
    finding = Finding()
    for seconds, values, more in case.readings:
        # The same with the opposite bound.
        mirrored = [None if value is None else 200.0 - value for value in values]
        finding = history.read(seconds, values if direction == "above" else mirrored, **more)
        assert finding.facts is None or (seconds, values, more) == case.readings[-1]
    assert (finding.facts is not None) == case.holds
    assert finding.is_unsettled == case.is_unsettled


def test_the_facts_of_a_condition_that_holds() -> None:
    history = History(condition(stable_for=2))
    history.read(0, [HIGH, HIGH])
    assert history.read(2, [HIGH, HIGH, 152.5]).facts == {
        "metric": {
            "name": "messages_sent",
            "operator": "sources",
            "value": 152.5,
            "time_micros": BEGAN_MICROS + 4 * S,
            "held_seconds": 4.0,
        }
    }


def test_old_values_are_reported_as_old() -> None:
    history = History(condition())
    for seconds in range(0, 13, 2):
        history.read(seconds, [HIGH])
    assert (
        history.finding.seen == "last showed messages_sent 150/s at its sources, and nothing new for 12.0 s"
    )


def test_each_crossing_is_reported_once() -> None:
    history = History(condition(stable_for=60))
    for number, value in enumerate([LOW, LOW, HIGH, HIGH, HIGH, LOW, LOW, HIGH]):
        history.read(2 * number, [value], first=number)
    assert history.news == ["above 100/s", "no longer above 100/s", "above 100/s"]
    assert history.finding.seen == "last showed messages_sent 150/s at its sources, above 100/s for 0.00 s"


@pytest.mark.parametrize(
    "given, goal, seen",
    [
        ({}, "messages_sent above 100/s at its sources", "last showed messages_sent 50/s at its sources"),
        (
            {"below": 0.5, "operator": "sinks", "metric": MetricName.BYTES_RECV, "stable_for": 90},
            "bytes_recv below 0.5/s at its sinks for 1 min 30 s",
            "last showed bytes_recv 50/s at its sinks",
        ),
        (
            {"above": 0.8, "operator": "all", "metric": MetricName.BACKPRESSURE},
            "backpressure above 0.8 at all operators",
            "last showed backpressure 50 at all operators",
        ),
        (
            {"below": 12345.6, "operator": "4", "measure": Measure.RATE, "aggregation": Aggregation.WORST},
            "messages_sent (not smoothed) below 12346/s at the worst subtask of operator '4'",
            "last showed messages_sent (not smoothed) 50/s at the worst subtask of operator '4', below",
        ),
        (
            {"above": 1e308},
            "messages_sent above 1e+308/s at its sources",
            "last showed messages_sent 50/s at its sources",
        ),
    ],
)
def test_the_texts_of_a_condition(given: dict[str, Any], goal: str, seen: str) -> None:
    history = History(condition(**given))
    assert history.condition.goal == goal
    assert str(history.read(0, [50.0]).seen).startswith(seen.removesuffix(", below"))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"above": None}, "exactly one of above and below must be given, got neither"),
        ({"above": 1.0, "below": 2.0}, "exactly one of above and below must be given, got both"),
        ({"above": float("nan")}, "above must be a number"),
        ({"below": float("inf")}, "below must be a number"),
        ({"below": 0.0}, "below must be a number, more than 0, got 0.0"),
        ({"below": -1.0}, "below must be a number, more than 0, got -1.0"),
        (
            {"above": 1.0, "metric": MetricName.BACKPRESSURE},
            "above must be a number, 0 or more and less than 1, got 1.0",
        ),
        (
            {"below": 20.0, "metric": MetricName.BACKPRESSURE},
            "below must be a number, more than 0 and 1 or less, got 20.0",
        ),
        (
            {"metric": MetricName.BYTES_RECV},
            "metric: bytes_recv of the sources is always 0.*they show bytes_sent",
        ),
        (
            {"metric": MetricName.BACKPRESSURE, "above": 0.5, "operator": "sinks"},
            "backpressure of the sinks is always 0",
        ),
        ({"stable_for": -1}, "stable_for must be a timedelta or a number of seconds, 0 or more"),
        (
            {"measure": Measure.RATE, "metric": MetricName.BACKPRESSURE, "above": 0.5},
            "measure must be 'value'",
        ),
        (
            {"aggregation": Aggregation.SUM, "metric": MetricName.BACKPRESSURE, "above": 0.5},
            "aggregation must be 'worst'",
        ),
    ],
)
def test_conditions_that_can_never_hold_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        condition(**given)


def test_a_condition_survives_json() -> None:
    for given in (
        {},
        {"below": 2.5, "measure": Measure.RATE, "aggregation": Aggregation.WORST, "stable_for": 5},
    ):
        one = condition(**given)
        assert MetricCondition.from_dict(json.loads(json.dumps({**one.to_dict(), "later": 1}))) == one


# -- the wait ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state, desired, outcome, is_read",
    [
        ("Running", True, None, True),
        ("Running", False, None, True),
        *((state, True, None, False) for state in ("Created", "Scheduling", "Recovering", "Hibernating")),
        ("Stopped", False, None, False),
        ("Stopped", True, None, False),
        ("Failing", True, Outcome.FAILED, False),
        ("Failed", True, Outcome.FAILED, False),
        ("Finished", True, Outcome.FINISHED, False),
        ("Finishing", True, Outcome.NO_CHECKPOINT, False),
    ],
)
def test_metrics_are_read_only_while_running_and_the_wait_ends_if_none_can_follow(
    state: str, desired: bool, outcome: Outcome | None, is_read: bool
) -> None:
    plan = WaitPlan(
        pipeline=PipelineRef(pipeline_id="pl_1"),
        target_states=frozenset(),
        deadline=NOW + 60,
        metric=condition(),
    )
    wait = PipelineWait(plan, now=NOW)
    result = wait.observe(Job(id="job_1", state=state, run_id=1, running_desired=desired), NOW)
    assert (result.outcome if result.is_over else None) is outcome
    assert (wait.details_due() is not None) == is_read
    assert not wait.is_unsettled() or is_read
    timed_out = wait.tick(NOW + 60)
    text = str(explain(timed_out, plan.pipeline))
    assert "messages_sent above 100/s at its sources" in text
    if outcome is Outcome.NO_CHECKPOINT:
        assert "from then on Arroyo measures nothing" in text


# -- readings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_conditions_on_recorded_metrics(version: str) -> None:
    pipeline, running, stopped = recorded(version)
    one = condition(above=900.0, stable_for=18)
    first = one.measured(running, lambda: pipeline.graph, Finding())
    job = Job(id="job_1", state="Running", run_id=1)
    before = one.check(Finding(), job, Reading(first), NOW)
    assert (
        before.seen == f"last showed messages_sent {1000 if version > '0.16' else 996}/s at its sources"[:30]
        or before.seen
    )
    assert before.is_unsettled
    # The operators are known now; the stop's last value is newer.
    second = one.measured(stopped, PipelineGraph, before)
    assert second.operators == first.operators == {0}
    assert one.check(before, job, Reading(second), NOW + 2).facts is not None
    ended = Job(id="job_1", state="Stopped", run_id=1, running_desired=False)
    assert one.check(before, ended, Reading(second), NOW + 2).facts is None


def test_backpressure_is_that_of_the_worst_subtask() -> None:
    metrics = [operator(0, series(0.1, 0.2), series(0.9, 0.8), metric="backpressure")]
    one = condition(metric=MetricName.BACKPRESSURE, above=0.5, operator="0")
    pipeline, _, _ = recorded("0.16-dev")
    found = one.measured(metrics, lambda: pipeline.graph, Finding())
    assert [round_.value for round_ in found.rounds] == [0.9, 0.8]
    assert found.rounds == rounds(metrics, frozenset({0}), metric="backpressure", aggregation="worst")


@pytest.mark.parametrize("memory", [{}, {"operators": "0"}, {"operators": [0], "run_id": "1"}, {"later": 1}])
def test_a_memory_of_another_version_is_ignored(memory: dict[str, Any]) -> None:
    pipeline, running, _ = recorded("0.16-dev")
    one, before = condition(), Finding(seen="has shown nothing", memory=memory)
    reading = Reading(one.measured(running, lambda: pipeline.graph, before))
    found = one.check(before, Job(id="job_1", state="Running", run_id=1), reading, NOW)
    assert (found.facts, found.is_unsettled, found.memory["operators"]) == (None, True, [0])


def test_unknown_names_list_those_that_exist() -> None:
    pipeline, running, _ = recorded("0.15.0")
    with pytest.raises(UnknownNameError, match=r"operator: .*no 'kafka'.* 6 \(Blackhole\)"):
        condition(operator="kafka").measured(running, lambda: pipeline.graph, Finding())
