"""A killed task stops its pipeline only if it ended, and only the run that it watched; in worker and triggerer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.on_kill import WatchedRun, note_wait, noted_wait
from tests.on_kill.support import ENDED, Bench, TaskInstance
from tests.support import ONE_ENDS

MODES = [mode for mode in StopMode if mode is not StopMode.NONE]


# -- who ended the task ------------------------------------------------------------------------------------------


# Which states and notes of a task mean that it ended is in ``test_decision``.
@pytest.mark.parametrize("state, stop", [*zip(ENDED, MODES, strict=False)])
def test_a_task_that_was_ended_stops_its_pipeline(bench: Bench, state: str, stop: StopMode) -> None:
    assert bench.kill(TaskInstance(state), stop=stop)
    assert bench.changes() == [("PATCH", {"stop": stop.value})]
    text = f"Stop requested ({stop.value}), because its task ended: {bench.label}"
    assert bench.lines.only() == ("WARNING", text)


@pytest.mark.parametrize("state", ["running", "deferred", None])
def test_a_task_that_was_not_ended_stops_nothing(bench: Bench, state: str | None) -> None:
    assert not bench.kill(TaskInstance(state))
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    if bench.mode == "triggerer" and state == "deferred":
        assert text == f"The wait continues in another triggerer. {bench.label} keeps running"
        return
    assert level == ("WARNING" if bench.mode == "worker" else "INFO")
    assert f"was killed, but the state of its task in Airflow is {state or 'none: it was cleared'}. " in text
    assert "keeps running; stop it with ArroyoStopPipelineOperator" in text


@pytest.mark.parametrize("state", ["failed", "running", "deferred", None])
def test_without_a_policy_nothing_is_stopped(bench: Bench, state: str | None) -> None:
    assert not bench.kill(TaskInstance(state), stop=None)
    assert bench.sandbox.requests.total == 0
    assert "keeps running" in bench.lines.only()[1]


def test_a_timeout_stops_the_pipeline_without_asking_airflow(worker: Bench) -> None:
    ti = TaskInstance("running")
    assert worker.kill(ti, is_timeout=True)
    assert ti.questions == []
    assert worker.changes() == [("PATCH", {"stop": "checkpoint"})]


@pytest.mark.parametrize("noted", [{"try_number": 3}, {"try_number": None}, "x"])
def test_the_end_of_another_try_stops_nothing(bench: Bench, noted: Any) -> None:
    """After a clear, the old try is killed late, when the new one may have succeeded."""
    assert not bench.kill(TaskInstance("success", noted=noted))
    assert bench.sandbox.requests.total == 0
    assert "killed, but a later try of its task has begun. " in bench.lines.only()[1]
    assert "keeps running; stop it" in bench.lines.only()[1]


def test_a_later_try_that_waits_is_not_mistaken_for_another_triggerer(triggerer: Bench) -> None:
    assert not triggerer.kill(TaskInstance("deferred", noted={"try_number": 3}))
    text = f"The wait continues in a later try of its task. {triggerer.label} keeps running"
    assert triggerer.lines.only()[1] == text


@pytest.mark.parametrize("state", ["deferred", "failed"])
def test_a_wait_without_a_note_logs_only_what_its_task_state_proves(triggerer: Bench, state: str) -> None:
    assert not triggerer.kill(TaskInstance(state, noted={}), stop=None)
    began = "The wait continues. " if state == "deferred" else "This wait was killed. "
    assert triggerer.lines.only()[1].startswith(f"{began}{triggerer.label} keeps running")


def test_a_task_that_ended_by_itself_stops_nothing(bench: Bench) -> None:
    """Another triggerer's event resumed the task; this wait is killed when the task is done."""
    assert not bench.kill(TaskInstance("success", noted={"try_number": 2, "is_over": True}))
    assert bench.sandbox.requests.total == 0
    assert "killed, but its task had ended by itself. " in bench.lines.only()[1]


@pytest.mark.parametrize("map_index", [-1, None, 0, 7])
def test_a_mapped_task_asks_for_its_own_state(bench: Bench, map_index: int | None) -> None:
    ti = TaskInstance("failed", map_index=map_index)
    assert bench.kill(ti)
    (question,) = ti.questions
    own = {} if map_index in (-1, None) else {"map_index": map_index}
    assert question == {"dag_id": "orders", "task_ids": ["submit"], "run_ids": ["manual__1"], **own}


# -- the current run of the pipeline --------------------------------------------------------------------------------


def _stopped(bench: Bench) -> None:
    bench.sandbox.faults.stop(bench.pipeline_id)
    bench.sandbox.advance(5)


def _stop_requested(bench: Bench) -> None:
    bench.client.patch_pipeline(bench.pipeline_id, stop=StopMode.GRACEFUL)


def _restarted(bench: Bench) -> None:
    bench.client.restart_pipeline(bench.pipeline_id)
    bench.sandbox.advance(5)


def _failed(bench: Bench) -> None:
    bench.sandbox.faults.fail(bench.pipeline_id)
    bench.sandbox.advance(10)


def _resumed_externally(bench: Bench) -> None:
    _stopped(bench)
    bench.client.patch_pipeline(bench.pipeline_id, stop=StopMode.NONE)
    bench.sandbox.advance(5)


@pytest.mark.parametrize(
    "arrange, reason",
    [
        (_stopped, "it no longer runs"),
        (_failed, "it no longer runs"),
        (_stop_requested, "a stop was already requested"),
        (_restarted, "it is now at run 2 of"),
        (_resumed_externally, "it is now at run 2 of"),
    ],
)
def test_another_run_is_left_alone(bench: Bench, arrange: Callable[[Bench], None], reason: str) -> None:
    arrange(bench)
    assert not bench.kill(TaskInstance("failed"))
    assert bench.changes() == []
    level, text = bench.lines.only()
    assert (level, text.startswith(f"{bench.label} is not stopped: {reason}")) == ("WARNING", True)


def test_another_job_of_the_pipeline_is_left_alone(bench: Bench) -> None:
    assert not bench.kill(TaskInstance("failed"), watched=bench.watched_as(id="job_of_old"))
    assert bench.changes() == []
    assert "this task watched run 1 of job_of_old" in bench.lines.only()[1]


def test_a_pipeline_that_was_never_seen_is_left_alone(bench: Bench) -> None:
    assert not bench.kill(TaskInstance("failed"), watched=replace(bench.watched, job=None))
    assert bench.changes() == []
    assert "this task never saw it run" in bench.lines.only()[1]


def test_a_deleted_pipeline_is_logged(bench: Bench) -> None:
    bench.sandbox.faults.delete(bench.pipeline_id)
    assert not bench.kill(TaskInstance("failed"))
    assert bench.changes() == []
    assert bench.lines.only() == ("WARNING", f"{bench.label} is not stopped: it was deleted")


@pytest.mark.parametrize("mode", MODES)
def test_in_finishing_it_is_stopped_immediately_if_the_mode_would_have_no_effect(
    worker: Bench, mode: StopMode
) -> None:
    pipeline_id = worker.client.create_pipeline(name="two sources", query=ONE_ENDS).id
    worker.sandbox.advance(30)
    job = worker.client.get_job(pipeline_id)
    assert job is not None
    assert job.state == "Finishing"
    watched = WatchedRun(pipeline=PipelineRef(pipeline_id=pipeline_id, name="two sources"), job=job)
    assert worker.kill(TaskInstance("failed"), stop=mode, watched=watched)
    sent, how = mode, mode.value
    if mode is not StopMode.IMMEDIATE:
        sent, how = StopMode.IMMEDIATE, f"immediate: Finishing ignores {mode.value}"
    assert worker.changes() == [("PATCH", {"stop": sent.value})]
    assert f"Stop requested ({how}), because its task ended: " in worker.lines.only()[1]
    worker.sandbox.advance(30)
    assert worker.sandbox.state(pipeline_id) in ("Finished", "Stopped")


def test_the_first_run_of_a_job_seen_before_it_was_scheduled_is_stopped(bench: Bench) -> None:
    assert bench.kill(TaskInstance("failed"), watched=bench.watched_as(state="Created", run_id=0))


def test_a_stop_is_not_waited_for(bench: Bench) -> None:
    bench.sandbox.faults.controller_away()
    assert bench.kill(TaskInstance("failed"))
    assert bench.sandbox.state(bench.pipeline_id) == "Running"


# -- the note ----------------------------------------------------------------------------------------------------


def test_the_note_of_a_wait_can_be_read_back(worker: Bench) -> None:
    class Noting(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            self.noted = value

    ti = Noting()
    note_wait(ti, worker.watched)
    assert (ti.noted["try_number"], ti.noted["is_over"]) == (2, False)
    noted = noted_wait(ti)
    assert noted is not None
    assert noted.pipeline == worker.watched.pipeline
    assert noted.job is not None
    assert worker.job is not None
    assert (noted.job.id, noted.job.run_id) == (worker.job.id, worker.job.run_id)
    note_wait(ti, replace(worker.watched, job=None), is_over=True)
    assert (ti.noted["job"], ti.noted["is_over"]) == (None, True)


@pytest.mark.parametrize("before", ["Stopped", "Failed"])
def test_a_pipeline_that_the_task_started_is_stopped_despite_its_old_state(bench: Bench, before: str) -> None:
    client, sandbox, pipeline_id = bench.client, bench.sandbox, bench.pipeline_id
    if before == "Stopped":
        client.patch_pipeline(pipeline_id, stop="checkpoint")
    else:
        sandbox.faults.fail(pipeline_id)
    sandbox.advance(30)
    old = client.get_job(pipeline_id)
    assert old is not None
    assert old.state == before
    if before == "Stopped":
        client.patch_pipeline(pipeline_id, stop="none")
    else:
        client.restart_pipeline(pipeline_id)
    sandbox.requests.clear()
    bench.watched = replace(bench.watched, job=old, awaits_run=True)
    assert bench.kill(TaskInstance("failed"))
    assert bench.changes() == [("PATCH", {"stop": "checkpoint"})]
    sandbox.advance(30)
    now = client.get_job(pipeline_id)
    assert now is not None
    assert now.state == "Stopped"
