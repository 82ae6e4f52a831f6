"""The checkpoint sensor: the same in every mode, and what it refuses.

The sandbox's clock is thirty times as fast, and a checkpoint is taken every ten of its seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoFatalTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock, RealClock
from airflow_provider_arroyo.sensors.arroyo import ArroyoCheckpointSensor
from tests.support import BOUNDED, ONE_ENDS

from .conftest import BROKEN, Arrange
from .harness import (
    DEFERRED,
    DEFERRED_LATE,
    FROM_TRIGGER,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    Make,
    StateStore,
    context,
    run_task,
    sense_checkpoint,
)
from .scenarios import KEYS, Scenario, cases, check, fails

SPEED = 30
CHECKPOINTS = "*/checkpoints"
SOON: dict[str, Any] = {"poll_interval": 0.2}


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    stands = request.node.get_closest_marker("time_stands") is not None
    clock = ManualClock() if stands else RealClock(speed=SPEED)
    with ArroyoSandbox(arroyo_version=request.param, seed=1, clock=clock, allowed_restarts=1) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


def running(**more: Any) -> Callable[[Arrange], Make]:
    """Return the set-up of a wait for a checkpoint of a running pipeline that has one."""

    def arranged(arrange: Arrange) -> Make:
        pipeline_id = arrange.pipeline("Running")
        arrange.sandbox.advance(12)
        return sense_checkpoint(pipeline_id, **SOON, **more)

    return arranged


def begun_from_now(arrange: Arrange) -> Make:
    # The sandbox's clock is ahead of the task's; the wait must not end before that time by the task's.
    make = running(timeout=3600)(arrange)
    moment = datetime.fromtimestamp(arrange.sandbox.clock.now_micros() / 1e6, UTC)
    return lambda **mode: make(began_after=moment.isoformat(), **mode)


def stopped(mode: StopMode, **more: Any) -> Callable[[Arrange], Make]:
    def arranged(arrange: Arrange) -> Make:
        pipeline_id = arrange.pipeline("Running")
        arrange.client.patch_pipeline(pipeline_id, stop=mode)
        arrange.until(pipeline_id, "Stopped")
        return sense_checkpoint(pipeline_id, **SOON, **more)

    return arranged


def ended(query: str, *states: str) -> Callable[[Arrange], Make]:
    return lambda arrange: sense_checkpoint(arrange.pipeline(*states, query=query), min_epoch=9, **SOON)


def answering(status: int, times: int | None, **more: Any) -> Callable[[Arrange], Make]:
    """Return the set-up of a wait while only the list of checkpoints is refused."""

    def arranged(arrange: Arrange) -> Make:
        make = running(min_epoch=1, **more)(arrange)
        arrange.sandbox.faults.status(status, path=CHECKPOINTS, times=times, method="GET")
        return make

    return arranged


def deleted_later(arrange: Arrange) -> Make:
    pipeline_id = arrange.pipeline("Running")
    arrange.after_polls(arrange.sandbox.faults.delete, pipeline_id)
    return sense_checkpoint(pipeline_id, min_epoch=1000, **SOON)


def stopped_later(arrange: Arrange) -> Make:
    pipeline_id = arrange.pipeline("Running")
    arrange.after_polls(arrange.sandbox.faults.stop, pipeline_id)
    return sense_checkpoint(pipeline_id, min_epoch=1000, **SOON)


def failed_later(arrange: Arrange) -> Make:
    make = running(max_age=60)(arrange)
    pipeline_id = make().pipeline_id
    arrange.sandbox.faults.fail(pipeline_id)
    arrange.until(pipeline_id, "Failed")
    return make


WITH_MEMORY = (SYNC, DEFERRED, DEFERRED_LATE, FROM_TRIGGER)
SCENARIOS = {
    "there already": Scenario(running(min_epoch=1), "Running"),
    # As in the last poke of a rescheduled sensor, which comes after the timeout.
    "there already, after the timeout": Scenario(running(min_epoch=1, timeout=0), "Running"),
    "recent": Scenario(running(max_age=60), "Running"),
    "all data up to now": Scenario(begun_from_now, "Running", modes=SENSOR_MODES),
    "two new ones": Scenario(running(new_checkpoints=2), "Running", modes=WITH_MEMORY),
    "by name": Scenario(
        lambda a: (a.pipeline(), sense_checkpoint(pipeline_name="orders", new_checkpoints=1, **SOON))[1],
        "Running",
        modes=WITH_MEMORY,
    ),
    "of a pipeline that stopped": Scenario(stopped(StopMode.CHECKPOINT, min_epoch=1), "Stopped"),
    "unreadable for a moment": Scenario(answering(503, times=1), "Running"),
    "none in time": fails(
        running(min_epoch=1000, timeout=3),
        "did not have a finished checkpoint of epoch 1000 or later within",
        "(timeout): it ",
        "It finished its last checkpoint, ",
        "Check its sources and sinks",
        error=AirflowSensorTimeout,
    ),
    "none, after the timeout": fails(
        running(min_epoch=1000, timeout=0), "It finished its last checkpoint, ", error=AirflowSensorTimeout
    ),
    "stopped without one": fails(
        stopped(StopMode.IMMEDIATE, min_epoch=9),
        "is Stopped; the goal was a finished checkpoint of epoch 9",
        "It has no finished checkpoint",
        "Resume it",
    ),
    "stopped while it waits": fails(stopped_later, "is Stopped", "It finished its last checkpoint"),
    "finished": fails(
        ended(BOUNDED, "Finished"), "is Finished; the goal was a finished checkpoint", "bounded"
    ),
    "failed": fails(ended(BROKEN, "Failed"), "is Failed", "a finished checkpoint of epoch 9"),
    "failed with a recent one": fails(
        failed_later, "is Failed", "finished within the last 1 min", "It finished its last checkpoint"
    ),
    "one source has ended": fails(
        ended(ONE_ENDS, "Finishing"), "is Finishing; the goal was a finished", "takes no checkpoints"
    ),
    "deleted": fails(deleted_later, "deleted"),
    "missing": fails(lambda a: sense_checkpoint("pl_nope", min_epoch=1), "pl_nope"),
    "without the right": fails(
        answering(403, times=None), "403", "arroyo_default", error=ArroyoFatalTaskError
    ),
    "unreadable for too long": fails(
        answering(503, times=None, api_outage_tolerance=0.5),
        "The checkpoints of pipeline 'orders'",
        "could not be read for",
        "api_outage_tolerance",
        "503",
    ),
}


@pytest.mark.parametrize("scenario, mode", cases(SCENARIOS, (SYNC, DEFERRED, RESCHEDULE)))
def test_each_scenario_ends_alike_in_every_mode(scenario: Scenario, mode: str, arrange: Arrange) -> None:
    done = run_task(scenario.arrange(arrange), mode)
    check(done, scenario)
    if scenario.error is not None:
        return
    assert list(done.result) == [*KEYS, "checkpoint"]
    assert list(done.result["checkpoint"]) == ["epoch", "type", "start_time_micros", "finish_time_micros"]
    lines = done.texts("INFO", "WARNING")
    assert len(lines) == len(set(lines)), "a line is repeated"


@pytest.mark.arroyo_versions("0.15", "0.16")
@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_checkpoint_types_need_a_newer_server(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    make = stopped(StopMode.CHECKPOINT, checkpoint_type="stopping")(arrange)
    done = run_task(make, mode)
    if sandbox.arroyo_version == "0.15":
        assert type(done.error) is ArroyoFatalTaskError
        assert "older than 0.16 and would ignore checkpoint_type" in str(done.error)
    else:
        assert done.result["checkpoint"]["type"] == "stopping"


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_stop_during_the_wait_takes_a_stopping_checkpoint(mode: str, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    # It counts checkpoints that are newer than those that it read first.
    arrange.after_polls(arrange.sandbox.faults.stop, pipeline_id, path=CHECKPOINTS)
    make = sense_checkpoint(pipeline_id, checkpoint_type="stopping", new_checkpoints=1, **SOON)
    done = run_task(make, mode)
    assert done.error is None, done.error
    assert done.result["checkpoint"]["type"] == "stopping"
    assert done.result["state"] in ("CheckpointStopping", "Stopped")


@pytest.mark.arroyo_versions("0.15")
@pytest.mark.parametrize("mode", [SYNC, DEFERRED, RESCHEDULE])
def test_the_type_is_none_on_a_server_without_types(mode: str, arrange: Arrange) -> None:
    done = run_task(running(max_age=60, min_epoch=1)(arrange), mode)
    assert done.error is None, done.error
    assert done.result["checkpoint"]["type"] is None


@pytest.mark.time_stands
def test_a_later_poke_counts_from_the_first(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    """It has no memory, so the server's clock decides which checkpoints are new."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.advance(60)

    def poke(seconds_ago: float) -> Any:
        first = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        ti = FakeTaskInstance(first_reschedule_date=first)
        sensor = ArroyoCheckpointSensor(
            task_id="a_task", pipeline_id=pipeline_id, new_checkpoints=3, mode="reschedule"
        )
        return sensor.poke(context(ti))

    assert poke(0) is False
    assert poke(15) is False
    assert poke(50).xcom_value["checkpoint"]["epoch"] >= 5


@pytest.mark.time_stands
@pytest.mark.parametrize("kept", [None, {"epoch": "7"}, "x"], ids=["unchanged", "damaged", "no mapping"])
def test_airflow_3_3_remembers_the_count_from_poke_to_poke(kept: Any, arrange: Arrange) -> None:
    pipeline_id, store = arrange.pipeline("Running"), StateStore()
    arrange.sandbox.advance(12)

    def poke(first: datetime | None) -> Any:
        ti = FakeTaskInstance(state_store=store, first_reschedule_date=first)
        make = sense_checkpoint(pipeline_id, new_checkpoints=2, mode="reschedule", timeout=3600)
        return make().poke(context(ti))

    assert poke(None) is False
    arrange.sandbox.advance(12)
    # Just now: by the clock, no checkpoint would count.
    assert poke(datetime.now(UTC)) is False
    finding = store["arroyo_seen"]["progress"]["finding"]
    assert finding["memory"]["new"] >= 1
    if kept is not None:
        finding["memory"] = kept
    arrange.sandbox.advance(12)
    assert bool(poke(datetime.now(UTC))) is (kept is None)


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
# The diagnosis of the timeout also reads them.
@pytest.mark.parametrize("interval, most", [(0.05, 4), (30, 2)])
def test_checkpoints_are_read_as_often_as_wanted_and_once_a_second_at_most(
    mode: str, interval: float, most: int, arrange: Arrange
) -> None:
    make = running(min_epoch=1000, timeout=2.2)(arrange)
    run_task(lambda **more: make(**{**more, "poll_interval": interval}), mode)
    assert 1 <= arrange.sandbox.requests.count("GET", CHECKPOINTS) <= most


# -- what it refuses -----------------------------------------------------------------------------------------------


def sensor(**arguments: Any) -> Any:
    return ArroyoCheckpointSensor(task_id="a_task", pipeline_id="pl_1", **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "at least one of max_age, began_after, min_epoch, checkpoint_type and new_checkpoints"),
        ({"checkpoint_type": "final"}, "checkpoint_type must be one of 'scheduled', 'stopping'"),
        ({"began_after": datetime(2026, 11, 28)}, "began_after must be a datetime with a time zone"),
        *(
            ({"began_after": value}, "began_after must ")
            for value in ("2026-11-28", "yesterday", 5, "None", " ")
        ),
        ({"max_age": 1, "pipeline_name": "orders"}, "exactly one of pipeline_id and pipeline_name"),
    ],
)
def test_invalid_arguments_are_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sensor(**arguments)


@pytest.mark.parametrize(
    "arguments, rendered, message",
    [
        ({"began_after": "{{ x }}"}, {"began_after": None}, "began_after must be a datetime"),
        ({"began_after": "{{ x }}"}, {"began_after": "None"}, "began_after must not be empty"),
        ({"began_after": "{{ x }}"}, {"began_after": "2026-11-28"}, "began_after must be a datetime with"),
        ({"min_epoch": "{{ x }}", "max_age": 5}, {"min_epoch": None}, "min_epoch must be an integer"),
        ({"began_after": "2099-01-01T00:00Z"}, {}, "began_after must not be after the end of this wait"),
    ],
)
def test_invalid_rendered_arguments_are_refused_before_any_request(
    arguments: dict[str, Any], rendered: dict[str, Any], message: str, sandbox: ArroyoSandbox
) -> None:
    task = sensor(**arguments)
    for name, value in rendered.items():
        setattr(task, name, value)
    with pytest.raises(ArroyoArgumentError, match=message):
        task.execute(context())
    assert sandbox.requests.count("GET", "*") == 0


def test_began_after_may_be_later(sandbox: ArroyoSandbox, client: ArroyoClient, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    moment = datetime.fromtimestamp(sandbox.clock.now_micros() / 1e6 + 15, UTC)
    done = run_task(sense_checkpoint(pipeline_id, began_after=moment, timeout=3600, **SOON), SYNC)
    assert done.result["checkpoint"]["start_time_micros"] >= moment.timestamp() * 1e6
