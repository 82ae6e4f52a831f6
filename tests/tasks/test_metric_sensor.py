"""The metric sensor: each possible outcome in every mode, and what it refuses."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowSensorTimeout

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError
from airflow_provider_arroyo.monitoring import rules
from airflow_provider_arroyo.polling import details
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors import metric as sensor_module
from airflow_provider_arroyo.sensors.arroyo import ArroyoMetricSensor
from tests.support import BOUNDED, ONE_ENDS

from .conftest import BROKEN, SPEED, Arrange
from .harness import (
    DEFERRED,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    Make,
    context,
    defer,
    fire,
    run_task,
    sense_metric,
)
from .scenarios import KEYS, Scenario, check, fails

METRICS = "*/operator_metric_groups"
AS_MANY = pytest.approx(10, rel=0.01)
"""As many rows a second as the source makes."""


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sensor read metrics as often as the fast sandbox measures them."""
    for module in (sensor_module, rules):
        monkeypatch.setattr(module, "MEASURED_EVERY_SECONDS", 2 / SPEED / 4)
    monkeypatch.setattr(details, "_SHARED_SECONDS", 0.0)


def sense(pipeline_id: str | None = None, **more: Any) -> Make:
    given = {"metric": "messages_sent", "operator": "sources", "poll_interval": 0.1, **more}
    if not given.keys() & {"above", "below"}:
        given["above"] = 5
    return sense_metric(pipeline_id, **given)


def running(arrange: Arrange, *, seconds: float = 30, **more: Any) -> str:
    """Return a pipeline that has been running for a while."""
    pipeline_id = arrange.pipeline("Running", **more)
    arrange.sandbox.advance(seconds)
    return pipeline_id


def _reaches(arrange: Callable[[Arrange], Make], value: Any = AS_MANY) -> tuple[Scenario, Any]:
    return Scenario(arrange, "Running"), value


def _timeout(arrange: Callable[[Arrange], Make], *says: str) -> tuple[Scenario, None]:
    return fails(arrange, *says, error=AirflowSensorTimeout), None


def _fails(arrange: Callable[[Arrange], Make], *says: str, **more: Any) -> tuple[Scenario, None]:
    return fails(arrange, *says, **more), None


def _falls_silent(arrange: Arrange) -> Make:
    pipeline_id = running(arrange)
    arrange.sandbox.faults.traffic(pipeline_id, rate=0)
    return sense(pipeline_id, below=0.1, measure="rate", stable_for=3)


def _slow(arrange: Arrange, **more: Any) -> Make:
    pipeline_id = running(arrange)
    arrange.sandbox.faults.traffic(pipeline_id, backpressure=0.95)
    arrange.sandbox.advance(10)
    return sense(pipeline_id, **{"metric": "backpressure", "operator": "all", "above": 0.8, **more})


def _stopped(arrange: Arrange, **more: Any) -> Make:
    pipeline_id = running(arrange)
    arrange.sandbox.faults.stop(pipeline_id)
    arrange.until(pipeline_id, "Stopped")
    return sense(pipeline_id, **more)


def _resumed(arrange: Arrange) -> Make:
    pipeline_id = running(arrange)
    arrange.sandbox.faults.stop(pipeline_id)
    arrange.until(pipeline_id, "Stopped")
    arrange.after_polls(lambda: arrange.client.patch_pipeline(pipeline_id, stop="none"))
    return sense(pipeline_id)


def _unreadable(arrange: Arrange, tolerance: float, times: int | None, **more: Any) -> Make:
    pipeline_id = running(arrange)
    kind, skip = more.pop("kind", "status"), more.pop("skip", 0)
    fields = {"status": 503} if kind == "status" else {}
    getattr(arrange.sandbox.faults, kind)(path=METRICS, times=times, skip=skip, **fields)
    return sense(pipeline_id, api_outage_tolerance=tolerance, **more)


SCENARIOS = {
    "above": _reaches(lambda a: sense(running(a))),
    "below": _reaches(lambda a: sense(running(a), below=20)),
    "before it runs": _reaches(lambda a: sense(a.pipeline())),
    "by name": _reaches(lambda a: sense((running(a), None)[1], pipeline_name="orders")),
    "of one operator": _reaches(lambda a: sense(running(a), operator=0, aggregation="worst")),
    "for a length of time": _reaches(lambda a: sense(running(a), stable_for=20)),
    "a source that falls silent": _reaches(_falls_silent, 0.0),
    "backpressure": _reaches(_slow, pytest.approx(0.9, rel=0.1)),
    "resumed": _reaches(_resumed),
    "not beyond": _timeout(
        lambda a: sense(running(a), above=50, timeout=3),
        "did not have messages_sent above 50/s at its sources within",
        "It last showed messages_sent ",
        "/s at its sources.",
        "Check its metrics in Arroyo's console, or allow more time (timeout)",
    ),
    "not for long enough": _timeout(
        lambda a: sense(running(a, seconds=5), stable_for=100, timeout=3),
        "for 1 min 40 s within",
        "above 5/s for ",
    ),
    # As in the last poke of a rescheduled sensor, which comes after the timeout.
    "above, after the timeout": _reaches(lambda a: sense(running(a), timeout=0)),
    "not beyond, after the timeout": _timeout(
        lambda a: sense(running(a), above=50, timeout=0), "It last showed messages_sent "
    ),
    "unreadable after the timeout": _timeout(
        lambda a: _unreadable(a, 30, None, timeout=0), "may be healthy, but its metrics cannot be read: "
    ),
    "stopped": _timeout(lambda a: _stopped(a, timeout=3), "Stopped", "No resume was requested"),
    "Failed": _fails(
        lambda a: sense(a.pipeline("Failed", query=BROKEN)),
        "is Failed",
        "the goal was messages_sent above 5/s at its sources",
    ),
    "Finished": _fails(
        lambda a: sense(a.pipeline("Finished", query=BOUNDED), below=50),
        "is Finished; the goal was messages_sent below 50/s at its sources",
    ),
    "Finishing": _fails(
        lambda a: sense(a.pipeline("Finishing", query=ONE_ENDS), below=50),
        "is Finishing; the goal was messages_sent below 50/s at its sources",
        "from then on Arroyo measures nothing",
    ),
    "missing": _fails(lambda a: sense("pl_nope"), "pl_nope"),
    "no such operator": _fails(
        lambda a: sense(a.pipeline("Running"), operator="kafka"),
        "operator: the pipeline has no 'kafka'. It has 0 (",
        "'sources', 'sinks', 'all'",
        error=ArroyoFatalTaskError,
    ),
    "no such operator, by name": _fails(
        lambda a: sense((a.pipeline("Running"), None)[1], pipeline_name="orders", operator="kafka"),
        "operator: the pipeline has no 'kafka'. It has 0 (",
        error=ArroyoFatalTaskError,
    ),
    "unreadable for a while": _reaches(lambda a: _unreadable(a, 30, 3)),
    "unreadable all the time": _timeout(
        lambda a: _unreadable(a, 30, None, timeout=1.2),
        "may be healthy, but its metrics cannot be read: ",
    ),
    "unreadable": _fails(
        lambda a: _unreadable(a, 0.5, None), "The metrics of pipeline 'orders'", "could not be read for"
    ),
}


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize("scenario, value", SCENARIOS.values(), ids=SCENARIOS)
def test_each_scenario_ends_alike_in_every_mode(
    scenario: Scenario, value: Any, mode: str, arrange: Arrange
) -> None:
    ended = run_task(scenario.arrange(arrange), mode)
    check(ended, scenario)
    if scenario.error is None:
        assert list(ended.result) == [*KEYS, "metric"]
        metric = ended.result["metric"]
        assert set(metric) == {"name", "operator", "value", "time_micros", "held_seconds"}
        assert metric["value"] == value


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_reading_cut_short_by_the_deadline_is_not_the_reason(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    make = _unreadable(arrange, 30, None, skip=2, kind="hang", above=50, timeout=1.2)
    ended = run_task(make, mode)
    assert isinstance(ended.error, AirflowSensorTimeout)
    assert ") did not have messages_sent above 50/s" in str(ended.error)


# -- what is logged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_each_crossing_is_logged_once(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = running(arrange)

    def cross(share: float, *shares: float) -> None:
        # Backpressure is not smoothed, so it crosses the bound at once.
        sandbox.faults.traffic(pipeline_id, backpressure=share)
        sandbox.advance(5)
        act, values = (cross, shares) if shares else (sandbox.advance, (60,))
        arrange.after_polls(act, *values, path=METRICS)

    arrange.after_polls(cross, 0.9, 0.1, 0.9, path=METRICS)
    ended = run_task(
        sense(pipeline_id, metric="backpressure", operator="all", above=0.5, stable_for=60, timeout=60), mode
    )
    assert ended.error is None, ended.error
    lines = [text for text in ended.texts() if "backpressure" in text]
    assert [line.split(": ")[0] for line in lines] == [
        "Waiting for backpressure above 0.5 at all operators for 1 min",
        "Running",
        "Running, above 0.5",
        "Running, no longer above 0.5",
        "Running, above 0.5",
        "Done, Running",
    ]
    assert lines[2].startswith("Running, above 0.5: orders last showed backpressure 0.8")


def test_a_first_reading_is_logged_by_the_first_poke_only(arrange: Arrange) -> None:
    ended = run_task(sense(running(arrange), above=50, timeout=3), RESCHEDULE)
    assert ended.pokes > 1
    assert len([text for text in ended.texts() if "orders last showed messages_sent" in text]) == 1


# -- costs ----------------------------------------------------------------------------------------------


def test_the_metrics_are_read_no_more_often_than_they_are_measured(
    sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_module, "MEASURED_EVERY_SECONDS", 0.5)
    began = time.monotonic()
    ended = run_task(sense(running(arrange, seconds=5), stable_for=12, poll_interval=0.05), SYNC)
    assert ended.error is None, ended.error
    assert 2 <= sandbox.requests.count("GET", METRICS) <= (time.monotonic() - began) / 0.5 + 1
    # Once for its name, and once for its graph.
    pipeline = f"/api/v1/pipelines/{ended.result['pipeline_id']}"
    assert [one.path for one in sandbox.requests if one.method == "GET"].count(pipeline) == 2


def test_sensors_of_a_triggerer_share_the_metrics_of_a_pipeline(
    sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_id = running(arrange)
    monkeypatch.setattr(details, "_SHARED_SECONDS", 0.4)
    makes = [sense(pipeline_id, above=50 + number, timeout=1.5) for number in range(10)]
    triggers = [defer(make(deferrable=True, defer_after=0)) for make in makes]
    before = sandbox.requests.count("GET", METRICS)
    began = time.monotonic()

    async def run_all() -> Sequence[Any]:
        found: Sequence[Any] = await asyncio.gather(*map(fire, triggers))
        return found

    events = asyncio.run(run_all())
    assert {event["result"]["outcome"] for (event,) in events} == {"timed_out"}
    assert {event["result"]["seen"][:25] for (event,) in events} == {"last showed messages_sent"}
    requests = sandbox.requests.count("GET", METRICS) - before
    assert 1 <= requests <= (time.monotonic() - began) / 0.4 + 2


# -- arguments --------------------------------------------------------------------------------------------------

GIVEN: dict[str, Any] = {"pipeline_id": "pl_1", "metric": "messages_sent", "operator": "sources", "above": 1}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"above": None}, "exactly one of above and below must be given, got neither"),
        ({"metric": "rows"}, "metric must be one of 'messages_recv', 'messages_sent', 'bytes_recv'"),
        ({"metric": "backpressure", "above": 0.5, "measure": "rate"}, "measure must be 'value'"),
        ({"metric": "backpressure", "above": 0.5, "aggregation": "sum"}, "aggregation must be 'worst'"),
        ({"measure": "speed"}, "measure must be one of 'value', 'rate', got 'speed'"),
        ({"aggregation": "mean"}, "aggregation must be one of 'sum', 'worst', got 'mean'"),
        ({"operator": ""}, "operator must be a non-empty string"),
        ({"operator": None}, "operator must be a non-empty string"),
        ({"operator": True}, "operator must be a non-empty string"),
        (
            {"mode": "reschedule", "stable_for": timedelta(minutes=5)},
            "stable_for must be at most 4 min with mode='reschedule'",
        ),
    ],
)
def test_invalid_arguments_are_refused_before_any_request(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ArroyoMetricSensor(task_id="a_task", **{**GIVEN, "deferrable": False, **given})


@pytest.mark.parametrize(
    "given, rendered, message",
    [
        ({"above": "{{ var.value.most }}"}, {"above": "1e3"}, None),
        ({"operator": "{{ which }}"}, {"operator": 4}, None),
        ({"operator": "{{ which }}"}, {"operator": " "}, "operator must be a non-empty string"),
        (
            {"metric": "backpressure", "above": "{{ most }}"},
            {"above": 1.5},
            "above must be a number, 0 or more and less than 1",
        ),
    ],
)
def test_rendered_arguments_are_checked_before_any_request(
    given: dict[str, Any], rendered: dict[str, Any], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", "arroyo://127.0.0.1:9")
    sensor = ArroyoMetricSensor(task_id="a_task", **{**GIVEN, **given}, api_outage_tolerance=0, timeout=5)
    assert set(given) <= {*sensor.template_fields, "metric"}
    for name, value in rendered.items():
        setattr(sensor, name, value)
    if message is None:
        assert sensor._condition().above in (1, 1000)
        return
    with pytest.raises(ArroyoFatalTaskError, match=message):
        sensor.execute(context())


def test_it_can_be_mapped_over_bounds_and_operators() -> None:
    with DAG("a_dag", schedule=None):
        mapped = ArroyoMetricSensor.partial(
            task_id="a_task", metric="messages_sent", pipeline_id="pl_1"
        ).expand(operator=["sources", "sinks"], above=[1, 2])
    assert mapped.task_id == "a_task"
