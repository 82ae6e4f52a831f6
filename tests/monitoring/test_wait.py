"""How a wait is decided: cases that no recording has."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import T0, job, logged, move, plan, wait

WAITING, REACHED, FAILED = Outcome.WAITING, Outcome.REACHED, Outcome.FAILED


# -- the state before the change ---------------------------------------------------------------------------------


def test_the_old_run_never_counts() -> None:
    rescale = wait("Running", before=job("Running", 1))
    for second in range(0, 600, 10):
        assert rescale.observe(job("Running", 1), T0 + second).outcome is WAITING
    result = rescale.observe(job("Running", 1), T0 + 600)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.is_unchanged


def test_the_old_run_does_not_count_after_another_state_either() -> None:
    restart = wait("Running", before=job("Running", 1))
    restart.observe(job("Restarting", 1), T0 + 0.3)
    assert restart.observe(job("Running", 1), T0 + 0.4).outcome is WAITING
    assert restart.observe(job("Running", 2), T0 + 0.5).outcome is REACHED


def test_a_new_job_counts_its_runs_from_the_beginning() -> None:
    restart = wait("Running", before=job("Stopped", 7, desired=False), stopped_is_final=True)
    assert restart.observe(job("Created", 0, job_id="job_2"), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Running", 1, job_id="job_2"), T0 + 0.5).outcome is REACHED


def test_a_new_job_that_fails_counts_even_where_the_old_one_had_failed() -> None:
    restart = wait("Running", before=job("Failed", 7))
    assert restart.observe(job("Failed", 1, job_id="job_2"), T0 + 0.1).outcome is FAILED


def test_an_old_failure_counts_once_it_has_lasted_for_the_grace_time() -> None:
    restart = wait("Running", before=job("Failed", 1))
    assert restart.observe(job("Failed", 1), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Failed", 1), T0 + 5.0).outcome is WAITING
    assert restart.next_due() == T0 + 5.1
    result = restart.observe(job("Failed", 1), T0 + 5.1)
    assert result.outcome is FAILED
    assert result.is_unchanged


def test_an_old_failure_counts_at_once_when_another_state_was_seen_in_between() -> None:
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Scheduling", 1), T0 + 0.1)
    assert restart.observe(job("Failed", 1), T0 + 0.2).outcome is FAILED


def test_an_old_failing_that_becomes_failed_is_still_the_old_failure() -> None:
    restart = wait("Running", before=job("Failing", 1))
    assert restart.observe(job("Failing", 1), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Failed", 1), T0 + 3).outcome is WAITING
    assert restart.observe(job("Scheduling", 2), T0 + 3.4).outcome is WAITING
    assert restart.observe(job("Running", 2), T0 + 3.6).outcome is REACHED


def test_an_old_failing_that_stays_failed_counts_after_the_grace_time() -> None:
    restart = wait("Running", before=job("Failing", 1))
    restart.observe(job("Failed", 1), T0 + 3)
    assert restart.observe(job("Failed", 1), T0 + 8).outcome is FAILED


def test_stopping_a_failing_pipeline_ends_with_its_failure() -> None:
    stop = wait("Stopped", "Failed", "Finished", before=job("Failing", 1))
    assert stop.observe(job("Failing", 1, desired=False), T0 + 0.1).outcome is WAITING
    assert stop.observe(job("Failing", 1, desired=False), T0 + 5.2).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 6).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 11).outcome is REACHED


def test_stopping_a_pipeline_that_then_fails_ends_at_once() -> None:
    stop = wait("Stopped", "Failed", "Finished", before=job("Running", 1))
    assert stop.observe(job("Failing", 1, desired=False), T0 + 0.1).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 5.1).outcome is REACHED


def test_restarting_a_finished_pipeline_fails_at_once() -> None:
    before = job("Finished", 1)
    assert wait("Running", before=before).observe(before, T0).outcome is Outcome.FINISHED
    assert wait("Finished", before=before).observe(before, T0).outcome is Outcome.FINISHED
    resubmit = wait("Running", before=before, finished_is_success=True)
    assert resubmit.observe(before, T0).outcome is Outcome.FINISHED


def test_stopping_a_finished_pipeline_succeeds_at_once() -> None:
    before = job("Finished", 1)
    stop = wait("Stopped", "Failed", "Finished", before=before)
    assert stop.observe(job("Finished", 1, desired=False), T0).outcome is REACHED


def test_a_pipeline_that_finishes_after_the_change_is_finished() -> None:
    restart = wait("Finished", before=job("Running", 1))
    assert restart.observe(job("Finished", 1), T0 + 0.2).outcome is REACHED


def test_a_clock_behind_that_of_the_request_does_not_extend_the_grace_time() -> None:
    restart = PipelineWait(plan("Running", before=job("Failed", 1)), now=T0 - 3600)
    restart.observe(job("Failed", 1), T0 - 3600)
    assert restart.observe(job("Failed", 1), T0 - 3595).outcome is FAILED


# -- stable_for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "between",
    [job("Recovering", 1), job("Running", 1, desired=False), None],
    ids=["another state", "stop requested", "no job"],
)
def test_anything_else_in_between_resets_stable_for(between: Any) -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe(between, T0 + 1)
    stable.observe(job(), T0 + 1.1)
    assert stable.observe(job(), T0 + 3).outcome is WAITING
    assert stable.observe(job(), T0 + 3.2).outcome is REACHED


@pytest.mark.parametrize("new", [job("Running", 2), job(job_id="job_2")], ids=["run", "job"])
def test_a_new_run_or_job_resets_stable_for(new: Job) -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe(new, T0 + 1.1)
    assert stable.observe(new, T0 + 3).outcome is WAITING
    assert stable.observe(new, T0 + 3.2).outcome is REACHED


def test_a_clock_that_steps_back_delays_no_success() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    assert stable.observe(job(), T0 - 3600).outcome is WAITING
    assert stable.observe(job(), T0 - 3598.1).outcome is WAITING
    assert stable.observe(job(), T0 - 3598).outcome is REACHED


def test_a_clock_that_steps_back_silences_no_heartbeat() -> None:
    stable = wait("Finished", heartbeat=300)
    stable.observe(job(), T0)
    stable.observe(job(), T0 - 3600)
    stable.messages()
    stable.observe(job(), T0 - 3300)
    assert logged(stable) == [
        "Still Running after 5 min: orders_per_minute (run 1); waiting for Finished, 1 h 5 min left"
    ]


def test_time_without_polls_is_not_a_success() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    assert stable.tick(T0 + 10).outcome is WAITING
    assert stable.observe(job(), T0 + 11).outcome is REACHED


def test_unknown_states_are_progress() -> None:
    for targets in ("Running", "Stopped", "Failed"):
        assert wait(targets).observe(job("Hibernating"), T0).outcome is WAITING


# -- terminal states without a change -----------------------------------------------------------------


def test_a_wait_for_a_failure_ends_with_the_failure() -> None:
    sensor = wait("Failed")
    assert sensor.observe(job("Failing"), T0).outcome is WAITING
    assert sensor.observe(job("Failed"), T0 + 5).outcome is REACHED
    assert wait("Failing").observe(job("Failing"), T0).outcome is REACHED
    assert wait("Failing").observe(job("Failed"), T0).outcome is FAILED


def test_a_wait_for_stopped_ignores_a_pipeline_that_is_being_resumed() -> None:
    """The old state shows for another half a second. A stop during the wait counts, however soon it is resumed."""
    stopped = wait("Stopped")
    seen = [("Stopped", 1), ("Stopped", 1), ("Scheduling", 2), ("Running", 2), ("Stopped", 2)]
    outcomes = [stopped.observe(job(*one), T0 + at).outcome for at, one in enumerate(seen)]
    assert outcomes == [WAITING] * 4 + [REACHED]
    withdrawn = wait("Stopped")
    assert withdrawn.observe(job("Stopped", 1), T0).outcome is WAITING
    assert withdrawn.observe(job("Stopped", 1, desired=False), T0 + 1).outcome is REACHED


def test_a_stopped_pipeline_ends_only_a_wait_whose_task_started_it() -> None:
    assert wait("Running").observe(job("Stopped", desired=False), T0).outcome is WAITING
    submit = wait("Running", stopped_is_final=True)
    assert submit.observe(job("Stopped", desired=True), T0).outcome is WAITING
    assert submit.observe(job("Stopped", desired=False), T0 + 1).outcome is Outcome.STOPPED


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_poll_at_the_deadline_still_counts() -> None:
    assert wait("Running").observe(job(), T0 + 600).outcome is REACHED
    assert wait("Running").observe(job("Created", 0), T0 + 600).outcome is Outcome.TIMED_OUT


def test_a_limit_from_outside_is_named_in_the_result() -> None:
    sensor = wait("Running")
    sensor.observe(job("Created", 0), T0)
    result = sensor.expire(T0 + 5, "execution_timeout")
    assert (result.outcome, result.deadline_argument) == (Outcome.TIMED_OUT, "execution_timeout")
    assert sensor.observe(job(), T0 + 6) == result
    named = wait("Running", deadline_argument="startup_timeout")
    assert named.tick(T0 + 600).deadline_argument == "startup_timeout"


def test_restarts_count_even_if_the_first_run_was_never_seen() -> None:
    created = wait("Running", stable_for=2)
    created.observe(job("Created", 0), T0)
    assert created.observe(job("Failed", 21), T0 + 10).restarts == 20
    restarted = wait("Running", before=job("Failed", 3))
    restarted.observe(job("Failed", 3), T0 + 0.1)
    assert restarted.observe(job("Failed", 24), T0 + 9).restarts == 20
    first = wait("Running", before=job("Failed", 3))
    first.observe(job("Failed", 3), T0 + 0.1)
    assert first.observe(job("Running", 4), T0 + 1).restarts == 0


# -- from one process to the next ---------------------------------------------------------------------------------


def test_the_next_process_knows_that_another_state_was_seen() -> None:
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Scheduling", 1), T0 + 0.1)
    assert move(restart, T0 + 0.2).observe(job("Failed", 1), T0 + 0.2).outcome is FAILED


def test_a_different_state_proves_that_the_baseline_was_left() -> None:
    stop = wait("Stopped", before=job("Running", 1))
    stop.observe(job("CheckpointStopping", 1, desired=False), T0 + 0.2)
    moved = move(stop, T0 + 1, left_baseline=None)
    assert moved.observe(job("Stopped", 1, desired=False), T0 + 1).outcome is REACHED
    restart = wait("Running", before=job("Running", 1))
    restart.observe(job("Failed", 1), T0)
    without = {key: value for key, value in restart.progress.to_dict().items() if key != "left_baseline"}
    moved = PipelineWait(restart.plan, now=T0 + 1, progress=without)
    assert moved.observe(job("Failed", 1), T0 + 1).outcome is FAILED


def test_a_slow_clock_delays_by_at_most_stable_for() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    moved = move(stable, T0 - 3600)
    assert moved.observe(job(), T0 - 3599).outcome is WAITING
    assert moved.observe(job(), T0 - 3598).outcome is REACHED


@pytest.mark.parametrize(
    "damage",
    [
        {"failing_since": float("nan")},
        {"held_since": float("nan")},
        {"held_since": "yesterday"},
        {"held_since": True},
        {"responding_since": float("inf")},
        {"left_baseline": "false"},
        {"restarts": float("inf")},
        {"failures": "many"},
        {"job": {"state": "Running"}},
        {"job": "Running"},
        {"last_error": "refused"},
        {"started_at": [1]},
    ],
    ids=str,
)
def test_damaged_progress_is_ignored(damage: dict[str, Any]) -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    moved = move(stable, T0 + 10, **damage)
    assert moved.observe(job(), T0 + 10).outcome is WAITING
    assert moved.observe(job(), T0 + 12).outcome is REACHED
    assert logged(moved) == ["Running: orders_per_minute (run 1)"]


@pytest.mark.parametrize("progress", [[1], "old", 7, {"unknown": 1}, {"job": None}], ids=str)
def test_invalid_progress_starts_the_wait_again(progress: Any) -> None:
    begun = PipelineWait(plan("Running", stable_for=2), now=T0, progress=progress)
    result = begun.observe(job(), T0 + 1)
    assert (result.outcome, result.waited_seconds) == (WAITING, 1)


def test_progress_of_another_version_may_lack_fields_and_have_unknown_ones() -> None:
    begun = {"started_at": T0 - 20, "now": T0, "responding_since": T0, "logged_at": T0, "moon_phase": "full"}
    moved = PipelineWait(plan("Running"), now=T0, progress=begun)
    assert moved.tick(T0).waited_seconds == 20
