"""A name means the same pipeline in every mode, and in a later try it never means the successor."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.operators.arroyo import ArroyoDeletePipelineOperator, ArroyoStopPipelineOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BOUNDED, ENDLESS
from tests.tasks.conftest import Arrange
from tests.tasks.harness import (
    DEFERRED,
    DEFERRED_LATE,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    StateStore,
    context,
    run_task,
    sense,
    stop,
    submit,
)


def _old_and_new(arrange: Arrange) -> tuple[str, str]:
    """Return the ids of a stopped pipeline and of its successor, created at least a second later."""
    old = arrange.pipeline("Running")
    arrange.client.patch_pipeline(old, stop="immediate")
    arrange.until(old, "Stopped")
    arrange.sandbox.advance(2)
    return old, arrange.pipeline("Running")


def _second_try(store: StateStore | None = None) -> FakeTaskInstance:
    began = datetime.now(UTC) - timedelta(minutes=1)
    return FakeTaskInstance(try_number=2, run_start_date=began, state_store=store)


def test_a_second_try_of_a_stop_never_stops_the_successor(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    old, new = _old_and_new(arrange)
    sandbox.requests.clear()
    ended = run_task(stop(None, pipeline_name="orders"), SYNC, _second_try())
    assert old in str(ended.error)
    assert new in str(ended.error)
    assert "name the one you mean by pipeline_id" in str(ended.error)
    assert sandbox.requests.count("PATCH") == 0
    assert arrange.state(new) == "Running"


def test_a_cleared_stop_of_an_ended_run_never_stops_the_successor(arrange: Arrange) -> None:
    """The clear gives the run a new start date, later than the successor."""
    due = datetime.now(UTC) - timedelta(minutes=1)
    old, new = _old_and_new(arrange)
    later = datetime.now(UTC) + timedelta(hours=1)
    cleared = FakeTaskInstance(try_number=2, run_start_date=later, run_after=due, clear_number=1)
    ended = run_task(stop(None, pipeline_name="orders"), SYNC, cleared)
    assert old in str(ended.error)
    assert "name the one you mean by pipeline_id" in str(ended.error)
    assert arrange.state(new) == "Running"


def _delete(**mode: Any) -> Any:
    return ArroyoDeletePipelineOperator(task_id="a_task", pipeline_name="orders", **mode)


@pytest.mark.parametrize("make_store", [lambda: None, StateStore], ids=["before 3.3", "3.3"])
def test_a_second_try_of_a_delete_does_not_delete_the_successor(
    sandbox: ArroyoSandbox, arrange: Arrange, make_store: Callable[[], StateStore | None]
) -> None:
    store = make_store()
    old = arrange.pipeline("Running")
    arrange.client.patch_pipeline(old, stop="immediate")
    arrange.until(old, "Stopped")
    assert run_task(_delete, SYNC, FakeTaskInstance(state_store=store)).error is None
    sandbox.advance(2)
    new = arrange.pipeline("Running")
    ended = run_task(_delete, SYNC, _second_try(store))
    if store is None:
        assert "may have meant another one of that name, which is gone now" in str(ended.error)
    else:
        assert ended.result["missing"] is True
    assert arrange.state(new) == "Running"


@pytest.mark.parametrize("state", ["Running", "Stopped"])
@pytest.mark.parametrize("memory", ["none, before 3.3", "noted", "cleared without a note"])
def test_a_second_try_of_a_delete_does_not_delete_the_next_older_one(
    sandbox: ArroyoSandbox, arrange: Arrange, memory: str, state: str
) -> None:
    """Both were created before the DAG run began."""
    store = None if memory == "none, before 3.3" else StateStore()
    older, newest = _old_and_new(arrange)
    if state == "Stopped":
        arrange.client.patch_pipeline(newest, stop="immediate")
        arrange.until(newest, "Stopped")
    first = run_task(_delete, SYNC, FakeTaskInstance(state_store=store))
    assert first.result["pipeline_id"] == newest
    began = datetime.now(UTC) + timedelta(hours=1)
    again = FakeTaskInstance(try_number=2, run_start_date=began, run_after=began, state_store=store)
    if memory == "cleared without a note":
        again.state_store, again.clear_number = StateStore(), 1
    ended = run_task(_delete, SYNC, again)
    if memory == "noted":
        assert ended.result["missing"] is True
    else:
        assert "is alive, and an earlier try of this task may have deleted the one" in str(ended.error)
        assert f"name the one you mean by pipeline_id:\n  {older} (Stopped" in str(ended.error)
    assert set(sandbox.store.pipelines) == {older}


@pytest.mark.parametrize(
    "make", [stop(None, pipeline_name="orders"), _delete, sense(None, "Running", pipeline_name="orders")]
)
def test_a_retry_whose_earlier_tries_found_nothing_means_what_the_first_would_have(
    arrange: Arrange, make: Any
) -> None:
    """They met an outage, for example, so that no note was stored. The DAG submits one in each run."""
    _, new = _old_and_new(arrange)
    ended = run_task(make, SYNC, _second_try(StateStore()))
    assert ended.error is None, ended.error
    assert ended.result["pipeline_id"] == new


@pytest.mark.parametrize("cleared", [{"clear_number": 1}, {"max_tries": 1}])
@pytest.mark.parametrize("is_older_left", [True, False])
def test_a_clear_never_stops_the_successor_even_if_the_note_is_gone(
    arrange: Arrange, cleared: dict[str, Any], is_older_left: bool
) -> None:
    due = datetime.now(UTC) - timedelta(minutes=1)
    old, new = _old_and_new(arrange)
    if not is_older_left:
        arrange.client.delete_pipeline(old)
    ti = FakeTaskInstance(
        try_number=2, run_start_date=due, run_after=due, state_store=StateStore(), **cleared
    )
    ended = run_task(stop(None, pipeline_name="orders"), SYNC, ti)
    assert "was created after this DAG run began" in str(ended.error)
    assert arrange.state(new) == "Running"


def test_a_second_try_of_a_stop_stops_the_pipeline_of_its_own_run(arrange: Arrange) -> None:
    """There is no doubt about it, even if Airflow stores nothing between the tries."""
    submitted = run_task(submit(), SYNC, FakeTaskInstance(task_id="submit"))
    ended = run_task(stop(None, pipeline_name="orders"), SYNC, _second_try())
    assert ended.error is None, ended.error
    assert ended.result["pipeline_id"] == submitted.result["pipeline_id"]


def test_a_name_with_white_space_is_reached_by_its_id(arrange: Arrange) -> None:
    """Others may have created it."""
    pipeline_id = arrange.pipeline("Running", name="orders\n")
    ended = run_task(stop(pipeline_id), SYNC)
    assert (ended.result["state"], ended.result["pipeline_name"]) == ("Stopped", "orders\n")


@pytest.mark.parametrize("mode", [SYNC, DEFERRED, RESCHEDULE])
def test_the_error_about_a_name_that_only_another_airflow_has(
    arrange: Arrange, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task(submit(), SYNC)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://staging.example.com")
    ended = run_task(sense(None, pipeline_name="orders", timeout=0.7), mode)
    hint = "Another Airflow, in namespace 'airflow.example.com', has one. If that one is meant, use its pipeline_id"
    assert hint in str(ended.error)
    assert [hint in text for text in ended.texts("WARNING")] == [True]


def test_a_second_try_of_a_stop_stops_the_same_pipeline(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    """Airflow 3.3 and later store a note between the tries."""
    store = StateStore()
    first = arrange.pipeline("Running")
    make = stop(None, pipeline_name="orders", wait_for_completion=False)
    assert run_task(make, SYNC, FakeTaskInstance(state_store=store)).error is None
    arrange.until(first, "Stopped")
    sandbox.advance(2)
    second = arrange.pipeline("Running")
    ended = run_task(make, SYNC, _second_try(store))
    assert ended.result["pipeline_id"] == first
    assert arrange.state(second) == "Running"
    # Another name in the same task is independent of the note.
    third = arrange.pipeline("Running", name="invoices")
    other = stop(None, pipeline_name="invoices")
    assert run_task(other, SYNC, _second_try(store)).result["pipeline_id"] == third


@pytest.mark.parametrize("operator", [ArroyoStopPipelineOperator, ArroyoDeletePipelineOperator])
@pytest.mark.parametrize("if_missing", ["succeed", "fail"])
def test_a_second_try_leaves_the_successor_of_a_deleted_pipeline_alone(
    sandbox: ArroyoSandbox, arrange: Arrange, operator: Any, if_missing: str
) -> None:
    store = StateStore()

    def make(**mode: Any) -> Any:
        return operator(task_id="a_task", pipeline_name="orders", if_missing=if_missing, **mode)

    first = arrange.pipeline("Running")
    assert run_task(make, SYNC, FakeTaskInstance(state_store=store)).error is None
    if operator is ArroyoStopPipelineOperator:
        arrange.client.delete_pipeline(first)
    sandbox.advance(2)
    second = arrange.pipeline("Running")
    ended = run_task(make, SYNC, _second_try(store))
    if if_missing == "fail" and operator is ArroyoStopPipelineOperator:
        assert f"does not have pipeline {first!r}" in str(ended.error)
    else:
        assert ended.error is None, ended.error
        assert ended.result["missing"] is True
    assert any(f"the name 'orders' meant pipeline {first}" in text for text in ended.texts())
    assert arrange.state(second) == "Running"


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_a_finished_one_of_yesterday_is_not_meant(
    sandbox: ArroyoSandbox, arrange: Arrange, mode: str
) -> None:
    arrange.pipeline("Finished", query=BOUNDED)
    sandbox.advance(2)
    # It lasts for minutes, however slow the machine is, until the clock is advanced.
    today = arrange.pipeline("Running", query=BOUNDED.replace("'20'", "'90000'"))
    arrange.after_polls(sandbox.advance, 1000)
    ended = run_task(sense(None, "Finished", pipeline_name="orders"), mode)
    assert ended.error is None, ended.error
    assert (ended.result["pipeline_id"], ended.result["state"]) == (today, "Finished")


@pytest.mark.parametrize("mode", [SYNC, DEFERRED, DEFERRED_LATE, RESCHEDULE])
def test_a_pipeline_of_today_replaces_a_stopped_one_of_yesterday(
    sandbox: ArroyoSandbox, arrange: Arrange, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.polling.poll.FIND_SECONDS", 0.2)
    old = arrange.pipeline("Running")
    arrange.client.patch_pipeline(old, stop="immediate")
    arrange.until(old, "Stopped")
    sandbox.advance(2)
    arrange.after_polls(lambda: arrange.client.create_pipeline(name="orders", query=ENDLESS), polls=3)
    ended = run_task(sense(None, "Running", pipeline_name="orders"), mode)
    assert ended.error is None, ended.error
    assert ended.result["pipeline_id"] == ended.xcoms["pipeline_id"] != old
    assert ended.states()[0] == "Stopped"


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_pipeline_that_stops_during_the_wait_is_still_meant(
    arrange: Arrange, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.polling.poll.FIND_SECONDS", 0.1)
    meant = arrange.pipeline("Running")

    def replace() -> None:
        arrange.client.patch_pipeline(meant, stop="immediate")
        arrange.until(meant, "Stopped")
        arrange.client.create_pipeline(name="orders", query=ENDLESS)

    arrange.after_polls(replace)
    ended = run_task(sense(None, "Running", pipeline_name="orders", stable_for=8, timeout=8), mode)
    assert f"({meant}) did not become Running within 8.0 s" in str(ended.error)


@pytest.mark.parametrize("make_store", [lambda: None, StateStore], ids=["before 3.3", "3.3"])
def test_a_rescheduled_sensor_whose_pipeline_ends_between_two_pokes(
    sandbox: ArroyoSandbox, arrange: Arrange, make_store: Callable[[], StateStore | None]
) -> None:
    arrange.pipeline("Finished", query=BOUNDED)
    sandbox.advance(2)
    today = arrange.pipeline("Running")
    ti = FakeTaskInstance(state_store=make_store())
    operator = sense(None, "Stopped", pipeline_name="orders")(mode="reschedule", poke_interval=60)
    assert operator.poke(context(ti)) is False
    arrange.client.patch_pipeline(today, stop="immediate")
    arrange.until(today, "Stopped")
    done = operator.poke(context(ti))
    assert done.xcom_value["pipeline_id"] == today


def test_before_airflow_3_3_later_pokes_mean_the_pipeline_of_the_first_poke(
    sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    first = arrange.pipeline("Running")
    ti = FakeTaskInstance()
    make = sense(None, "Stopped", pipeline_name="orders")
    assert make(mode="reschedule", poke_interval=60).poke(context(ti)) is False
    # As if the first poke had been half a minute ago by the server's clock.
    sandbox.advance(30)
    ahead = sandbox.clock.now_micros() / 1e6 - time.time()
    sandbox.advance(30)
    arrange.client.patch_pipeline(first, stop="immediate")
    arrange.until(first, "Stopped")
    arrange.pipeline("Running")
    ahead_now = sandbox.clock.now_micros() / 1e6 - time.time()
    ti.first_reschedule_date = datetime.now(UTC) - timedelta(seconds=ahead_now - ahead)
    done = make(mode="reschedule", poke_interval=60).poke(context(ti))
    assert done.xcom_value["pipeline_id"] == first
