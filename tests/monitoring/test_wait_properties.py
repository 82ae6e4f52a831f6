"""Properties of every wait, whatever it observes: they refer to the history alone, not to the implementation.

"How long, by the clock" is the longest time that the clock itself showed: the last time minus the earliest one since
then, as a clock may step back.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan, is_wanted
from airflow_provider_arroyo.monitoring.progress import RESTARTED_SECONDS
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import FOREIGN, REFUSED, T0, UNNAMED, no_messages
from tests.monitoring.support import plan as plan_for
from tests.monitoring.wait_histories import (
    ALMOST,
    LASTING,
    SECRET,
    TERMINAL,
    Event,
    Run,
    assert_it_is_not_stale,
    assert_it_lasted,
    forward_steps,
    histories,
    is_fresh,
    is_withdrawn,
    json_values,
    last_recovery,
    plans,
    run,
    show,
    shows_a_change,
    unbroken,
    without_old,
)

# No assertion here is about speed, so a busy machine must not fail it.
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(thorough, max_examples=400)
@given(plans, histories())
def test_a_success_is_wanted_stable_and_not_stale(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    if done.ended is None or done.ended.outcome is not Outcome.REACHED:
        return
    job = done.events[-1].job
    assert job is not None
    assert done.ended.job == job
    assert is_wanted(job.state, plan.target_states) or (job.state == "Finished" and plan.finished_is_success)
    assert job.state not in ("Running", "Finishing") or job.running_desired
    assert job.state == "Stopped" or not is_withdrawn(plan, job)
    if job.state not in TERMINAL:
        assert_it_lasted(done, plan.stable_for.total_seconds())
    if not is_fresh(plan, job):
        assert job.state in LASTING
        assert_it_is_not_stale(done, job)


@thorough
@given(plans, histories())
def test_no_observed_failure_is_missed(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    for event, result in zip(done.events, done.results, strict=True):
        job = event.job
        if job is None or not (is_fresh(plan, job) or shows_a_change(plan, job)):
            continue
        if job.state == "Failed" and "Failed" not in plan.target_states:
            assert result.outcome is Outcome.FAILED
        if job.state == "Failing" and not {"Failing", "Failed"} & plan.target_states:
            assert result.outcome is Outcome.FAILED
        if job.state == "Finished" and "Finished" not in plan.target_states:
            assert result.outcome is (Outcome.REACHED if plan.finished_is_success else Outcome.FINISHED)


@thorough
@given(plans, histories())
def test_each_other_outcome_has_its_cause(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    result, last = done.results[-1], done.events[-1]
    if result.outcome in (Outcome.FAILED, Outcome.FINISHED, Outcome.STOPPED):
        assert last.job is not None
        states = {Outcome.FAILED: {"Failed", "Failing"} - plan.target_states, Outcome.FINISHED: {"Finished"}}
        assert last.job.state in states.get(result.outcome, {"Stopped"})
        if result.outcome is Outcome.STOPPED:
            assert plan.stopped_is_final
            assert not last.job.running_desired
    if result.outcome is Outcome.WITHDRAWN:
        assert last.job is not None
        assert is_withdrawn(plan, last.job)
        wishes = [event.job.running_desired for event in done.events if event.job is not None]
        asked = next((index for index, wish in enumerate(reversed(wishes)) if not wish), len(wishes))
        first = [event for event in done.events if event.job is not None][len(wishes) - asked]
        assert done.since(done.events.index(first)) >= plan.stale_grace.total_seconds() - ALMOST
    if result.outcome in (Outcome.DELETED, Outcome.MISSING):
        assert isinstance(last.error, ArroyoNotFoundError)
        is_known = plan.baseline is not None or plan.created_at is not None
        is_known = is_known or any(event.job for event in done.events)
        assert result.outcome is (Outcome.DELETED if is_known else Outcome.MISSING)
    if result.outcome is Outcome.ERROR:
        assert last.error is not None
        assert last.error is result.error
        assert last.error.disposition is Disposition.PERMANENT


@thorough
@given(plans, histories())
def test_a_success_is_reported_at_once(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    for event, result in zip(done.events, done.results, strict=True):
        job = event.job
        if job is None or job.state not in plan.target_states:
            continue
        counts_at_once = job.state in TERMINAL or (
            plan.stable_for == timedelta(0)
            and (job.state not in ("Running", "Finishing") or job.running_desired)
        )
        # A terminal state other than the one before the change is not stale.
        is_new = is_fresh(plan, job) or (job.state in TERMINAL and shows_a_change(plan, job))
        if counts_at_once and is_new and not is_withdrawn(plan, job):
            assert result.outcome is Outcome.REACHED


@thorough
@given(plans, histories(forward_steps))
def test_short_failures_do_not_reset_a_stable_state(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    last = done.events[-1]
    if last.job is None or last.job.state not in plan.target_states or not is_fresh(plan, last.job):
        return
    if not last.job.running_desired or last_recovery(done.events, RESTARTED_SECONDS - ALMOST) is not None:
        return
    if is_withdrawn(plan, last.job):
        return
    first = unbroken(done.events, strictly=True, targets=plan.target_states)
    if done.since(first) >= plan.stable_for.total_seconds() + ALMOST:
        assert done.results[-1].outcome is Outcome.REACHED


@thorough
@given(plans, histories(), st.data())
def test_it_ends_exactly_at_its_deadline(plan: WaitPlan, events: list[Event], data: st.DataObject) -> None:
    done = run(plan, events)
    for event, result in zip(done.events, done.results, strict=True):
        assert result.is_over or event.at < plan.deadline
        assert result.outcome is not Outcome.TIMED_OUT or event.at >= plan.deadline
    if done.ended is None:
        last = replace(data.draw(st.sampled_from(events)), at=plan.deadline)
        assert run(plan, [*events, last]).ended is not None


REFUSED_FIRST = [Event("error", T0 + second, error=REFUSED) for second in range(80)]
FOREIGN_LATER = [
    Event("error", T0 + second, error=FOREIGN, sent_at=T0 + second - 1) for second in range(81, 150)
]


@thorough
@example(plan_for("Running", deadline=T0 + 3600), REFUSED_FIRST + FOREIGN_LATER)
@given(plans, histories())
def test_an_outage_ends_the_wait_exactly_at_its_limit(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    # The beginning of the wait counts as a response, since there was no request before.
    shown, last_response, has_responded = Run(plan, [Event("poll", T0)]), 0, False
    limit, on_its_way = plan.outage_tolerance.total_seconds(), 0.0
    is_foreign, foreign_at = False, math.inf
    for event, result in zip(done.events, done.results, strict=True):
        shown.events.append(event)
        if event.kind == "poll":
            last_response, has_responded, on_its_way = len(shown.events) - 1, True, 0.0
            assert result.error is None
        if event.error is not None:
            is_foreign = event.error.disposition is Disposition.OUTAGE and not has_responded
            if is_foreign and foreign_at == math.inf:
                foreign_at = event.at if event.sent_at is None else event.sent_at
        if foreign_at < math.inf:
            # If the clock steps back, the minute counts from then.
            foreign_at = min(foreign_at, event.at)
        assert result.has_responded == has_responded
        if result.outcome in (Outcome.ERROR, Outcome.DELETED, Outcome.MISSING):
            continue
        errors = [earlier for earlier in shown.events[last_response:] if earlier.kind == "error"]
        is_failing = bool(errors)
        seconds = shown.since(last_response) + on_its_way
        if errors == [event] and has_responded and seconds >= limit - ALMOST and not result.is_over:
            # There were no polls for longer than the limit, so the outage counts from this poll.
            on_its_way = event.at - min(event.at, event.at if event.sent_at is None else event.sent_at)
            last_response, seconds = len(shown.events) - 1, on_its_way
        assert (result.unreachable_seconds is not None) == is_failing
        beyond = max(seconds - limit, event.at - foreign_at - 60.0 if is_foreign else -math.inf)
        if result.outcome is Outcome.UNREACHABLE:
            assert is_failing
            assert beyond >= -ALMOST
            assert result.error is not None
        if is_failing and beyond >= ALMOST:
            assert result.is_over


@thorough
@given(plans, histories(), histories())
def test_a_wait_that_is_over_stays_over(plan: WaitPlan, events: list[Event], later: list[Event]) -> None:
    wait = PipelineWait(plan, now=T0)
    ended = next((result for event in events if (result := show(wait, event)).is_over), None)
    if ended is None:
        return
    with no_messages(wait):
        for event in later:
            assert show(wait, event) == ended
        assert wait.expire(T0, "execution_timeout") == ended


@thorough
@given(plans, histories(), st.lists(st.booleans(), max_size=20))
def test_another_process_changes_nothing(plan: WaitPlan, events: list[Event], moves: list[bool]) -> None:
    stayed, went = run(plan, events), run(plan, events, moves)
    assert [result.to_dict() for result in went.results] == [result.to_dict() for result in stayed.results]
    assert [message.text for message in went.messages] == [message.text for message in stayed.messages]


@settings(thorough, max_examples=250)
@given(plans, histories(), st.floats(0, 1, exclude_max=True), st.booleans())
def test_an_unchanged_poll_before_it_is_due_changes_nothing(
    plan: WaitPlan, events: list[Event], part: float, polls: bool
) -> None:
    def as_it_stands() -> PipelineWait:
        wait = PipelineWait(plan, now=T0)
        for event in events:
            show(wait, event)
        wait.messages()
        return wait

    events = without_old(plan, events)
    polled = [event for event in events if event.kind != "time"]
    if not polled or run(plan, events).ended:
        return
    now, last = events[-1].at, polled[-1]
    wait = as_it_stands()
    due = wait.next_due()
    if events[-1] is last:
        assert due > now, "polls are due forever"
    early = now + (due - now) * part
    if now <= early < due:
        # A failed try is never skipped, so that each is logged.
        again = replace(last, at=early) if polls and last.error is None else Event("time", early)
        with no_messages(wait):
            assert not show(wait, again).is_over
        assert wait.next_due() >= due
    wait = as_it_stands()
    due = max(due, now)
    assert show(wait, replace(last, at=due)).is_over or wait.next_due() > due


@thorough
@given(plans, histories())
def test_each_change_and_each_failed_try_is_logged_exactly_once(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    changes = failures = retries = outages = recoveries = 0
    before: Job | None = None
    is_jobless = False
    for event, result in zip(done.events, done.results, strict=True):
        if event.kind == "poll":
            recoveries += failures > 10
            failures = 0
        if event.error is not None and not result.is_over:
            failures += 1
            outages += failures == 11
            retries += failures % 11 != 0
        job = event.job
        if job is not None:
            key = (job.id, job.run_id, job.state, job.running_desired)
            if (
                before is None
                or is_jobless
                or key != (before.id, before.run_id, before.state, before.running_desired)
            ):
                changes += 1
            before, is_jobless = job, False
        elif event.kind == "poll" and before is not None and not is_jobless:
            changes, is_jobless = changes + 1, True
    lines = [message.text for message in done.messages]
    heartbeats = len([line for line in lines if "; waiting for " in line])
    assert len([line for line in lines if line.startswith("Poll failed, retry ")]) == retries
    begins = ("Arroyo unreachable for ", "Arroyo responds, but every poll has failed for ")
    assert len([line for line in lines if line.startswith(begins)]) == outages
    ends = ("Arroyo reachable again after ", "Polls succeed again after ")
    assert len([line for line in lines if line.startswith(ends)]) == recoveries
    assert len(lines) - heartbeats - retries - outages - recoveries == changes


@thorough
@given(plans, histories(forward_steps))
def test_a_wait_logs_at_least_every_heartbeat(plan: WaitPlan, events: list[Event]) -> None:
    wait = PipelineWait(plan, now=T0)
    logged_at = T0
    for event in events:
        if show(wait, event).is_over:
            return
        if any(message.level >= logging.INFO for message in wait.messages()):
            logged_at = event.at
        assert event.at - logged_at < plan.heartbeat.total_seconds() + ALMOST


@thorough
@given(plans, histories())
def test_what_leaves_a_wait_has_no_secret_and_survives_json(plan: WaitPlan, events: list[Event]) -> None:
    wait = PipelineWait(plan, now=T0)
    for event in events:
        result = show(wait, event)
        assert result.waited_seconds >= result.state_seconds >= 0
        assert (result.unreachable_seconds or 0) >= 0
        written = json.dumps(result.to_dict())
        assert WaitResult.from_dict(json.loads(written)).to_dict() == result.to_dict()
        shown = [message.text for message in wait.messages()] + [written, repr(result)]
        shown += [
            json.dumps(wait.progress.to_dict()),
            json.dumps(plan.to_dict()),
            str(explain(result, UNNAMED)),
        ]
        assert SECRET not in "\n".join(shown)


@thorough
@given(plans, histories())
def test_restarts_are_the_runs_that_were_not_requested(plan: WaitPlan, events: list[Event]) -> None:
    done = run(plan, events)
    shown = [event.job for event in done.events if event.job is not None]
    # Run 0 has not begun, and the run that follows a change was requested.
    first = {plan.baseline.job_id: plan.baseline.run_id + 1} if plan.baseline is not None else {}
    asked, restarts, was_asked_for = {*TERMINAL, "Restarting", "Rescaling"}, 0, False
    was_stopping = False
    for earlier, later in zip([None, *shown], shown, strict=False):
        if earlier is None or (earlier.id, earlier.run_id) != (later.id, later.run_id):
            if earlier is not None and earlier.id == later.id:
                first_run = first.get(later.id, 1)
                runs = max(0, later.run_id - max(earlier.run_id, first_run))
                was_resumed = was_stopping and bool(later.running_desired)
                restarts += max(0, runs - ((was_asked_for or was_resumed) and earlier.run_id >= first_run))
            was_asked_for = False
        was_asked_for |= later.state in asked
        was_stopping = later.running_desired is False
    assert done.results[-1].restarts == restarts


@thorough
@given(plans, histories(), histories(forward_steps), st.data())
def test_damaged_progress_causes_no_wrong_outcome(
    plan: WaitPlan, before: list[Event], later: list[Event], data: st.DataObject
) -> None:
    wait = PipelineWait(plan, now=T0)
    for event in before:
        show(wait, event)
    damaged: Any = wait.progress.to_dict()
    if data.draw(st.integers(0, 9)):
        for key in data.draw(st.sets(st.sampled_from(sorted(damaged)), min_size=1, max_size=3)):
            damaged[key] = data.draw(json_values | st.floats())
            if data.draw(st.booleans()):
                del damaged[key]
    else:
        damaged = data.draw(json_values | st.floats())
    wait = PipelineWait(plan, now=T0, progress=damaged)
    for event in later:
        wait.next_due()
        result = show(wait, event)
        json.dumps([result.to_dict(), wait.progress.to_dict()])
        assert result.is_over or event.at < plan.deadline
        job = event.job
        if result.outcome is Outcome.REACHED:
            assert job is not None
            assert is_wanted(job.state, plan.target_states) or (
                job.state == "Finished" and plan.finished_is_success
            )
            assert job.state != "Running" or (job.running_desired and is_fresh(plan, job))
        is_new_failure = (
            job is not None and result.job == job and job.state == "Failed" and is_fresh(plan, job)
        )
        if is_new_failure and "Failed" not in plan.target_states:
            assert result.outcome is Outcome.FAILED
        if result.is_over:
            break
