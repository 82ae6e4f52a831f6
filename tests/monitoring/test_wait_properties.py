"""What must hold for any wait, whatever it is shown: stated over the history, with no look at how it is judged.

A history is what happened, in order: looks that succeeded, looks that failed, and time that passed. Its times
are what the clock showed, which may step back. "For how long, by the clock" is therefore the longest stretch
that the clock itself showed since: the last time minus the earliest one since then.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.explain import Subject, explain
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.wait_histories import (
    ALMOST,
    RESTING,
    SECRET,
    START,
    TERMINAL,
    Event,
    Run,
    forward_steps,
    fresh,
    histories,
    last_recovery,
    plans,
    run,
    show,
    shows_a_change,
    unbroken,
)

# No assertion here is about speed, so a busy machine must not fail it.
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(thorough, max_examples=400)
@given(plans, histories())
def test_success_is_never_unwanted_unstable_or_stale(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    if done.ended is None or done.ended.outcome is not Outcome.REACHED:
        return
    job = done.events[-1].job
    assert job is not None
    assert done.ended.job == job
    assert job.state in plan.targets or (job.state == "Finished" and plan.finished_is_success)
    assert job.state != "Running" or job.running_desired
    if job.state not in TERMINAL:
        assert_it_lasted(done, plan.stable_for.total_seconds())
    if not fresh(plan, job):
        assert job.state in RESTING
        assert_it_is_no_leftover(done, job)


def assert_it_lasted(done: Run, wanted: float) -> None:
    assert done.since(unbroken(done.events, strictly=True)) >= wanted - ALMOST
    recovery = last_recovery(done.events)
    if recovery is not None:
        # An answer after an outage can be what stood before it.
        grace = done.plan.stale_grace.total_seconds()
        assert done.since(recovery) >= min(wanted, grace) - ALMOST


def assert_it_is_no_leftover(done: Run, job: Job) -> None:
    plan = done.plan
    assert plan.baseline is not None
    if plan.baseline.state == job.state == "Finished":
        assert {"Stopped", "Finished"} <= plan.targets
        return
    if any(event.job is not None and shows_a_change(plan, event.job) for event in done.events):
        return
    grace = plan.stale_grace.total_seconds()
    assert done.since(unbroken(done.events, strictly=False)) >= grace - ALMOST
    recovery = last_recovery(done.events)
    if recovery is not None:
        assert done.since(recovery) >= grace - ALMOST


@thorough
@given(plans, histories())
def test_no_failure_that_was_shown_is_missed(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    for event, verdict in zip(done.events, done.verdicts, strict=True):
        job = event.job
        if job is None:
            continue
        news = fresh(plan, job) or shows_a_change(plan, job)
        if news and job.state == "Failed" and "Failed" not in plan.targets:
            assert verdict.outcome is Outcome.FAILED
        if news and job.state == "Failing" and not {"Failing", "Failed"} & plan.targets:
            assert verdict.outcome is Outcome.FAILED
        if news and job.state == "Finished" and "Finished" not in plan.targets:
            assert verdict.outcome is (Outcome.REACHED if plan.finished_is_success else Outcome.FINISHED)


@thorough
@given(plans, histories())
def test_nothing_is_called_a_failure_that_is_none(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    verdict, last = done.verdicts[-1], done.events[-1]
    match verdict.outcome:
        case Outcome.FAILED:
            assert last.job is not None
            assert last.job.state in {"Failed", "Failing"} - plan.targets
        case Outcome.FINISHED:
            assert last.job is not None
            assert last.job.state == "Finished"
        case Outcome.STOPPED:
            assert last.job is not None
            assert last.job.state == "Stopped"
            assert not last.job.running_desired
            assert plan.stopped_is_final
        case Outcome.DELETED | Outcome.MISSING:
            assert isinstance(last.error, ArroyoNotFoundError)
            known = plan.baseline is not None or any(event.job for event in done.events)
            assert verdict.outcome is (Outcome.DELETED if known else Outcome.MISSING)
        case Outcome.ERROR:
            assert last.error is verdict.error
            assert last.error is not None
            assert not last.error.is_transient


@thorough
@given(plans, histories())
def test_what_is_there_to_see_is_seen_at_once(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    for event, verdict in zip(done.events, done.verdicts, strict=True):
        job = event.job
        if job is None or job.state not in plan.targets:
            continue
        lasts = job.state in TERMINAL or (
            plan.stable_for == timedelta(0) and (job.state != "Running" or job.running_desired)
        )
        # A state that rests is news as well when it is another one than before the change.
        news = fresh(plan, job) or (job.state in TERMINAL and shows_a_change(plan, job))
        if lasts and news:
            assert verdict.outcome is Outcome.REACHED


@thorough
@given(plans, histories(forward_steps))
def test_a_state_that_lasted_long_enough_is_believed(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    last = done.events[-1]
    if last.job is None or last.job.state not in plan.targets or not fresh(plan, last.job):
        return
    if not last.job.running_desired or last_recovery(done.events) is not None:
        return
    if done.since(unbroken(done.events, strictly=True)) >= plan.stable_for.total_seconds() + ALMOST:
        assert done.verdicts[-1].outcome is Outcome.REACHED


@thorough
@given(plans, histories(), st.data())
def test_it_is_over_at_its_deadline_and_not_before(
    plan: WaitPlan, events: list[Event], data: st.DataObject
) -> None:
    done = run(plan, events)
    for event, verdict in zip(done.events, done.verdicts, strict=True):
        assert verdict.is_over or event.at < plan.deadline
        assert verdict.outcome is not Outcome.TIMED_OUT or event.at >= plan.deadline
    if done.ended is None:
        last = replace(data.draw(st.sampled_from(events)), at=plan.deadline)
        assert run(plan, [*events, last]).ended is not None


@thorough
@given(plans, histories())
def test_an_outage_ends_the_wait_when_it_lasted_for_longer_than_is_tolerated(
    plan: WaitPlan, events: list[Event]
) -> None:
    done = run(plan, events)
    answered = 0
    # The beginning of the wait counts as an answer: before that nobody asked.
    shown = Run(plan, [Event("look", START)])
    for event, verdict in zip(done.events, done.verdicts, strict=True):
        shown.events.append(event)
        if event.kind == "look":
            answered = len(shown.events) - 1
        away = any(earlier.kind == "error" for earlier in shown.events[answered:])
        gone = shown.since(answered)
        tolerated = plan.outage_tolerance.total_seconds()
        assert (verdict.unreachable_seconds is not None) == (
            away and verdict.outcome not in (Outcome.ERROR, Outcome.DELETED, Outcome.MISSING)
        ) or verdict.outcome in (Outcome.ERROR, Outcome.DELETED, Outcome.MISSING)
        if event.kind == "look":
            assert verdict.error is None
        if verdict.outcome is Outcome.UNREACHABLE:
            assert away
            assert gone >= tolerated - ALMOST
            assert verdict.error is not None
        if away and gone >= tolerated + ALMOST:
            assert verdict.is_over


@thorough
@given(plans, histories(), histories())
def test_a_wait_that_is_over_stays_over(plan: WaitPlan, events: list[Event], later: list[Event]) -> None:
    wait = PipelineWait(plan, now=START)
    ended = None
    for event in events:
        verdict = show(wait, event)
        if verdict.is_over:
            ended = verdict
            break
    if ended is None:
        return
    wait.notes()
    for event in later:
        assert show(wait, event) == ended
    assert wait.expire(START, "execution_timeout") == ended
    assert wait.notes() == []


@thorough
@given(plans, histories(), st.lists(st.booleans(), max_size=20))
def test_moving_to_another_process_changes_nothing(
    plan: WaitPlan, events: list[Event], moves: list[bool]
) -> None:
    stayed, moved = run(plan, events), run(plan, events, moves)
    assert [verdict.to_dict() for verdict in moved.verdicts] == [
        verdict.to_dict() for verdict in stayed.verdicts
    ]
    assert [str(note) for note in moved.notes] == [str(note) for note in stayed.notes]


@settings(thorough, max_examples=250)
@given(plans, histories(), st.floats(0, 1, exclude_max=True), st.booleans())
def test_an_unchanged_look_before_it_is_due_changes_nothing(
    plan: WaitPlan, events: list[Event], part: float, looks: bool
) -> None:
    def as_it_stands() -> PipelineWait:
        wait = PipelineWait(plan, now=START)
        for event in events:
            show(wait, event)
        wait.notes()
        return wait

    if run(plan, events).ended:
        return
    now = events[-1].at
    looked = [event for event in events if event.kind != "time"]
    if not looked:
        return
    wait = as_it_stands()
    due = wait.next_due()
    if events[-1] is looked[-1]:
        assert due > now, "it would be due for ever"
    early = now + (due - now) * part
    if now <= early < due:
        again = replace(looked[-1] if looks else Event("time", 0), at=early)
        assert not show(wait, again).is_over
        assert wait.notes() == []
        assert wait.next_due() >= due
    wait = as_it_stands()
    due = max(due, now)
    assert show(wait, replace(looked[-1], at=due)).is_over or wait.next_due() > due


@thorough
@given(plans, histories())
def test_each_change_is_noted_exactly_once(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    changes, ended_outages, outages, away = 0, 0, 0, False
    before: Job | None = None
    for event, verdict in zip(done.events, done.verdicts, strict=True):
        if event.kind == "look" and away:
            ended_outages, away = ended_outages + 1, False
        if (
            event.error is not None
            and not away
            and verdict.outcome
            in (
                Outcome.WAITING,
                Outcome.UNREACHABLE,
                Outcome.TIMED_OUT,
            )
        ):
            outages, away = outages + 1, True
        job = event.job
        if job is not None:
            if before is None or (job.id, job.run_id, job.state, job.running_desired) != (
                before.id,
                before.run_id,
                before.state,
                before.running_desired,
            ):
                changes += 1
            before = job
    said = [str(note) for note in done.notes]
    heartbeats = [line for line in said if "; waiting for " in line]
    assert len([line for line in said if "cannot be reached, which is tolerated" in line]) == outages
    assert len([line for line in said if "can be reached again after" in line]) == ended_outages
    assert len(said) - len(heartbeats) - outages - ended_outages == changes


@thorough
@given(plans, histories(forward_steps))
def test_a_wait_is_silent_for_no_longer_than_its_heartbeat(plan: WaitPlan, events: list[Event]) -> None:
    wait = PipelineWait(plan, now=START)
    said = START
    for event in events:
        verdict = show(wait, event)
        if verdict.is_over:
            return
        if wait.notes():
            said = event.at
        assert event.at - said < plan.heartbeat.total_seconds() + ALMOST


@thorough
@given(plans, histories())
def test_nothing_secret_gets_out(plan: WaitPlan, events: list[Event]) -> None:
    wait = PipelineWait(plan, now=START)
    for event in events:
        verdict = show(wait, event)
        told = [str(note) for note in wait.notes()]
        told += [json.dumps(wait.progress()), json.dumps(verdict.to_dict()), json.dumps(plan.to_dict())]
        told += [repr(verdict), str(explain(verdict, Subject(pipeline_id="pl_1")))]
        assert SECRET not in "\n".join(told)
        if verdict.is_over:
            break


@thorough
@given(plans, histories())
def test_what_a_verdict_says_of_times_and_runs_is_possible(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    for verdict in done.verdicts:
        assert verdict.waited_seconds >= verdict.stood_seconds >= 0
        assert (verdict.unreachable_seconds or 0) >= 0
        assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))).to_dict() == verdict.to_dict()
    shown = [event.job for event in done.events if event.job is not None]
    # Run 0 is not begun yet, and the run that follows a change is none that began by itself.
    first = {plan.baseline.job_id: plan.baseline.run_id + 1} if plan.baseline is not None else {}
    rises = sum(
        max(0, later.run_id - max(earlier.run_id, first.get(later.id, 1)))
        for earlier, later in itertools.pairwise(shown)
        if earlier.id == later.id
    )
    assert done.verdicts[-1].restarts == rises


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=3,
)


@thorough
@given(plans, histories(), histories(forward_steps), st.data())
def test_damaged_progress_ends_no_wait_wrongly(
    plan: WaitPlan, before: list[Event], later: list[Event], data: st.DataObject
) -> None:
    wait = PipelineWait(plan, now=START)
    for event in before:
        show(wait, event)
    damaged: Any = wait.progress()
    if data.draw(st.integers(0, 9)):
        for key in data.draw(st.sets(st.sampled_from(sorted(damaged)), min_size=1, max_size=3)):
            if data.draw(st.booleans()):
                del damaged[key]
            else:
                damaged[key] = data.draw(json_values)
    else:
        damaged = data.draw(json_values)
    wait = PipelineWait(plan, now=START, progress=damaged)
    for event in later:
        wait.next_due()
        verdict = show(wait, event)
        json.dumps([verdict.to_dict(), wait.progress()])
        assert verdict.is_over or event.at < plan.deadline
        job = event.job
        if verdict.outcome is Outcome.REACHED:
            assert job is not None
            assert job.state in plan.targets or (job.state == "Finished" and plan.finished_is_success)
            assert job.state != "Running" or (job.running_desired and fresh(plan, job))
        if job is not None and job.state == "Failed" and fresh(plan, job) and "Failed" not in plan.targets:
            assert verdict.outcome is Outcome.FAILED
        if verdict.is_over:
            break
