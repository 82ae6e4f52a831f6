"""What ``Running`` must prove: a checkpoint of its run, few restarts. Also ``Finishing``, and outdated responses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.details import Checkpoint, Span
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.checkpoints import SETTLES_SECONDS, pause_seconds
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import GONE, REFUSED, T0, job, logged, move, plan, wait
from tests.monitoring.wait_histories import Event, histories, plans, show, without_old

WAITING, REACHED, NO_CHECKPOINT = Outcome.WAITING, Outcome.REACHED, Outcome.NO_CHECKPOINT
SETTLED = SETTLES_SECONDS


def checkpoint(epoch: int, *, finished: bool = True) -> Checkpoint:
    return Checkpoint(epoch=epoch, start_time_micros=epoch, finish_time_micros=epoch if finished else None)


def read(wait: PipelineWait, now: float, *epochs: Checkpoint) -> WaitResult:
    """Give the wait the checkpoints of its job, if it wants them now."""
    assert wait.progress.job is not None
    due = wait.details_due()
    assert due is not None
    assert due <= now
    return wait.observe_details(wait.progress.job, Reading(epochs), now, sent_at=now)


# -- the proof of life --------------------------------------------------------------------------------------------


def test_a_finished_checkpoint_of_the_first_run_is_sufficient() -> None:
    submit = wait(until_checkpoint=True, stable_for=2)
    assert submit.observe(job("Scheduling"), T0).outcome is WAITING
    assert submit.details_due() is None
    assert submit.observe(job(), T0 + 1).outcome is WAITING
    # Nothing is read before the state has lasted for stable_for.
    assert submit.details_due() == T0 + 3
    assert submit.observe(job(), T0 + 3).outcome is WAITING
    assert read(submit, T0 + 3, checkpoint(1, finished=False)).outcome is WAITING
    assert submit.details_due() == T0 + 4
    assert submit.next_due() > T0 + 4
    result = read(submit, T0 + 4, checkpoint(1))
    assert (result.outcome, result.lacks_checkpoint) == (REACHED, False)
    assert logged(submit)[-1] == "Checkpoint 1 finished: orders_per_minute (run 1)"


def test_the_checkpoints_of_earlier_runs_prove_nothing() -> None:
    restart = wait(until_checkpoint=True, before=job("Failed", 1))
    restart.observe(job("Failed", 1), T0)
    assert restart.details_due() is None, "the old state needs no proof"
    restart.observe(job("Scheduling", 2), T0 + 0.3)
    # A checkpoint that is finished when the run is first seen preceded it.
    assert (
        read(restart, T0 + 0.3, checkpoint(6), checkpoint(7), checkpoint(8, finished=False)).outcome
        is WAITING
    )
    restart.observe(job("Running", 2), T0 + 1.3)
    assert read(restart, T0 + 1.3, checkpoint(7), checkpoint(8, finished=False)).outcome is WAITING
    assert read(restart, T0 + 2.3, checkpoint(7), checkpoint(8)).outcome is REACHED


def test_a_checkpoint_that_the_run_before_wrote_and_this_one_commits_proves_nothing() -> None:
    """The sinks did not commit it before the failure. Its sources may be away."""
    written = replace(checkpoint(8, finished=False), events=(Span("WritingMetadata", 8, "", 9),))
    recovering = wait(until_checkpoint=True, before=job("Running", 1))
    recovering.observe(job("Scheduling", 2), T0)
    assert read(recovering, T0, checkpoint(7), written).outcome is WAITING
    recovering.observe(job("Running", 2), T0 + 1)
    assert read(recovering, T0 + 1, checkpoint(7), checkpoint(8)).outcome is WAITING
    assert read(recovering, T0 + 2, checkpoint(8), checkpoint(9)).outcome is REACHED


def test_a_new_run_needs_a_checkpoint_of_its_own() -> None:
    flapping = wait(until_checkpoint=True, stable_for=2)
    flapping.observe(job(), T0)
    flapping.observe(job("Recovering"), T0 + 1)
    flapping.observe(job("Running", 2), T0 + 2)
    assert read(flapping, T0 + 2, checkpoint(1)).outcome is WAITING
    flapping.observe(job("Running", 2), T0 + 4)
    assert read(flapping, T0 + 4, checkpoint(1)).outcome is WAITING
    assert read(flapping, T0 + 5, checkpoint(1), checkpoint(2)).outcome is REACHED


def test_checkpoints_of_a_run_that_is_over_are_ignored() -> None:
    flapping = wait(until_checkpoint=True)
    flapping.observe(job(), T0)
    asked = flapping.progress.job
    assert asked is not None
    flapping.observe(job("Running", 2), T0 + 0.1)
    assert flapping.observe_details(asked, Reading([checkpoint(9)]), T0 + 0.2, sent_at=T0).outcome is WAITING
    assert read(flapping, T0 + 0.2, checkpoint(9)).outcome is WAITING


def test_the_proof_is_known_to_the_next_process() -> None:
    submit = wait(until_checkpoint=True, stable_for=2)
    submit.observe(job("Running", 3), T0)
    read(submit, T0, checkpoint(4))
    submit = move(submit, T0 + 0.1)
    submit.observe(job("Running", 3), T0 + 2.1)
    assert read(submit, T0 + 2.1, checkpoint(5)).outcome is REACHED


def test_a_checkpoint_before_stable_for_leaves_only_stable_for() -> None:
    submit = wait(until_checkpoint=True, stable_for=2)
    submit.observe(job(), T0)
    asked = submit.progress.job
    assert asked is not None
    assert submit.observe_details(asked, Reading([checkpoint(1)]), T0 + 1, sent_at=T0).outcome is WAITING
    assert (submit.details_due(), submit.next_due()) == (None, T0 + 2)
    assert submit.observe(job(), T0 + 2).outcome is REACHED


def test_checkpoints_are_read_less_and_less_often() -> None:
    submit = wait(until_checkpoint=True)
    submit.observe(job(), T0)
    reads, now = 0, T0
    while now < T0 + 590:
        now = submit.details_due() or 0
        read(submit, now)
        reads += 1
    assert reads <= 100
    assert [pause_seconds(seconds) for seconds in (0, 9, 50, 3600)] == [1, 1, 5, 10]


def test_without_until_checkpoint_no_checkpoint_is_read() -> None:
    sensor = wait(stable_for=60)
    sensor.observe(job("Running", 3), T0)
    sensor.observe(job("Finishing", 3), T0 + 30)
    assert sensor.details_due() is None


def test_unreadable_checkpoints_do_not_end_a_wait_and_are_logged_once() -> None:
    submit = wait(until_checkpoint=True)
    submit.observe(job(), T0)
    asked = submit.progress.job
    assert asked is not None
    submit.messages()
    for second in range(3):
        assert submit.observe_details(asked, REFUSED, T0 + second, sent_at=T0 + second).outcome is WAITING
    assert logged(submit) == ["Checkpoints cannot be read, retrying: orders_per_minute: Connection refused"]
    result = submit.tick(T0 + 600)
    assert (result.outcome, result.details_error) == (Outcome.TIMED_OUT, REFUSED)
    assert submit.observe_details(asked, Reading([checkpoint(1)]), T0, sent_at=T0).outcome is not REACHED


def test_checkpoints_are_not_read_while_polls_fail() -> None:
    submit = wait(until_checkpoint=True)
    submit.observe(job(), T0)
    submit.observe_error(REFUSED, T0 + 1)
    assert submit.details_due() is None


# -- Finishing ----------------------------------------------------------------------------------------------------


def test_finishing_counts_as_running_for_stable_for() -> None:
    for targets in (("Running",), ("Running", "Stopped")):
        sensor = wait(*targets, stable_for=2)
        sensor.observe(job(), T0)
        sensor.observe(job("Finishing"), T0 + 0.2)
        assert sensor.next_due() == T0 + 2
        result = sensor.observe(job("Finishing"), T0 + 2)
        assert result.outcome is REACHED


@pytest.mark.parametrize(
    "targets, shown",
    [
        (["Finished"], [job("Finishing")]),
        (["Stopped"], [job("Finishing")]),
        (["Running"], [job("Finishing", desired=False)]),
        (["Running"], [replace(job("Running"), running_desired=None)]),
        # A stop that was requested and withdrawn resets the time, as in Running.
        (["Running"], [job("Finishing"), job("Finishing", desired=False), job("Finishing")]),
        (["Running"], [job(), job("Finishing", 2)]),
    ],
)
def test_finishing_is_progress_towards_any_other_state(targets: Sequence[str], shown: Sequence[Job]) -> None:
    sensor = wait(*targets, stable_for=2)
    for number, seen in enumerate(shown):
        assert sensor.observe(seen, T0 + 1.9 * number).outcome is WAITING
    assert sensor.observe(shown[-1], T0 + 1.9 * len(shown)).outcome is WAITING


def finishing(**more: Any) -> PipelineWait:
    submit = wait(until_checkpoint=True, stable_for=2, finished_is_success=True, **more)
    submit.observe(job(), T0)
    submit.observe(job("Finishing"), T0 + 0.2)
    return submit


def test_finishing_without_a_checkpoint_of_its_run_fails_at_once() -> None:
    submit = finishing()
    assert submit.details_due() == T0 + 0.2 + SETTLED
    assert read(submit, T0 + 0.2 + SETTLED, checkpoint(1, finished=False)).outcome is WAITING
    # A reading counts for a state that was seen at that time.
    assert submit.next_due() == T0 + 0.2 + SETTLED
    assert submit.observe(job("Finishing"), T0 + 0.8).outcome is NO_CHECKPOINT


def test_finishing_after_a_checkpoint_of_its_run_is_a_success() -> None:
    submit = finishing()
    assert read(submit, T0 + 1, checkpoint(1)).outcome is WAITING
    assert submit.observe(job("Finishing"), T0 + 2).outcome is REACHED


def test_finished_succeeds_without_a_checkpoint() -> None:
    submit = finishing()
    assert submit.observe(job("Finished"), T0 + 0.3).outcome is REACHED


def test_a_stop_of_finishing_ends_after_the_grace_time() -> None:
    targets = ("Stopped", "Finished", "Failed")
    stop = wait(*targets, before=job(), finishing_is_final=True)
    stop.observe(job("Finishing", desired=False), T0 + 0.3)
    assert stop.next_due() == T0 + 5.3
    assert stop.observe(job("Finishing", desired=False), T0 + 5.2).outcome is WAITING
    assert stop.observe(job("Finishing", desired=False), T0 + 5.3).outcome is NO_CHECKPOINT
    ends = wait(*targets, before=job(), finishing_is_final=True)
    ends.observe(job("Finishing", desired=False), T0 + 0.3)
    assert ends.observe(job("Finished", desired=False), T0 + 2).outcome is REACHED
    immediate = wait(*targets, before=job("Finishing"))
    immediate.observe(job("Finishing", desired=False), T0 + 0.3)
    assert immediate.observe(job("Finishing", desired=False), T0 + 60).outcome is WAITING


# -- restarts -----------------------------------------------------------------------------------------------------


def test_max_restarts_ends_a_wait_for_a_flapping_pipeline() -> None:
    submit = wait(stable_for=60, max_restarts=2)
    for run in (1, 2, 3):
        assert submit.observe(job("Running", run), T0 + run).outcome is WAITING
        submit = move(submit, T0 + run + 0.5)
    result = submit.observe(job("Scheduling", 4), T0 + 4)
    assert (result.outcome, result.restarts) == (Outcome.FLAPPING, 3)


@pytest.mark.parametrize(
    "state, outcome", [("Finished", REACHED), ("Failing", Outcome.FAILED), ("Failed", Outcome.FAILED)]
)
def test_a_terminal_state_takes_precedence_over_max_restarts(state: str, outcome: Outcome) -> None:
    submit = wait(stable_for=60, max_restarts=0, finished_is_success=True)
    submit.observe(job("Running", 1), T0)
    assert submit.observe(job(state, 3), T0 + 1).outcome is outcome


def test_the_requested_run_is_not_a_restart() -> None:
    restart = wait(max_restarts=0, before=job("Failed", 3))
    restart.observe(job("Failed", 3), T0)
    assert restart.observe(job("Running", 4), T0 + 1).outcome is REACHED
    never = wait(max_restarts=0)
    assert never.observe(job("Running", 7), T0).outcome is REACHED
    again = wait(max_restarts=0)
    again.observe(job("Scheduling", 7), T0)
    assert again.observe(job("Running", 8), T0 + 1).outcome is Outcome.FLAPPING


# -- outdated responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old", [job("Failed", 1), job("Stopped", 1, desired=False), job("Running", 1), job("Finished", 0)]
)
def test_an_earlier_run_of_the_same_job_is_ignored(old: Job) -> None:
    sensor = wait("Running", "Stopped", stable_for=2)
    sensor.observe(job("Running", 2), T0)
    sensor.messages()
    result = sensor.observe(old, T0 + 1)
    assert (result.outcome, result.job, result.restarts) == (WAITING, job("Running", 2), 0)
    assert logged(sensor) == []
    assert sensor.observe(old, T0 + 3).outcome is WAITING, "it proves nothing about the newer run"
    assert sensor.observe(job("Running", 2), T0 + 3.1).outcome is REACHED


def test_an_earlier_run_than_before_the_change_is_ignored() -> None:
    restart = wait(stopped_is_final=True, before=job("Running", 2))
    assert restart.observe(job("Stopped", 1, desired=False), T0).outcome is WAITING
    assert restart.observe(job("Running", 3), T0 + 1).outcome is REACHED


def test_a_new_pipeline_may_be_unknown_for_a_moment() -> None:
    created = wait(created_at=T0, outage_tolerance=0)
    assert created.observe_error(GONE, T0 + 0.1, retry_in=0.2).outcome is WAITING
    assert logged(created) == ["Poll failed, retry 1 of 10 in 0.2 s: orders_per_minute: Pipeline not found"]
    created.observe(job("Scheduling"), T0 + 0.3)
    assert created.observe_error(GONE, T0 + 4.9).outcome is WAITING
    assert created.observe_error(GONE, T0 + 5).outcome is Outcome.DELETED
    # This task created it.
    assert wait(created_at=T0).observe_error(GONE, T0 + 5).outcome is Outcome.DELETED
    assert wait().observe_error(GONE, T0).outcome is Outcome.MISSING


def test_a_checkpoint_does_not_make_up_for_a_state_that_only_another_process_saw() -> None:
    one = wait("Running", until_checkpoint=True)
    one.observe(job(), T0)
    moved = move(one, T0 + 60)
    found = read(moved, T0 + 60, checkpoint(1))
    assert found.outcome is WAITING
    assert moved.observe(job("Failed"), T0 + 61).outcome is Outcome.FAILED


def test_a_vanished_job_is_not_reported_in_its_old_state() -> None:
    sensor = wait("Finished", heartbeat=60)
    sensor.observe(job(), T0)
    sensor.observe(None, T0 + 10)
    assert logged(sensor)[1:] == ["No job any more: orders_per_minute (was Running, run 1)"]
    sensor.observe(None, T0 + 70)
    assert logged(sensor) == [
        "Still no job after 1 min: orders_per_minute (was run 1); waiting for Finished, 8 min 50 s left"
    ]
    assert move(sensor, T0 + 80).tick(T0 + 80).jobless_seconds == 70
    result = sensor.tick(T0 + 600)
    assert (result.outcome, result.jobless_seconds) == (Outcome.TIMED_OUT, 590)


def test_a_job_that_reappears_is_logged_and_counts_from_zero() -> None:
    sensor = wait(stable_for=2)
    sensor.observe(job(), T0)
    sensor.observe(None, T0 + 1)
    sensor.observe(job(), T0 + 1.5)
    assert logged(sensor)[-1] == "Running: orders_per_minute (run 1)"
    assert sensor.observe(job(), T0 + 3).outcome is WAITING
    assert sensor.observe(job(), T0 + 3.5).jobless_seconds is None


# -- a clock that is stepped --------------------------------------------------------------------------------------


def test_a_clock_jump_between_processes_does_not_fulfil_stable_for() -> None:
    sensor = PipelineWait(plan(stable_for=3600, deadline=T0 + 90_000), now=T0)
    sensor.observe(job(), T0)
    sensor.observe(job(), T0 + 10)
    moved = move(sensor, T0 + 7200)
    assert moved.observe(job(), T0 + 7210).outcome is WAITING
    assert moved.next_due() <= T0 + 7190 + 3600
    assert moved.observe(job(), T0 + 7190 + 3600).outcome is REACHED


def test_a_clock_jump_between_processes_does_not_end_the_grace_time() -> None:
    restart = wait(before=job("Failed", 1))
    restart.observe(job("Failed", 1), T0)
    assert move(restart, T0 + 500).observe(job("Failed", 1), T0 + 501).outcome is WAITING


# -- any history ---------------------------------------------------------------------------------------------

proving = st.builds(
    lambda plan, restarts: replace(
        plan, target_states=plan.target_states | {"Running"}, until_checkpoint=True, max_restarts=restarts
    ),
    plans,
    st.sampled_from([None, None, 0, 2]),
)
lists = st.lists(st.builds(checkpoint, st.integers(1, 4), finished=st.booleans()), max_size=3)


@settings(deadline=None)
@given(proving, histories(), st.lists(lists, min_size=16, max_size=16))
def test_any_history_that_ends_in_running_has_its_proof(
    plan: WaitPlan, events: list[Event], seen: list[list[Checkpoint]]
) -> None:
    submit = PipelineWait(plan, now=T0)
    proven: dict[tuple[str, int], set[int]] = {}
    for event, found in zip(without_old(plan, events), itertools.cycle(seen)):
        result = show(submit, event)
        due = submit.details_due()
        if due is not None and due <= event.at:
            asked = submit.progress.job
            assert asked is not None
            proven.setdefault((asked.id, asked.run_id), set()).update(
                one.epoch for one in found if one.is_finished
            )
            result = submit.observe_details(asked, Reading(found), event.at, sent_at=event.at)
            again = submit.details_due()
            assert again is None or again > event.at, "checkpoints are read forever"
        if (
            result.outcome is REACHED
            and result.job is not None
            and result.job.state in ("Running", "Finishing")
        ):
            assert proven.get((result.job.id, result.job.run_id))
        if result.outcome is Outcome.FLAPPING:
            assert plan.max_restarts is not None
            assert result.restarts > plan.max_restarts
        if result.is_over:
            return
        if event.kind == "poll":
            assert submit.next_due() > event.at, "polls are due forever"
