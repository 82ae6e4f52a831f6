"""The judge of waits, case by case, where a recording has none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoError,
    ArroyoResponseError,
    ArroyoTlsError,
)
from airflow_provider_arroyo.monitoring.verdict import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import GONE, REFUSED, T0, api_error, job, plan, said, wait

WAITING, REACHED, FAILED = Outcome.WAITING, Outcome.REACHED, Outcome.FAILED


# -- what stood before the change ---------------------------------------------------------------------------------


def test_the_old_run_is_never_the_answer_however_long_it_stands() -> None:
    rescale = wait("Running", before=job("Running", 1))
    for second in range(0, 600, 10):
        assert rescale.observe(job("Running", 1), T0 + second).outcome is WAITING
    verdict = rescale.observe(job("Running", 1), T0 + 600)
    assert verdict.outcome is Outcome.TIMED_OUT
    assert verdict.unchanged


def test_the_old_run_is_not_the_answer_after_another_state_either() -> None:
    restart = wait("Running", before=job("Running", 1))
    restart.observe(job("Restarting", 1), T0 + 0.3)
    assert restart.observe(job("Running", 1), T0 + 0.4).outcome is WAITING
    assert restart.observe(job("Running", 2), T0 + 0.5).outcome is REACHED


def test_a_new_job_counts_its_runs_from_the_beginning() -> None:
    restart = wait("Running", before=job("Stopped", 7, desired=False), stopped_is_final=True)
    assert restart.observe(job("Created", 0, job_id="job_2"), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Running", 1, job_id="job_2"), T0 + 0.5).outcome is REACHED


def test_a_new_job_that_fails_is_news_even_where_the_old_one_had_failed() -> None:
    restart = wait("Running", before=job("Failed", 7))
    assert restart.observe(job("Failed", 1, job_id="job_2"), T0 + 0.1).outcome is FAILED


def test_an_old_failure_is_believed_when_it_has_stood_for_the_grace_time() -> None:
    restart = wait("Running", before=job("Failed", 1))
    assert restart.observe(job("Failed", 1), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Failed", 1), T0 + 5.0).outcome is WAITING
    assert restart.next_due() == T0 + 5.1
    verdict = restart.observe(job("Failed", 1), T0 + 5.1)
    assert verdict.outcome is FAILED
    assert verdict.unchanged


def test_an_old_failure_is_believed_at_once_when_something_happened_in_between() -> None:
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Scheduling", 1), T0 + 0.1)
    assert restart.observe(job("Failed", 1), T0 + 0.2).outcome is FAILED


def test_the_grace_time_counts_from_the_first_answer_after_an_outage() -> None:
    """A server that was away has had no time to do what was asked of it."""
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Failed", 1), T0 + 0.1)
    restart.observe_error(REFUSED, T0 + 1)
    assert restart.observe(job("Failed", 1), T0 + 60).outcome is WAITING
    assert restart.next_due() == T0 + 65
    assert restart.observe(job("Failed", 1), T0 + 65).outcome is FAILED


def test_an_old_failing_that_ends_in_failed_is_still_the_old_failure() -> None:
    restart = wait("Running", before=job("Failing", 1))
    assert restart.observe(job("Failing", 1), T0 + 0.1).outcome is WAITING
    assert restart.observe(job("Failed", 1), T0 + 3).outcome is WAITING
    assert restart.observe(job("Scheduling", 2), T0 + 3.4).outcome is WAITING
    assert restart.observe(job("Running", 2), T0 + 3.6).outcome is REACHED


def test_an_old_failing_that_stays_failed_is_the_answer_after_the_grace_time() -> None:
    restart = wait("Running", before=job("Failing", 1))
    restart.observe(job("Failed", 1), T0 + 3)
    assert restart.observe(job("Failed", 1), T0 + 8).outcome is FAILED


def test_stopping_what_was_failing_ends_with_its_failure() -> None:
    stop = wait("Stopped", "Failed", "Finished", before=job("Failing", 1))
    assert stop.observe(job("Failing", 1, desired=False), T0 + 0.1).outcome is WAITING
    assert stop.observe(job("Failing", 1, desired=False), T0 + 5.2).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 6).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 11).outcome is REACHED


def test_stopping_what_runs_and_fails_meanwhile_ends_at_once() -> None:
    stop = wait("Stopped", "Failed", "Finished", before=job("Running", 1))
    assert stop.observe(job("Failing", 1, desired=False), T0 + 0.1).outcome is WAITING
    assert stop.observe(job("Failed", 1, desired=False), T0 + 5.1).outcome is REACHED


def test_a_finished_pipeline_answers_a_restart_at_once_and_never_well() -> None:
    before = job("Finished", 1)
    assert wait("Running", before=before).observe(before, T0).outcome is Outcome.FINISHED
    assert wait("Finished", before=before).observe(before, T0).outcome is Outcome.FINISHED
    resubmit = wait("Running", before=before, finished_is_success=True)
    assert resubmit.observe(before, T0).outcome is Outcome.FINISHED


def test_a_finished_pipeline_is_at_rest_for_who_wants_that() -> None:
    before = job("Finished", 1)
    stop = wait("Stopped", "Failed", "Finished", before=before)
    assert stop.observe(job("Finished", 1, desired=False), T0).outcome is REACHED


def test_what_finished_after_it_was_asked_is_finished() -> None:
    restart = wait("Finished", before=job("Running", 1))
    assert restart.observe(job("Finished", 1), T0 + 0.2).outcome is REACHED


def test_a_clock_behind_the_one_that_asked_does_not_stretch_the_grace_time() -> None:
    restart = PipelineWait(plan("Running", before=job("Failed", 1)), now=T0 - 3600)
    restart.observe(job("Failed", 1), T0 - 3600)
    assert restart.observe(job("Failed", 1), T0 - 3595).outcome is FAILED


# -- how long it lasted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "between",
    [job("Recovering", 1), job("Running", 2), job("Running", 1, desired=False), job(job_id="job_2"), None],
    ids=["another state", "another run", "asked to stop", "another job", "no job"],
)
def test_what_came_between_begins_the_wait_for_stability_anew(between: Any) -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe(between, T0 + 1)
    stable.observe(job(), T0 + 1.1)
    assert stable.observe(job(), T0 + 3).outcome is WAITING
    assert stable.observe(job(), T0 + 3.2).outcome is REACHED


def test_an_outage_does_not_begin_a_long_wait_for_stability_anew() -> None:
    stable = wait("Running", stable_for=60)
    stable.observe(job(), T0)
    stable.observe_error(REFUSED, T0 + 10)
    assert stable.observe(job(), T0 + 58).outcome is WAITING
    # A moment after the first answer, since that may be what stood before the server went away.
    assert stable.observe(job(), T0 + 60).outcome is WAITING
    assert stable.observe(job(), T0 + 63).outcome is REACHED


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
    stable.notes()
    stable.observe(job(), T0 - 3300)
    assert said(stable) == ["P is still Running after 5 min (run 1); waiting for Finished, 1 h 5 min left"]


def test_time_alone_is_no_success() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    assert stable.tick(T0 + 10).outcome is WAITING
    assert stable.observe(job(), T0 + 11).outcome is REACHED


def test_states_that_nobody_knows_are_progress() -> None:
    for targets in ("Running", "Stopped", "Failed"):
        assert wait(targets).observe(job("Hibernating"), T0).outcome is WAITING


# -- what a wait without a change makes of an end -----------------------------------------------------------------


def test_who_wants_the_failure_waits_for_it() -> None:
    sensor = wait("Failed")
    assert sensor.observe(job("Failing"), T0).outcome is WAITING
    assert sensor.observe(job("Failed"), T0 + 5).outcome is REACHED
    assert wait("Failing").observe(job("Failing"), T0).outcome is REACHED
    assert wait("Failing").observe(job("Failed"), T0).outcome is FAILED


def test_a_stopped_pipeline_ends_the_wait_of_who_started_it_and_of_nobody_else() -> None:
    assert wait("Running").observe(job("Stopped", desired=False), T0).outcome is WAITING
    submit = wait("Running", stopped_is_final=True)
    assert submit.observe(job("Stopped", desired=True), T0).outcome is WAITING
    assert submit.observe(job("Stopped", desired=False), T0 + 1).outcome is Outcome.STOPPED


# -- looks that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        api_error(400),
        api_error(401, ArroyoAuthError),
        api_error(403, ArroyoAuthError),
        api_error(405),
        api_error(409),
        api_error(422),
        ArroyoTlsError("unknown CA"),
        ArroyoError("no idea"),
    ],
    ids=str,
)
def test_what_no_waiting_mends_ends_the_wait_at_once(error: ArroyoError) -> None:
    sensor = wait("Running")
    sensor.observe(job("Created", 0), T0)
    verdict = sensor.observe_error(error, T0 + 1)
    assert verdict.outcome is Outcome.ERROR
    assert verdict.error is error


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_waited_out(status: int) -> None:
    sensor = wait("Running")
    assert sensor.observe_error(api_error(status), T0 + 1).outcome is WAITING
    assert sensor.observe(job(), T0 + 2).outcome is REACHED


def test_not_arroyo_is_an_error_unless_arroyo_was_there_before() -> None:
    page = api_error(200, ArroyoResponseError)
    assert wait("Running").observe_error(page, T0).outcome is Outcome.ERROR
    sensor = wait("Running")
    sensor.observe(job("Created", 0), T0)
    assert sensor.observe_error(page, T0 + 1).outcome is WAITING
    told = wait("Running").observe_error(page, T0 + 1, answered_at=T0)
    assert told.outcome is WAITING


def test_gone_and_never_there_are_two_things() -> None:
    assert wait("Running").observe_error(GONE, T0).outcome is Outcome.MISSING
    assert wait("Running", before=job()).observe_error(GONE, T0).outcome is Outcome.DELETED
    sensor = wait("Running")
    sensor.observe(job("Created", 0), T0)
    assert sensor.observe_error(GONE, T0 + 1).outcome is Outcome.DELETED


def test_an_outage_counts_from_the_last_answer() -> None:
    sensor = wait("Running", outage_tolerance=60)
    sensor.observe(job("Created", 0), T0 + 10)
    verdict = sensor.observe_error(REFUSED, T0 + 20)
    assert (verdict.unreachable_since, verdict.unreachable_seconds) == (T0 + 10, 10)
    assert sensor.next_due() == T0 + 70
    assert sensor.tick(T0 + 69.9).outcome is WAITING
    assert sensor.tick(T0 + 70).outcome is Outcome.UNREACHABLE


def test_an_answer_that_was_not_brought_counts_as_one() -> None:
    """A feed brings looks that show something new, and those that are due; the others were answers too."""
    sensor = wait("Running", outage_tolerance=60)
    sensor.observe(job("Created", 0), T0)
    verdict = sensor.observe_error(REFUSED, T0 + 200, answered_at=T0 + 199)
    assert verdict.outcome is WAITING
    assert verdict.unreachable_since == T0 + 199
    sensor.observe_error(REFUSED, T0 + 230, answered_at=T0 + 229)
    assert sensor.tick(T0 + 259).outcome is Outcome.UNREACHABLE


def test_an_outage_before_the_first_answer_counts_from_the_beginning() -> None:
    sensor = wait("Running", outage_tolerance=60)
    sensor.observe_error(REFUSED, T0 + 15)
    verdict = sensor.observe_error(REFUSED, T0 + 60)
    assert verdict.outcome is Outcome.UNREACHABLE
    assert verdict.unreachable_since == T0
    assert verdict.error is REFUSED


def test_when_both_are_up_the_deadline_is_named() -> None:
    sensor = wait("Running", outage_tolerance=600)
    sensor.observe_error(REFUSED, T0)
    verdict = sensor.observe_error(REFUSED, T0 + 600)
    assert verdict.outcome is Outcome.TIMED_OUT
    assert verdict.unreachable_seconds == 600


def test_a_look_at_the_deadline_still_counts() -> None:
    assert wait("Running").observe(job(), T0 + 600).outcome is REACHED
    assert wait("Running").observe(job("Created", 0), T0 + 600).outcome is Outcome.TIMED_OUT


def test_a_limit_from_outside_is_named_in_the_verdict() -> None:
    sensor = wait("Running")
    sensor.observe(job("Created", 0), T0)
    verdict = sensor.expire(T0 + 5, "execution_timeout")
    assert (verdict.outcome, verdict.limit) == (Outcome.TIMED_OUT, "execution_timeout")
    assert sensor.observe(job(), T0 + 6) == verdict


# -- from one process to the next ---------------------------------------------------------------------------------


def move(waiting: PipelineWait, now: float, **changes: Any) -> PipelineWait:
    progress = {**json.loads(json.dumps(waiting.progress())), **changes}
    return PipelineWait(waiting.plan, now=now, label="P", progress=progress)


def test_an_outage_goes_on_in_the_next_process_with_its_error() -> None:
    sensor = wait("Running", outage_tolerance=60)
    sensor.observe(job("Created", 0), T0)
    sensor.observe_error(api_error(503), T0 + 1)
    moved = move(sensor, T0 + 3)
    assert moved.tick(T0 + 61.9).outcome is WAITING, "two seconds in which nobody looked count"
    verdict = moved.tick(T0 + 62)
    assert verdict.outcome is Outcome.UNREACHABLE
    assert isinstance(verdict.error, ArroyoApiError)
    assert verdict.error.status == 503


@pytest.mark.parametrize("away", [False, True], ids=["well", "in an outage"])
def test_time_in_which_nobody_looked_is_no_outage(away: bool) -> None:
    """A triggerer is started again after hours, and Arroyo is away for just that moment."""
    sensor = wait("Stopped", deadline=T0 + 100_000, outage_tolerance=60)
    sensor.observe(job(), T0)
    if away:
        sensor.observe_error(api_error(503), T0 + 10)
    moved = move(sensor, T0 + 7200)
    assert moved.tick(T0 + 7202).outcome is WAITING
    assert moved.observe_error(api_error(503), T0 + 7212).outcome is WAITING
    assert moved.observe_error(api_error(503), T0 + 7240).outcome is WAITING
    assert moved.observe_error(api_error(503), T0 + 7261).outcome is Outcome.UNREACHABLE


def test_what_shows_first_after_a_look_that_was_tried_again_may_be_what_stood_before() -> None:
    """A server that is started again within one look, whose API is back before its controller."""
    started = wait("Running", stable_for=2)
    started.observe(job(), T0)
    assert started.observe(job(), T0 + 8, after_trouble=True).outcome is WAITING
    assert started.next_due() == T0 + 10
    assert started.observe(job(), T0 + 9.9).outcome is WAITING
    assert started.observe(job(), T0 + 10).outcome is REACHED
    restarted = wait("Running", before=job("Failed", 1))
    restarted.observe(job("Failed", 1), T0 + 0.1)
    assert restarted.observe(job("Failed", 1), T0 + 8, after_trouble=True).outcome is WAITING
    assert restarted.observe(job("Scheduling", 2), T0 + 9).outcome is WAITING


def test_restarts_count_that_nobody_saw_the_first_run_before() -> None:
    made = wait("Running", stable_for=2)
    made.observe(job("Created", 0), T0)
    assert made.observe(job("Failed", 21), T0 + 10).restarts == 20
    again = wait("Running", before=job("Failed", 3))
    again.observe(job("Failed", 3), T0 + 0.1)
    assert again.observe(job("Failed", 24), T0 + 9).restarts == 20
    first = wait("Running", before=job("Failed", 3))
    first.observe(job("Failed", 3), T0 + 0.1)
    assert first.observe(job("Running", 4), T0 + 1).restarts == 0


def test_not_arroyo_is_an_outage_where_an_earlier_process_had_its_answers() -> None:
    page = ArroyoResponseError("a page", status=200, method="GET", path="/x")
    plan = wait("Running").plan
    assert PipelineWait(plan, now=T0).observe_error(page, T0 + 1).outcome is Outcome.ERROR
    assert PipelineWait(plan, now=T0, has_answered=True).observe_error(page, T0 + 1).outcome is WAITING


def test_the_next_process_knows_that_something_had_happened() -> None:
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Scheduling", 1), T0 + 0.1)
    assert move(restart, T0 + 0.2).observe(job("Failed", 1), T0 + 0.2).outcome is FAILED


def test_a_clock_that_is_behind_delays_by_no_more_than_is_waited_for_anyway() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    moved = move(stable, T0 - 3600)
    assert moved.observe(job(), T0 - 3599).outcome is WAITING
    assert moved.observe(job(), T0 - 3598).outcome is REACHED


@pytest.mark.parametrize(
    "damage",
    [
        {"held_since": float("nan")},
        {"held_since": "yesterday"},
        {"held_since": True},
        {"answers_since": float("inf")},
        {"left_baseline": "false"},
        {"restarts": float("inf")},
        {"job": {"state": "Running"}},
        {"job": "Running"},
        {"error": "refused"},
        {"started_at": [1]},
    ],
    ids=str,
)
def test_damaged_progress_is_as_if_nothing_had_been_seen(damage: dict[str, Any]) -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    moved = move(stable, T0 + 10, **damage)
    assert moved.observe(job(), T0 + 10).outcome is WAITING
    assert moved.observe(job(), T0 + 12).outcome is REACHED
    assert said(moved) == ["P is Running (run 1)"]


@pytest.mark.parametrize("progress", [[1], "old", 7, {"unknown": 1}, {"job": None}], ids=str)
def test_what_is_no_progress_at_all_begins_anew(progress: Any) -> None:
    begun = PipelineWait(plan("Running", stable_for=2), now=T0, progress=progress)
    verdict = begun.observe(job(), T0 + 1)
    assert (verdict.outcome, verdict.waited_seconds) == (WAITING, 1)


def test_progress_of_an_older_version_is_read_as_far_as_it_goes() -> None:
    older = {"started_at": T0 - 20, "job": None, "state_since": 0.0, "looked_at": T0 - 1}
    moved = PipelineWait(plan("Running"), now=T0, progress=older)
    assert moved.tick(T0).waited_seconds == 20


def test_a_state_that_a_lost_note_would_hide_is_still_news() -> None:
    """Without ``left_baseline`` in the progress, the state itself shows that the baseline was left."""
    stop = wait("Stopped", before=job("Running", 1))
    stop.observe(job("CheckpointStopping", 1, desired=False), T0 + 0.2)
    moved = move(stop, T0 + 1, left_baseline=None)
    assert moved.observe(job("Stopped", 1, desired=False), T0 + 1).outcome is REACHED
    restart = wait("Running", before=job("Running", 1))
    restart.observe(job("Failed", 1), T0)
    damaged = {key: value for key, value in restart.progress().items() if key != "left_baseline"}
    moved = PipelineWait(restart.plan, now=T0 + 1, progress=damaged)
    assert moved.observe(job("Failed", 1), T0 + 1).outcome is FAILED
