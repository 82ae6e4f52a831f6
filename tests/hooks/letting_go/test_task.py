"""When a task ends: who ended it decides whether its pipeline is stopped."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.hooks.letting_go import (
    ENDED_STATES,
    noted_wait,
    state_in,
)
from tests.hooks.letting_go.support import ENDED, NOT_ENDED, Bench, TaskInstance


def test_table_of_states_is_whole() -> None:
    assert frozenset(ENDED) == ENDED_STATES
    from airflow.utils.state import TaskInstanceState

    of_airflow = {state.value for state in TaskInstanceState}
    assert of_airflow <= {*ENDED, *NOT_ENDED}, "a new state of Airflow's: is a task ended in it?"


@pytest.mark.parametrize("stop", [mode for mode in StopMode if mode is not StopMode.NONE])
@pytest.mark.parametrize("state", ENDED)
def test_task_that_was_ended_stops_its_pipeline(bench: Bench, state: str, stop: StopMode) -> None:
    assert bench.let_go(TaskInstance(state), stop=stop)
    assert bench.changes() == [("PATCH", {"stop": stop.value})]
    assert bench.lines.only() == (
        "WARNING",
        f"Pipeline 'orders' was asked to stop ({stop.value}), because its task ended",
    )


@pytest.mark.parametrize("state", NOT_ENDED)
def test_task_that_was_not_ended_stops_nothing(bench: Bench, state: str | None) -> None:
    assert not bench.let_go(TaskInstance(state))
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    assert "goes on" in text
    if bench.mode == "worker":
        assert (level, f"its state in Airflow is {state}" in text) == ("WARNING", True)
    elif state == "deferred":
        assert text == "The wait goes on in another triggerer. Pipeline 'orders' goes on"
    else:
        assert f"The task of this wait is {state or 'cleared'} now" in text
    if state != "deferred":
        assert "ArroyoStopPipelineOperator" in text


@pytest.mark.parametrize("state", [*ENDED, *NOT_ENDED])
def test_without_a_policy_nothing_is_stopped(bench: Bench, state: str | None) -> None:
    assert not bench.let_go(TaskInstance(state), stop=None)
    assert bench.sandbox.requests.total == 0
    assert "goes on" in bench.lines.only()[1]


def test_time_that_is_up_needs_no_question(worker: Bench) -> None:
    ti = TaskInstance("running")
    assert worker.let_go(ti, is_timeout=True)
    assert ti.asked == []
    assert worker.changes() == [("PATCH", {"stop": "checkpoint"})]


@pytest.mark.parametrize(
    "noted", [{"try_number": 3}, {"try_number": 1}, {"try_number": None}, {}, "x", 5, []]
)
@pytest.mark.parametrize("state", ENDED)
def test_end_of_another_try_stops_nothing(bench: Bench, state: str, noted: Any) -> None:
    """After a clear, the old try is killed late, and the new one may have succeeded by then."""
    assert not bench.let_go(TaskInstance(state, noted=noted))
    assert bench.sandbox.requests.total == 0
    assert "a later" in bench.lines.only()[1]
    assert "goes on" in bench.lines.only()[1]


@pytest.mark.parametrize("state", ENDED)
def test_end_of_a_task_that_came_to_it_by_itself_stops_nothing(bench: Bench, state: str) -> None:
    """Another triggerer's event resumed it; this one is told to end its wait when all is done."""
    assert not bench.let_go(TaskInstance(state, noted={"try_number": 2, "is_over": True}))
    assert bench.sandbox.requests.total == 0
    assert "its own end already" in bench.lines.only()[1]
    assert "goes on" in bench.lines.only()[1]


def test_note_that_cannot_be_read_stops_nothing(bench: Bench) -> None:
    assert not bench.let_go(TaskInstance("failed", noted=RuntimeError("no XCom")))
    assert bench.sandbox.requests.total == 0
    assert "cannot be told" in bench.lines.only()[1]


@pytest.mark.parametrize("noted", ["x", 5, []])
def test_note_of_another_shape_is_none(noted: Any) -> None:
    assert noted_wait(TaskInstance(noted=noted)) == {}
    assert noted_wait(TaskInstance(noted={"a": 1})) == {"a": 1}


@pytest.mark.parametrize("map_index", [-1, None, 0, 7])
def test_mapped_tasks_ask_for_themselves(bench: Bench, map_index: int | None) -> None:
    ti = TaskInstance("failed", map_index=map_index)
    assert bench.let_go(ti)
    (question,) = ti.asked
    assert question == {
        "dag_id": "orders",
        "task_ids": ["submit"],
        "run_ids": ["manual__1"],
        **({} if map_index in (-1, None) else {"map_index": map_index}),
    }


@pytest.mark.parametrize(
    "answer, state",
    [
        ({"manual__1": {"submit": "failed"}}, "failed"),
        ({"manual__1": {"submit": None}}, None),
        ({"manual__1": {"submit_0": "failed"}}, None),
        ({"manual__1": {}}, None),
        ({"manual__2": {"submit": "failed"}}, None),
        ({}, None),
    ],
)
def test_state_in_airflows_answer(answer: Any, state: str | None) -> None:
    assert state_in(answer, TaskInstance()) == state


def test_state_that_is_an_enum() -> None:
    from airflow.utils.state import TaskInstanceState

    assert state_in({"manual__1": {"submit": TaskInstanceState.FAILED}}, TaskInstance()) == "failed"
