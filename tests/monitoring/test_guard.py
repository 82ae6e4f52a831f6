"""A wait that guards a pipeline for days: restarts within a window, and an end that is a success."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.progress import SeenRun, restart_times
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import GONE, ORDERS, REFUSED, T0, job, move, plan, wait

HOUR, DAY = 3600.0, 86_400.0
FLAPPING, REACHED, TIMED_OUT, WAITING = (
    Outcome.FLAPPING,
    Outcome.REACHED,
    Outcome.TIMED_OUT,
    Outcome.WAITING,
)


def guard(*, most: int = 2, **more: Any) -> PipelineWait:
    """Return a wait of seven days, which a third restart within an hour ends."""
    goal = {"max_restarts": most, "restart_window": timedelta(hours=1), "deadline": T0 + 7 * DAY}
    return wait("Stopped", "Finished", **{**goal, "timeout_is_success": True, **more})


@pytest.mark.parametrize(
    "before, after, first_run, restarts",
    [
        (("Running", 1), ("Recovering", 1), 1, 0),
        (("Recovering", 1), ("Scheduling", 2), 1, 1),
        # Every state in between was missed.
        (("Running", 1), ("Running", 4), 1, 3),
        (("Created", 0), ("Running", 1), 1, 0),
        (("Created", 0), ("Running", 3), 1, 2),
        # Requested runs.
        *(((asked, 3), ("Running", 4), 1, 0) for asked in ("Restarting", "Rescaling", "Stopped", "Failed")),
        (("Stopped", 3), ("Running", 6), 1, 2),
        # The wait's own change started run 4, whatever the previous state.
        (("Failed", 3), ("Running", 4), 4, 0),
        (("Failed", 3), ("Running", 6), 4, 2),
        # An old response, and another job.
        (("Running", 4), ("Running", 2), 1, 0),
    ],
)
def test_only_a_run_that_was_not_requested_is_a_restart(
    before: tuple[str, int], after: tuple[str, int], first_run: int, restarts: int
) -> None:
    run, counted = SeenRun.of(job(*before)).follow(job(*after), first_run=first_run)
    assert counted == restarts
    assert run.follow(job(*after), first_run=first_run) == (run, 0)
    assert SeenRun.of(job(*before, job_id="job_0")).follow(job(*after)) == (SeenRun.of(job(*after)), 0)


def test_a_request_explains_only_the_run_that_follows() -> None:
    # On real servers, the run number rises only after the state has changed once more.
    run, restarts = SeenRun.of(job("Restarting", 1)), []
    for state, number in [("Scheduling", 1), ("Scheduling", 2), ("Running", 2), ("Scheduling", 3)]:
        run, more = run.follow(job(state, number))
        restarts.append(more)
    assert restarts == [0, 0, 0, 1]


def test_a_resume_whose_stop_no_poll_saw_is_not_a_restart() -> None:
    stopping = SeenRun.of(job("CheckpointStopping", 1, desired=False))
    assert stopping.follow(job("Running", 2))[1] == 0
    # Its stop is still requested, so it failed and recovered; or the request was withdrawn before it failed.
    assert stopping.follow(job("Running", 2, desired=False))[1] == 1
    assert stopping.follow(job("Running", 1))[0].follow(job("Running", 2))[1] == 1


@pytest.mark.parametrize("between", [(), ("Stopping",), ("Scheduling",)])
def test_a_stop_that_is_withdrawn_too_late_is_not_a_restart(between: tuple[str, ...]) -> None:
    """It stops, and is resumed at once: ``Stopped`` is too short to be polled."""
    one = guard(most=0)
    states = ["Running", "CheckpointStopping", *between]
    polls = [job("CheckpointStopping", desired=False), *map(job, states[1:]), job("Running", 2)]
    for number, seen in enumerate(polls):
        assert one.observe(seen, T0 + number).outcome is WAITING
    assert one.observe(job("Recovering", 2), T0 + 9).outcome is WAITING
    assert one.observe(job("Running", 3), T0 + 10).outcome is FLAPPING


def test_a_failure_while_it_stops_is_a_restart() -> None:
    run, _ = SeenRun.of(job("CheckpointStopping")).follow(job("Recovering"))
    assert run.follow(job("Running", 2))[1] == 1


def test_unseen_restarts_are_spread_over_the_time_without_polls() -> None:
    assert restart_times(3, since=None, now=90.0, most=9) == (90.0, 90.0, 90.0)
    assert restart_times(3, since=0.0, now=90.0, most=9) == (30.0, 60.0, 90.0)
    assert restart_times(1, since=0.0, now=90.0, most=9) == (90.0,)
    assert len(restart_times(10**12, since=0.0, now=100.0, most=2)) == 2
    # The clock stepped back.
    assert restart_times(2, since=95.0, now=90.0, most=9) == (90.0, 90.0)
    assert restart_times(0, since=0.0, now=90.0, most=9) == ()


@pytest.mark.parametrize("gap, outcome", [(0.6 * HOUR, WAITING), (0.4 * HOUR, FLAPPING)])
@pytest.mark.parametrize("moves", [False, True])
def test_only_restarts_within_the_window_end_a_guard(gap: float, outcome: Outcome, moves: bool) -> None:
    one, result = guard(), None
    for run in range(1, 9):
        result = one.observe(job("Running", run), T0 + run * gap)
        if result.is_over:
            break
        one = move(one, T0 + run * gap) if moves else one
    assert result is not None
    assert result.outcome is outcome
    if outcome is FLAPPING:
        assert (result.restarts, result.restarts_in_window) == (3, 3)
        text = str(explain(result, ORDERS))
        assert "keeps failing and starting again" in text
        assert "It restarted 3 times within 1 h (restart_window)." in text


def test_restarts_in_a_week_without_polls_are_not_flapping_but_those_in_an_hour_are() -> None:
    for gap, outcome in ((7 * DAY - 10, WAITING), (HOUR, FLAPPING)):
        one = guard()
        one.observe(job("Running", 1), T0)
        moved = move(one, T0 + gap)
        assert moved.observe(job("Running", 5), T0 + gap).outcome is outcome


def test_restarts_during_an_outage_of_the_api_are_spread_over_it_too() -> None:
    for outage, outcome in ((30 * HOUR, WAITING), (600.0, FLAPPING)):
        one = guard(outage_tolerance=2 * DAY)
        one.observe(job("Running", 1), T0)
        one.observe_error(REFUSED, T0 + 10)
        one.observe_error(REFUSED, T0 + outage)
        assert one.observe(job("Running", 5), T0 + outage + 1).outcome is outcome
        if outcome is WAITING:
            # From here on, it is polled again.
            assert one.observe(job("Running", 8), T0 + outage + 2).outcome is FLAPPING


def test_restarts_count_across_processes() -> None:
    one = guard()
    for run in (1, 2, 3):
        one.observe(job("Running", run), T0 + run)
    moved = move(one, T0 + 0.9 * HOUR)
    assert moved.observe(job("Running", 4), T0 + 0.9 * HOUR).outcome is FLAPPING
    late = move(one, T0 + 2 * HOUR)
    assert late.observe(job("Running", 4), T0 + 2 * HOUR).outcome is WAITING


def test_a_poke_counts_the_restarts_of_earlier_pokes_but_only_its_own_in_its_stats() -> None:
    earlier, results = None, []
    for number, run in enumerate((1, 2, 3, 3, 5)):
        at = T0 + number * HOUR
        poke = PipelineWait(guard(restart_window=None, most=3).plan, now=at, earlier=earlier)
        results.append(poke.observe(job("Running", run), at + 0.15))
        earlier = move(poke, at + 0.2).progress
    assert [result.restarts for result in results] == [0, 1, 2, 2, 4]
    assert [result.stats.restarts for result in results] == [0, 1, 1, 0, 2]
    assert results[-1].outcome is FLAPPING
    assert "It restarted 4 times in 4 h." in str(explain(results[-1], ORDERS))


def test_a_clock_that_steps_back_dates_no_restart_in_the_future() -> None:
    one = guard()
    one.observe(job("Running", 1), T0 + 10 * HOUR)
    one.observe(job("Running", 3), T0 + 10 * HOUR)
    one.observe(job("Running", 3), T0)
    assert one.observe(job("Running", 4), T0 + 1.1 * HOUR).outcome is WAITING


def test_a_rescale_and_a_resume_are_not_restarts() -> None:
    one = guard(most=0)
    for number, (state, run) in enumerate(
        [
            ("Running", 1),
            ("Rescaling", 1),
            ("Scheduling", 2),
            ("Running", 2),
            ("Restarting", 2),
            ("Running", 3),
        ]
    ):
        assert one.observe(job(state, run), T0 + number).outcome is WAITING
    waits = wait("Running", max_restarts=0)
    waits.observe(job("Stopped", 4, desired=False), T0)
    assert waits.observe(job("Running", 5), T0 + 1).outcome is REACHED


# -- the end of its time --------------------------------------------------------------------------------------


def ended(one: PipelineWait, *, argument: str | None = None) -> WaitResult:
    end = one.plan.deadline
    return one.expire(end, argument) if argument else one.tick(end)


def test_a_guard_whose_pipeline_runs_at_the_deadline_succeeds() -> None:
    for state in ("Running", "Finishing"):
        one = guard()
        one.observe(job(state), T0 + 1)
        result = ended(one)
        assert (result.outcome, result.reached_at, result.is_over) == (REACHED, T0 + 7 * DAY, True)
        assert WaitResult.from_dict(result.to_dict()) == result
    one = guard()
    one.observe(job("Running"), T0 + 1)
    assert ended(one, argument="timeout").outcome is REACHED


@pytest.mark.parametrize(
    "seen",
    [
        [],
        [job("Scheduling")],
        [job("Recovering", 4)],
        [job("Running", desired=False)],
        [job("Running"), None],
        [job("Running"), REFUSED],
    ],
)
def test_a_guard_whose_pipeline_does_not_surely_run_at_the_deadline_times_out(seen: list[Any]) -> None:
    one = guard(outage_tolerance=30 * DAY)
    for number, what in enumerate(seen):
        if isinstance(what, Exception):
            one.observe_error(what, T0 + number)  # type: ignore[arg-type]  # one of ours
        else:
            one.observe(what, T0 + number)
    assert ended(one).outcome is TIMED_OUT


def test_a_guard_does_not_succeed_at_other_limits_or_ends() -> None:
    one = guard()
    one.observe(job("Running"), T0 + 1)
    assert ended(one, argument="execution_timeout").outcome is TIMED_OUT
    limited = guard(deadline_argument="execution_timeout")
    limited.observe(job("Running"), T0 + 1)
    assert ended(limited).outcome is TIMED_OUT
    for what, outcome in ((job("Failed"), Outcome.FAILED), (job("Failing"), Outcome.FAILED)):
        assert guard().observe(what, T0 + 1).outcome is outcome
    gone = guard()
    gone.observe(job("Running"), T0)
    assert gone.observe_error(GONE, T0 + 1).outcome is Outcome.DELETED


def test_a_last_poll_cut_short_by_the_deadline_is_not_an_outage() -> None:
    one = guard()
    one.observe(job("Running"), T0 + 7 * DAY - 60)
    end = T0 + 7 * DAY
    assert one.observe_error(REFUSED, end, sent_at=end - 0.4).outcome is REACHED
    # However long before that the last poll succeeded.
    sensor = wait("Stopped", deadline=T0 + 600)
    sensor.observe(job("Running"), T0 + 540)
    result = sensor.observe_error(REFUSED, T0 + 600, sent_at=T0 + 599.6)
    assert (result.outcome, result.is_outage) == (TIMED_OUT, False)
    assert "it has been Running for 1 min (run 1)" in str(explain(result, ORDERS))


@pytest.mark.parametrize("error", [None, REFUSED])
def test_a_state_that_only_another_process_saw_does_not_run_at_the_deadline(error: Any) -> None:
    one, end = guard(), T0 + 7 * DAY
    one.observe(job("Running"), T0)
    one.observe_error(REFUSED, end - 40.4)
    moved = move(one, end)
    result = moved.tick(end) if error is None else moved.observe_error(error, end + 0.1, sent_at=end)
    assert result.outcome is TIMED_OUT
    seen = move(one, end)
    assert seen.observe(job("Running"), end + 0.1).outcome is REACHED


def test_the_plan_of_a_guard_survives_json_and_is_checked() -> None:
    goal = guard().plan
    assert WaitPlan.from_dict(goal.to_dict()) == goal
    with pytest.raises(ValueError, match="restart_window must be a timedelta"):
        plan(restart_window=timedelta(0), max_restarts=1)
