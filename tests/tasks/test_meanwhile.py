"""External requests, and failures of the pipeline, between a task's check, its request, and the effect."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoRestartPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from tests.support import ENDLESS

from .conftest import Arrange
from .harness import DEFERRED, SYNC, FakeTaskInstance, Make, run_task, stop, submit

MODES = pytest.mark.parametrize("mode", [SYNC, DEFERRED])

COUNT = "event_rate = '10', message_count = '9000'"
"""The sources last for minutes, however slow the machine is, until the sandbox's clock is advanced."""
BOUNDED = ENDLESS.replace("event_rate = '10'", COUNT)
ONE_IS_BOUNDED = (
    ENDLESS
    + f"""
CREATE TABLE few WITH (connector = 'impulse', {COUNT});
INSERT INTO sink SELECT counter FROM few;"""
)

Act = Callable[[Arrange, str], object]

LONG = 120
"""A timeout that no task may reach: each ends earlier."""


def _made(operator: Any, pipeline_id: str, **arguments: Any) -> Make:
    given = {"task_id": "a_task", "pipeline_id": pipeline_id, "timeout": LONG, **arguments}
    return lambda **mode: operator(**{**given, **mode})


def restart(pipeline_id: str) -> Make:
    return _made(ArroyoRestartPipelineOperator, pipeline_id, stable_for=0.3)


def update(pipeline_id: str) -> Make:
    return _made(ArroyoUpdatePipelineOperator, pipeline_id, stable_for=0.3, parallelism=2)


def new_interval(pipeline_id: str) -> Make:
    return _made(ArroyoUpdatePipelineOperator, pipeline_id, stable_for=0.3, checkpoint_interval=20)


def delete(pipeline_id: str) -> Make:
    return _made(ArroyoDeletePipelineOperator, pipeline_id)


def stop_it(pipeline_id: str) -> Make:
    return stop(pipeline_id, timeout=LONG)


def stop_immediately(pipeline_id: str) -> Make:
    return stop(pipeline_id, mode="graceful", if_finishing="immediate", timeout=LONG)


def at_request(monkeypatch: pytest.MonkeyPatch, *, before: Any = None, after: Any = None) -> None:
    """Call a function right before, or right after, a task's next request that changes a pipeline."""
    send, done = ArroyoClient.send, list[bool]()

    def sent(client: ArroyoClient, request: Request[Any]) -> Any:
        if done or request.method == "GET":
            return send(client, request)
        done.append(True)
        if before is not None:
            before()
        response = send(client, request)
        if after is not None:
            after()
        return response

    monkeypatch.setattr(ArroyoClient, "send", sent)


# -- a restart or an update whose pipeline ends -------------------------------------------------------------------


def _ends(*states: str) -> Act:
    def act(arrange: Arrange, pipeline_id: str) -> None:
        arrange.sandbox.advance(1000)
        arrange.until(pipeline_id, *states)

    return act


def _fails(arrange: Arrange, pipeline_id: str) -> None:
    arrange.sandbox.faults.fail(pipeline_id, restarts=False)
    arrange.until(pipeline_id, "Failed")


def _begins_to_fail(arrange: Arrange, pipeline_id: str) -> None:
    arrange.sandbox.faults.fail(pipeline_id, restarts=False)


def _stopped(arrange: Arrange, pipeline_id: str) -> None:
    arrange.client.patch_pipeline(pipeline_id, stop="immediate")
    arrange.until(pipeline_id, "Stopped")


@dataclass
class Change:
    """A change of a pipeline that ends before it, and the task's error.

    :param error: its text; None: the task succeeds, with a new run.
    """

    make: Callable[[str], Make]
    act: Act
    error: str | None
    query: str = ENDLESS
    kind: type[Exception] = ArroyoTaskError


KEPT = "It keeps the new settings for its next start"
CHANGES = {
    "restart, finished": Change(
        restart, _ends("Finished"), "can never run again", BOUNDED, ArroyoFatalTaskError
    ),
    "restart, finishing": Change(
        restart, _ends("Finishing"), "is Finishing; a new run was wanted", ONE_IS_BOUNDED
    ),
    "restart, failed": Change(restart, _fails, None),
    "restart, failing": Change(restart, _begins_to_fail, None),
    "restart, stopped": Change(restart, _stopped, "A new try of this task starts it again"),
    "update, finished": Change(
        update, _ends("Finished"), "can never run again", BOUNDED, ArroyoFatalTaskError
    ),
    "update, finishing": Change(
        update, _ends("Finishing"), "Arroyo ignores restarts and new settings", ONE_IS_BOUNDED
    ),
    "update, failed": Change(update, _fails, KEPT),
    "update, stopped": Change(update, _stopped, KEPT),
    "new interval, finished": Change(
        new_interval, _ends("Finished"), "can never run again", BOUNDED, ArroyoFatalTaskError
    ),
}


@pytest.mark.parametrize(
    "mode, name",
    [*((SYNC, name) for name in CHANGES), (DEFERRED, "restart, failing"), (DEFERRED, "update, finishing")],
)
def test_a_change_of_a_pipeline_that_ends_before_the_request(
    mode: str, name: str, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = CHANGES[name]
    pipeline_id = arrange.pipeline("Running", query=change.query)
    at_request(monkeypatch, before=lambda: change.act(arrange, pipeline_id))
    ended = run_task(change.make(pipeline_id), mode)
    if change.error is None:
        assert ended.error is None, ended.error
        assert (ended.result["state"], ended.result["run_id"]) == ("Running", 2)
    else:
        assert type(ended.error) is change.kind, ended.error
        assert change.error in str(ended.error)
        assert "did not become" not in str(ended.error)


def test_a_resume_that_is_stopped_again_fails(arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline_id = arrange.pipeline("Running")
    _stopped(arrange, pipeline_id)
    at_request(monkeypatch, after=lambda: arrange.client.patch_pipeline(pipeline_id, stop="immediate"))
    ended = run_task(restart(pipeline_id), SYNC)
    assert type(ended.error) is ArroyoTaskError
    # On a slow machine, it may run in between.
    expected = r"was resumed, and stopped again externally before it ran|was stopped externally; the goal was Running"
    assert re.search(expected, str(ended.error))


@pytest.mark.parametrize("until_checkpoint", [False, True])
def test_a_submit_adopts_a_pipeline_that_ignores_its_settings(
    until_checkpoint: bool, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_task(submit(ONE_IS_BOUNDED), SYNC).result
    at_request(monkeypatch, before=lambda: _ends("Finishing")(arrange, made["pipeline_id"]))
    again = submit(ONE_IS_BOUNDED, parallelism=2, timeout=LONG, until_checkpoint=until_checkpoint)
    ended = run_task(again, SYNC, FakeTaskInstance(try_number=2))
    if until_checkpoint:
        assert "is Finishing; a new run was wanted" in str(ended.error)
    else:
        assert (ended.result["state"], ended.result["action"]) == ("Finishing", "adopted")
        assert "Finishing, ignores other settings and is used as it is: orders" in ended.texts("WARNING")


# -- a stop that is withdrawn externally ---------------------------------------------------------------------------


def _resume(arrange: Arrange, pipeline_id: str) -> None:
    arrange.client.patch_pipeline(pipeline_id, stop="none")


@dataclass
class Withdrawn:
    """A stop that is withdrawn right after its request, and the state of the pipeline."""

    make: Callable[[str], Make]
    state: str = "Running"
    query: str = ENDLESS


STOPS = {
    "a stop": Withdrawn(stop_it),
    "a delete": Withdrawn(delete),
    "a stop during a rescale": Withdrawn(stop_it, "Rescaling"),
    "a delete during a rescale": Withdrawn(delete, "Rescaling"),
    "a stop under way": Withdrawn(stop_it, "CheckpointStopping"),
    "a delete under way": Withdrawn(delete, "CheckpointStopping"),
    "a stop in a state of a newer server": Withdrawn(stop_it, "Hibernating"),
    "an immediate stop in Finishing": Withdrawn(stop_immediately, "Finishing", ONE_IS_BOUNDED),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_that_is_withdrawn_at_once_is_an_error(
    name: str, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdrawn = STOPS[name]
    pipeline_id = arrange.pipeline("Running", query=withdrawn.query)
    if withdrawn.state == "Finishing":
        _ends("Finishing")(arrange, pipeline_id)
    # Otherwise, it could have stopped first.
    arrange.sandbox.faults.show_state(pipeline_id, withdrawn.state)
    at_request(monkeypatch, after=lambda: _resume(arrange, pipeline_id))
    ended = run_task(withdrawn.make(pipeline_id), SYNC)
    assert type(ended.error) is ArroyoTaskError, ended.error
    assert "was asked to run again while this task waited for its stop" in str(ended.error)
    assert arrange.sandbox.store.pipelines


def test_a_pipeline_that_is_resumed_right_after_its_stop_was_stopped(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.show_state(pipeline_id, "CheckpointStopping")

    def resume() -> None:
        _resume(arrange, pipeline_id)
        arrange.sandbox.faults.show_state(pipeline_id, "Stopped")

    arrange.after_polls(resume, polls=5)
    ended = run_task(stop_it(pipeline_id), SYNC)
    assert ended.error is None, ended.error
    assert ended.result["state"] == "Stopped"
    assert "Stopped, but since asked to run again: orders" in ended.texts("WARNING")


@MODES
@pytest.mark.parametrize("make", [stop_it, delete])
def test_a_stop_that_is_withdrawn_during_the_wait_is_an_error(
    make: Callable[[str], Make], mode: str, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.show_state(pipeline_id, "CheckpointStopping", seconds=None)
    arrange.after_polls(_resume, arrange, pipeline_id, polls=5)
    ended = run_task(make(pipeline_id), mode)
    assert type(ended.error) is ArroyoTaskError, ended.error
    assert "while this task waited for its stop; last seen CheckpointStopping" in str(ended.error)
