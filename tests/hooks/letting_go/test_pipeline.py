"""When a task ends: its pipeline is stopped only if it is still the run that was watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.models import StopMode
from tests.hooks.letting_go.support import Bench, TaskInstance


def _stopped(bench: Bench) -> None:
    bench.sandbox.faults.stop(bench.pipeline_id)
    bench.sandbox.advance(5)


def _asked_to_stop(bench: Bench) -> None:
    bench.client.call(api.patch_pipeline(bench.pipeline_id, stop=StopMode.GRACEFUL))


def _restarted(bench: Bench) -> None:
    bench.client.call(api.restart_pipeline(bench.pipeline_id))
    bench.sandbox.advance(5)


def _failed(bench: Bench) -> None:
    bench.sandbox.faults.fail(bench.pipeline_id)
    bench.sandbox.advance(10)


def _resumed_by_somebody(bench: Bench) -> None:
    _stopped(bench)
    bench.client.call(api.patch_pipeline(bench.pipeline_id, stop=StopMode.NONE))
    bench.sandbox.advance(5)


@pytest.mark.parametrize(
    "arrange, why",
    [
        (_stopped, "it does not run any more"),
        (_failed, "it does not run any more"),
        (_asked_to_stop, "it was asked to stop already"),
        (_restarted, "it is at run 2 of"),
        (_resumed_by_somebody, "it is at run 2 of"),
    ],
)
def test_pipeline_that_is_another_run_now_is_left_alone(
    bench: Bench, arrange: Callable[[Bench], None], why: str
) -> None:
    arrange(bench)
    assert not bench.let_go(TaskInstance("failed"))
    assert bench.changes() == []
    level, text = bench.lines.only()
    assert (level, text.startswith(f"Pipeline 'orders' is not stopped: {why}")) == ("WARNING", True)


def test_another_job_of_the_pipeline_is_left_alone(bench: Bench) -> None:
    assert bench.watched.job is not None
    watched = replace(bench.watched, job=replace(bench.watched.job, id="job_of_old"))
    assert not bench.let_go(TaskInstance("failed"), watched=watched)
    assert bench.changes() == []
    assert "this task watched run 1 of job_of_old" in bench.lines.only()[1]


def test_pipeline_that_was_never_seen_is_left_alone(bench: Bench) -> None:
    assert not bench.let_go(TaskInstance("failed"), watched=replace(bench.watched, job=None))
    assert bench.changes() == []
    assert "this task never saw it run" in bench.lines.only()[1]


def test_pipeline_that_is_gone(bench: Bench) -> None:
    bench.sandbox.faults.delete(bench.pipeline_id)
    assert not bench.let_go(TaskInstance("failed"))
    assert bench.changes() == []
    assert bench.lines.only()[0] == "ERROR"
    assert "did not get through" in bench.lines.only()[1]


def test_first_run_of_what_was_seen_before_it_was_scheduled(bench: Bench) -> None:
    assert bench.watched.job is not None
    watched = replace(bench.watched, job=replace(bench.watched.job, state="Created", run_id=0))
    assert bench.let_go(TaskInstance("failed"), watched=watched)
