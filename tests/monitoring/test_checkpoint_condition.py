"""Which checkpoint is sufficient, and when none can follow any more: recorded and generated histories."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.enums import CheckpointType
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoAuthError, ArroyoNotFoundError, ArroyoUnsupportedError
from airflow_provider_arroyo.monitoring.checkpoints import SETTLES_SECONDS
from airflow_provider_arroyo.monitoring.condition import CheckpointCondition, Finding, Reading
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import GONE, ORDERS, REFUSED, T0, api_error, job, logged, move
from tests.monitoring.wait_histories import Event, histories, show

RECORDED = Path(__file__).parent.parent / "data" / "arroyo"
STOPPING = CheckpointType.STOPPING
SECOND = 1_000_000
NOW = int(T0) * SECOND
NEW_JOB = Job(id="job_1", state="Running", run_id=1, pipeline_id="pl_1")


def recorded(version: str, name: str, note: str) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that a real server listed."""
    for one in json.loads((RECORDED / version / f"{name}.json").read_text()):
        if one["note"] == note:
            return tuple(map(Checkpoint.from_api, one["response"]["body"]["data"]))
    raise LookupError(note)


def taken(epoch: int, ago: float = 5.0, kind: str | None = "scheduled", *, took: float = 1.0) -> Checkpoint:
    """A checkpoint that began that many seconds ago; ``took`` 0 means unfinished."""
    start = NOW - int(ago * SECOND)
    finish = start + int(took * SECOND) if took else None
    return Checkpoint(epoch=epoch, start_time_micros=start, finish_time_micros=finish, checkpoint_type=kind)


def found(condition: CheckpointCondition, *seen: Sequence[Checkpoint], server: float | None = T0) -> Any:
    """Return the epoch that is sufficient after these readings, in order; None if there is none."""
    finding = Finding()
    for number, checkpoints in enumerate(seen):
        finding = condition.check(finding, NEW_JOB, Reading(checkpoints, server), T0 + 300 + number)
        finding = Finding.from_dict(json.loads(json.dumps(finding.to_dict())))
    return None if finding.facts is None else finding.facts["checkpoint"]["epoch"]


# -- recorded histories --------------------------------------------------------------------------------------------

AFTER = "after the stop with checkpoint"
RESTARTS = "checkpoints_of_restart_rescale_stop"


@pytest.mark.parametrize("version, began", [("0.15.0", 1795575195582329), ("0.16-dev", 1795575189786038)])
def test_a_recorded_history_has_a_sufficient_checkpoint(version: str, began: int) -> None:
    history = recorded(version, RESTARTS, AFTER)
    last = max(one.finish_time_micros or 0 for one in history) / 1e6
    assert found(CheckpointCondition(min_epoch=1), history) == 4
    assert found(CheckpointCondition(min_epoch=5), history) is None
    assert found(CheckpointCondition(began_after_micros=began), history) == 4
    assert found(CheckpointCondition(began_after_micros=began + 10 * SECOND), history) is None
    assert found(CheckpointCondition(max_age=timedelta(seconds=30)), history, server=last + 29) == 4
    assert found(CheckpointCondition(max_age=timedelta(seconds=30)), history, server=last + 31) is None
    # The list grows: by one with the rescale, by one with the stop.
    grown = [recorded(version, RESTARTS, note) for note in ("after a restart", "after a rescale", AFTER)]
    assert [found(CheckpointCondition(new_checkpoints=2), *grown[: n + 1]) for n in range(3)] == [
        *(None, None, 4)
    ]


def test_checkpoint_types_are_distinguished_in_a_recorded_history() -> None:
    history = recorded("0.16-dev", RESTARTS, "after a restart")
    assert found(CheckpointCondition(checkpoint_type=STOPPING), history) == 2
    assert found(CheckpointCondition(checkpoint_type=CheckpointType.SCHEDULED), history) == 1


@pytest.mark.parametrize("checkpoints", [(), recorded("0.15.0", RESTARTS, AFTER)], ids=["none yet", "some"])
def test_a_server_without_types_is_refused_if_a_type_is_wanted(checkpoints: Sequence[Checkpoint]) -> None:
    old = Job(id="job_1", state="Running", run_id=1)
    condition = CheckpointCondition(checkpoint_type=STOPPING)
    with pytest.raises(ArroyoUnsupportedError, match=r"older than 0\.16 and would ignore checkpoint_type"):
        condition.check(Finding(), old, Reading(checkpoints, T0), T0)


# -- one list ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition, checkpoints, epoch",
    [
        ({"min_epoch": 1}, [], None),
        ({"min_epoch": 1}, [taken(1, took=0)], None),
        ({"min_epoch": 2}, [taken(1), taken(2), taken(3, took=0)], 2),
        ({"min_epoch": 1}, [taken(3), taken(1), taken(2)], 3),
        ({"max_age": 5}, [taken(1, 6)], 1),
        ({"max_age": 5}, [taken(1, 6.1)], None),
        # A slow checkpoint may have begun long ago.
        ({"max_age": 5}, [taken(1, 60, took=58)], 1),
        ({"began_after": 10}, [taken(1, 10.1, took=9)], None),
        ({"began_after": 10}, [taken(1, 10, took=9)], 1),
        # The clocks of a cluster differ a little.
        ({"max_age": 5}, [taken(1, -60)], 1),
        ({"checkpoint_type": STOPPING}, [taken(1, kind="stopping"), taken(2)], 1),
        ({"checkpoint_type": STOPPING}, [taken(1), taken(2, kind="final")], None),
        # One checkpoint must meet all the conditions.
        ({"min_epoch": 2, "max_age": 5}, [taken(1, 2), taken(2, 100)], None),
        ({"min_epoch": 2, "checkpoint_type": STOPPING}, [taken(1, kind="stopping"), taken(2)], None),
    ],
)
def test_which_checkpoint_is_sufficient(
    condition: dict[str, Any], checkpoints: list[Checkpoint], epoch: int | None
) -> None:
    values = dict(condition)
    if "max_age" in values:
        values["max_age"] = timedelta(seconds=values["max_age"])
    if "began_after" in values:
        values["began_after_micros"] = NOW - values.pop("began_after") * SECOND
    assert found(CheckpointCondition(**values), checkpoints) == epoch


def test_without_a_server_time_the_waiters_clock_counts() -> None:
    condition = CheckpointCondition(max_age=timedelta(seconds=60))
    assert found(condition, [taken(1, 5)], server=None) is None
    assert found(condition, [taken(1, -299)], server=None) == 1


@pytest.mark.parametrize(
    "state, wanted, is_enough",
    [
        *((state, {"max_age": timedelta(minutes=1)}, False) for state in ("Failing", "Failed")),
        *((state, {"max_age": timedelta(minutes=1)}, True) for state in ("Running", "Stopped", "Finished")),
        ("Failed", {"min_epoch": 1}, True),
    ],
)
def test_a_fresh_checkpoint_does_not_make_a_failed_pipeline_healthy(
    state: str, wanted: dict[str, Any], is_enough: bool
) -> None:
    condition, failed = CheckpointCondition(**wanted), replace(NEW_JOB, state=state)
    finding = condition.check(Finding(), failed, Reading([taken(1)], T0), T0)
    assert (finding.facts is not None) is is_enough


# -- new ones ------------------------------------------------------------------------------------------------------

TWO = CheckpointCondition(new_checkpoints=2)


@pytest.mark.parametrize(
    "seen, epoch",
    [
        ([[taken(1), taken(2)]], None),
        ([[taken(1), taken(2)], [taken(1), taken(2), taken(3)]], None),
        ([[taken(1), taken(2)], [taken(1), taken(2), taken(3), taken(4)]], 4),
        ([[], [taken(1)], [taken(1), taken(2)]], 2),
        # A checkpoint that is unfinished when the wait begins finishes during it.
        ([[taken(1), taken(2, took=0)], [taken(1), taken(2), taken(3)]], 3),
        # Arroyo removes old checkpoints from the list.
        ([[taken(7)], [taken(8)], [taken(9)]], 9),
        # The same list again, with a duplicate.
        ([[taken(1)], [taken(1), taken(2)], [taken(1), taken(2)]], None),
        ([[taken(1)], [taken(1), taken(2), taken(2)]], None),
    ],
)
def test_new_checkpoints_are_counted(seen: list[list[Checkpoint]], epoch: int | None) -> None:
    assert found(TWO, *seen) == epoch


def test_a_job_that_replaces_another_begins_at_epoch_1() -> None:
    first = TWO.check(Finding(), NEW_JOB, Reading([taken(7)], T0), T0)
    second = TWO.check(first, NEW_JOB, Reading([taken(7), taken(8)], T0), T0)
    other = Job(id="job_2", state="Running", run_id=1, pipeline_id="pl_1")
    third = TWO.check(second, other, Reading([taken(1)], T0), T0)
    assert third.facts is not None
    assert third.facts["checkpoint"]["epoch"] == 1


def test_a_wait_without_memory_counts_by_the_servers_clock() -> None:
    # It began 100 s ago. The two clocks may differ; the server's has whole seconds.
    condition = CheckpointCondition(new_checkpoints=2, counts_since=T0 + 200)
    old, first, second = taken(1, 102, took=2), taken(2, 50), taken(3, 20)
    assert found(condition, [old, first]) is None
    assert found(condition, [old, first, second]) == 3


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.builds(taken, st.integers(1, 9), st.floats(0, 200)), max_size=5), min_size=1),
    st.integers(0, 3),
)
def test_no_checkpoint_is_counted_twice(seen: list[list[Checkpoint]], wanted: int) -> None:
    if found(CheckpointCondition(new_checkpoints=wanted), *seen) is None:
        return
    new = {one.epoch for checkpoints in seen[1:] for one in checkpoints} - {one.epoch for one in seen[0]}
    assert len(new) >= wanted


# -- texts ---------------------------------------------------------------------------------------------------------


def test_the_text_of_the_goal() -> None:
    every = CheckpointCondition(
        max_age=timedelta(minutes=2),
        began_after_micros=NOW,
        min_epoch=3,
        checkpoint_type=STOPPING,
        new_checkpoints=2,
    )
    assert every.goal == (
        "2 new stopping checkpoints of epoch 3 or later, begun after 2026-11-25 02:00:00 UTC, finished within the "
        "last 2 min"
    )
    assert CheckpointCondition(min_epoch=1).goal == "a finished checkpoint of epoch 1 or later"
    assert CheckpointCondition(new_checkpoints=1).goal == "1 new checkpoint"


@pytest.mark.parametrize("micros", [-(10**30), 0, 10**30])
def test_times_outside_of_the_calendar_are_harmless(micros: int) -> None:
    odd = Checkpoint(epoch=1, start_time_micros=micros, finish_time_micros=micros or 1)
    assert found(CheckpointCondition(min_epoch=2, new_checkpoints=1), [odd], [odd]) is None


def test_the_text_of_what_was_seen() -> None:
    def seen(*checkpoints: Checkpoint) -> str | None:
        return TWO.check(Finding(), NEW_JOB, Reading(checkpoints, T0), T0).seen

    assert seen() == "has no finished checkpoint"
    assert seen(taken(1, took=0)) == "has no finished checkpoint"
    assert seen(taken(7, 65, took=5)) == (
        "finished its last checkpoint, 7, 1 min ago (scheduled, begun 2026-11-25 01:58:55 UTC), 0 of 2 new"
    )
    # Invalid types from a gateway stay on one line.
    assert "\n" not in str(seen(taken(7, kind="a\nb" * 100)))
    assert len(str(seen(taken(7, kind="x" * 5000)))) < 200


# -- how such a wait ends ------------------------------------------------------------------------------------------


def waiting(**more: Any) -> PipelineWait:
    plan = WaitPlan(
        pipeline=ORDERS,
        target_states=frozenset(),
        deadline=T0 + 600,
        checkpoint=CheckpointCondition(min_epoch=5),
        outage_tolerance=timedelta(seconds=60),
        **more,
    )
    assert WaitPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    return PipelineWait(plan, now=T0)


def read(wait: PipelineWait, now: float, *checkpoints: Checkpoint) -> WaitResult:
    """Give the wait the checkpoints that it wants now."""
    due, asked = wait.details_due(), wait.progress.job
    assert due is not None
    assert asked is not None
    assert due <= now
    return wait.observe_details(asked, Reading(checkpoints, now), now, sent_at=now)


@pytest.mark.parametrize(
    "state, outcome",
    [
        ("Failing", Outcome.FAILED),
        ("Failed", Outcome.FAILED),
        ("Finished", Outcome.FINISHED),
        ("Finishing", Outcome.NO_CHECKPOINT),
        ("Stopped", Outcome.STOPPED),
    ],
)
def test_it_fails_at_once_if_no_checkpoint_can_follow(state: str, outcome: Outcome) -> None:
    wait, settled = waiting(), T0 + 1 + SETTLES_SECONDS
    wait.observe(job(), T0)
    assert read(wait, T0, taken(4)).outcome is Outcome.WAITING
    wait.observe(job(state, desired=False), T0 + 1)
    # The metadata of an unfinished checkpoint may be written a moment later.
    assert read(wait, T0 + 1, taken(4)).outcome is Outcome.WAITING
    assert wait.details_due() == settled
    assert move(wait, settled).details_due() == settled
    in_time, late = wait, move(wait, settled)
    late.observe(job(state, desired=False), settled)
    assert read(late, settled, taken(4), taken(5)).outcome is Outcome.REACHED
    assert read(in_time, settled, taken(4)).outcome is outcome
    assert in_time.details_due() is None


def test_an_existing_checkpoint_is_sufficient_in_any_state() -> None:
    for state in ("Created", "Running", "Recovering", "Failed", "Stopped", "Hibernating"):
        wait = waiting()
        wait.observe(job(state), T0)
        result = read(wait, T0, taken(5))
        assert (result.outcome, result.facts["checkpoint"]["epoch"]) == (Outcome.REACHED, 5)


def test_a_stopped_pipeline_that_is_being_resumed_may_take_one() -> None:
    wait = waiting()
    wait.observe(job("Stopped", desired=True), T0)
    for second in (0, 2, 4):
        assert read(wait, T0 + second).outcome is Outcome.WAITING
    wait.observe(job("Stopped", desired=False), T0 + 5)
    assert wait.observe(job("Stopped", desired=False), T0 + 5).outcome is Outcome.STOPPED


def test_a_reading_from_an_earlier_state_does_not_end_the_wait() -> None:
    wait = waiting()
    wait.observe(job(), T0)
    asked = wait.progress.job
    assert asked is not None
    wait.observe(job("Stopped", desired=False), T0 + 0.1)
    assert wait.observe_details(asked, Reading([]), T0 + 3, sent_at=T0).outcome is Outcome.WAITING
    assert read(wait, T0 + 3, taken(5)).outcome is Outcome.REACHED


def test_a_reading_of_another_run_is_ignored() -> None:
    wait = waiting()
    wait.observe(job(), T0)
    asked = wait.progress.job
    assert asked is not None
    wait.observe(job("Scheduling", run_id=2), T0 + 0.1)
    assert wait.observe_details(asked, Reading([taken(5)]), T0 + 1, sent_at=T0).outcome is Outcome.WAITING
    assert read(wait, T0 + 1, taken(5)).outcome is Outcome.REACHED


def test_slow_readings_are_less_frequent() -> None:
    wait = waiting()
    wait.observe(job(), T0)
    asked = wait.progress.job
    assert asked is not None
    wait.observe_details(asked, Reading([]), T0 + 0.05, sent_at=T0)
    assert wait.details_due() == T0 + 1
    wait.observe_details(asked, Reading([]), T0 + 5, sent_at=T0 + 3)
    assert wait.details_due() == T0 + 3 + 20
    # A state that could end the wait is still read at once.
    wait.observe(job("Stopped", desired=False), T0 + 6)
    assert wait.details_due() == T0 + 6 + SETTLES_SECONDS


lists = st.lists(
    st.builds(taken, st.integers(1, 8), st.floats(0, 9), took=st.sampled_from([0.0, 1.0])), max_size=4
)


@settings(deadline=None, max_examples=200)
@given(histories(), st.lists(lists, min_size=1, max_size=12))
def test_any_history_ends_with_a_sufficient_checkpoint_and_finitely_many_readings(
    events: list[Event], seen: list[list[Checkpoint]]
) -> None:
    wait, enough = waiting(), False
    for event, checkpoints in zip(events, itertools.cycle(seen), strict=False):
        result = show(wait, event)
        due, asked = wait.details_due(), wait.progress.job
        if due is not None and due <= event.at and asked is not None:
            enough |= any(one.epoch >= 5 and one.is_finished for one in checkpoints)
            result = wait.observe_details(asked, Reading(checkpoints), event.at, sent_at=event.at)
            again = wait.details_due()
            assert again is None or again > event.at
        assert (result.outcome is not Outcome.REACHED) or enough
        wait = wait if result.is_over else move(wait, event.at)


# -- what cannot be read -------------------------------------------------------------------------------------------


def fail(wait: PipelineWait, now: float, error: Any) -> WaitResult:
    assert wait.progress.job is not None
    return wait.observe_details(wait.progress.job, error, now, sent_at=now)


def test_a_403_ends_the_wait_at_once() -> None:
    wait, error = waiting(), api_error(403, ArroyoAuthError)
    wait.observe(job(), T0)
    wait.messages()
    result = fail(wait, T0, error)
    assert (result.outcome, result.error) == (Outcome.ERROR, error)
    assert logged(wait) == [], "nothing is tried again"


@pytest.mark.parametrize("error", [REFUSED, api_error(503), GONE], ids=["refused", "503", "404"])
def test_unreadable_checkpoints_are_an_outage(error: Any) -> None:
    wait = waiting()
    wait.observe(job(), T0)
    wait.messages()
    assert fail(wait, T0, error).outcome is Outcome.WAITING
    assert logged(wait) == [f"Checkpoints cannot be read, retrying: orders_per_minute: {error}"]
    wait.observe(job(), T0 + 59)
    assert fail(wait, T0 + 59, error).outcome is Outcome.WAITING
    assert logged(wait) == []
    late = move(wait, T0 + 60)
    result = fail(wait, T0 + 60, error)
    assert result.outcome is Outcome.ERROR
    assert "could not be read for 1 min (api_outage_tolerance)" in str(result.error)
    # What another process saw may have changed since.
    assert read(late, T0 + 61, taken(5)).outcome is Outcome.WAITING
    assert late.observe(job(), T0 + 62).outcome is Outcome.REACHED


def test_checkpoints_cannot_be_read_for_as_long_as_polls_fail() -> None:
    wait = waiting()
    wait.observe(job(), T0)
    assert fail(wait, T0, REFUSED).outcome is Outcome.WAITING
    wait.observe_error(REFUSED, T0 + 1)
    wait.observe_error(REFUSED, T0 + 50)
    wait.observe(job(), T0 + 59)
    assert fail(wait, T0 + 61, REFUSED).outcome is Outcome.WAITING
    wait.observe(job(), T0 + 120)
    assert fail(wait, T0 + 121, REFUSED).outcome is Outcome.ERROR


def test_no_state_ends_the_wait_while_checkpoints_cannot_be_read() -> None:
    wait = waiting()
    wait.observe(job("Stopped", desired=False), T0)
    for second in (0, 1, 30):
        result = fail(wait, T0 + second, REFUSED)
        assert (result.outcome, wait.is_unsettled()) == (Outcome.WAITING, True)
    assert read(wait, T0 + 31).outcome is Outcome.STOPPED


def test_a_last_reading_cut_short_by_the_deadline_is_not_the_cause() -> None:
    wait = waiting()
    wait.observe(job(), T0)
    read(wait, T0, taken(4))
    wait.observe(job(), T0 + 599)
    result = fail(wait, T0 + 600, REFUSED)
    assert (result.outcome, result.details_error) == (Outcome.TIMED_OUT, None)


def test_checkpoints_are_not_read_while_polls_fail() -> None:
    wait = waiting()
    assert wait.details_due() is None
    wait.observe(job(), T0)
    assert wait.details_due() == T0
    wait.observe_error(REFUSED, T0 + 1)
    assert wait.details_due() is None
    wait.observe(None, T0 + 2)
    assert wait.details_due() is None
    assert isinstance(GONE, ArroyoNotFoundError)
    assert wait.observe_error(GONE, T0 + 3).outcome is Outcome.DELETED
