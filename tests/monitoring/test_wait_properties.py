"""What must hold for any wait, whatever it is shown: stated over the history, with no look at how it is judged.

A history is what happened, in order: looks that succeeded, looks that failed, and time that passed. Its times
are what the clock showed, which may step back. "For how long, by the clock" is therefore the longest stretch
that the clock itself showed since: the last time minus the earliest one since then.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import FailureReason, Job, JobState
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoResponseError,
    ArroyoTlsError,
)
from airflow_provider_arroyo.monitoring.explain import Subject, explain
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

START = 1_795_572_000.0
SECRET = "hunter2"
RESTING = {"Stopped", "Finished", "Failed", "Failing"}
TERMINAL = {"Stopped", "Finished", "Failed"}
ALMOST = 1e-5
"""More than what is lost where moments since the epoch are added."""

# No assertion here is about speed, so a busy machine must not fail it.
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# -- histories ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One thing that happened: a look (``job``, maybe None), a failed look (``error``), or only time."""

    kind: str
    at: float
    job: Job | None = None
    error: ArroyoError | None = None


def api_error(kind: type[ArroyoApiError], status: int) -> ArroyoApiError:
    return kind(f"answered {status}", status=status, method="GET", path="/pipelines/pl_1/jobs")


OUTAGES: list[ArroyoError] = [
    ArroyoConnectionError("refused", method="GET", path="/"),
    *(api_error(ArroyoApiError, status) for status in (429, 500, 502, 503, 504)),
]
ERRORS: list[ArroyoError] = [
    *OUTAGES,
    ArroyoTlsError("unknown CA"),
    api_error(ArroyoAuthError, 401),
    api_error(ArroyoAuthError, 403),
    api_error(ArroyoApiError, 400),
    api_error(ArroyoNotFoundError, 404),
    api_error(ArroyoResponseError, 200),
    ArroyoError("something else"),
]

jobs = st.builds(
    Job,
    id=st.sampled_from(["job_a", "job_a", "job_a", "job_b"]),
    state=st.one_of(
        st.just("Running"),
        st.just("Running"),
        st.sampled_from([*map(str, JobState), "Failed", "Stopped", "Hibernating"]),
    ),
    run_id=st.integers(0, 3),
    running_desired=st.sampled_from([True, True, True, False]),
    failure=st.sampled_from([None, None, FailureReason("no such file", "user"), FailureReason("too often")]),
    env_vars=st.just({"PASSWORD": SECRET}),
    scheduler_config=st.just({"token": SECRET}),
)

short_steps = st.sampled_from([0.5, 0.0, 0.02, 0.1, 1.0, 2.0, 5.0])
steps = st.one_of(
    short_steps,
    short_steps,
    short_steps,
    st.floats(0, 20, allow_nan=False),
    st.sampled_from([60.0, 301.0, 700.0, -0.05, -3.0, -400.0]),
)
forward_steps = steps.filter(lambda seconds: seconds >= 0)


def histories(moves: st.SearchStrategy[float] = steps) -> st.SearchStrategy[list[Event]]:
    """Histories of a few things that are shown again and again, so that states last and come back."""
    kinds = st.sampled_from(["look"] * 18 + ["outage", "outage", "outage", "error", "none", "time"])
    return st.builds(
        _history,
        st.lists(jobs, min_size=1, max_size=3),
        st.lists(st.tuples(moves, kinds, st.integers(0, 11)), min_size=1, max_size=16),
    )


def _history(seen: list[Job], script: list[tuple[float, str, int]]) -> list[Event]:
    now, events = START, []
    for move, kind, choice in script:
        now += move
        if kind == "look":
            events.append(Event("look", now, job=seen[choice % len(seen)]))
        elif kind == "none":
            events.append(Event("look", now))
        elif kind == "time":
            events.append(Event("time", now))
        else:
            errors = OUTAGES if kind == "outage" else ERRORS
            events.append(Event("error", now, error=errors[choice % len(errors)]))
    return events


baselines = st.one_of(
    st.none(),
    st.builds(
        lambda job, ago: Baseline.of(job, asked_at=START - ago), jobs, st.sampled_from([0.0, 0.01, 3.0, -2.0])
    ),
)

plans = st.builds(
    WaitPlan,
    pipeline_id=st.just("pl_1"),
    targets=st.one_of(
        st.just(frozenset({"Running"})),
        st.just(frozenset({"Running"})),
        st.just(frozenset(TERMINAL)),
        st.frozensets(st.sampled_from([state.value for state in JobState]), min_size=1, max_size=3),
    ),
    deadline=st.sampled_from([START + seconds for seconds in (*[90_000] * 9, 900, 30, 3, 0)]),
    stable_for=st.sampled_from([timedelta(seconds=seconds) for seconds in (2, 2, 0.5, 0, 60)]),
    finished_is_success=st.booleans(),
    stopped_is_final=st.booleans(),
    baseline=baselines,
    outage_tolerance=st.sampled_from([timedelta(seconds=seconds) for seconds in (600, 600, 600, 3, 0)]),
    stale_grace=st.sampled_from([timedelta(seconds=5), timedelta(seconds=5), timedelta(0)]),
    heartbeat=st.sampled_from([timedelta(seconds=1), timedelta(minutes=5)]),
)


# -- running one -------------------------------------------------------------------------------------------------


def show(wait: PipelineWait, event: Event) -> Verdict:
    if event.kind == "look":
        return wait.observe(event.job, event.at)
    if event.error is not None:
        return wait.observe_error(event.error, event.at)
    return wait.tick(event.at)


@dataclass
class Run:
    """A wait as far as it got: the events up to the one that ended it, and what was said of each."""

    plan: WaitPlan
    events: list[Event] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def ended(self) -> Verdict | None:
        return self.verdicts[-1] if self.verdicts[-1].is_over else None

    def since(self, index: int) -> float:
        """For how long, by the clock, after the event of that index, at the last one."""
        return self.events[-1].at - min(event.at for event in self.events[index:])


def run(plan: WaitPlan, events: Sequence[Event], moves: Sequence[bool] = ()) -> Run:
    """Show events until the wait is over; where ``moves`` says so, another process goes on before an event."""
    done = Run(plan)
    wait = PipelineWait(plan, now=START)
    for index, event in enumerate(events):
        if index < len(moves) and moves[index]:
            carried = json.loads(json.dumps({"plan": wait.plan.to_dict(), "progress": wait.progress()}))
            wait = PipelineWait(
                WaitPlan.from_dict(carried["plan"]), now=event.at, progress=carried["progress"]
            )
        done.events.append(event)
        done.verdicts.append(show(wait, event))
        done.notes.extend(wait.notes())
        if done.verdicts[-1].is_over:
            break
    return done


def fresh(plan: WaitPlan, job: Job) -> bool:
    return plan.baseline is None or job.id != plan.baseline.job_id or job.run_id > plan.baseline.run_id


def shows_a_change(plan: WaitPlan, job: Job) -> bool:
    """Whether a state can only have come after the change; an old Failing ends in Failed by itself."""
    assert plan.baseline is not None
    if (plan.baseline.state, job.state) == ("Failing", "Failed") and not fresh(plan, job):
        return False
    return job.state != plan.baseline.state


def unbroken(events: Sequence[Event], *, strictly: bool) -> int:
    """Index of the first of the looks that have shown what the last one shows, without another in between.

    Strictly means that running_desired was the same too, and that no look showed no job at all.
    """

    def key(job: Job) -> tuple[Any, ...]:
        return (job.id, job.run_id, job.state, job.running_desired if strictly else None)

    last = events[-1].job
    assert last is not None
    first = len(events) - 1
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if event.kind == "look" and event.job is None and strictly:
            break
        if event.job is not None:
            if key(event.job) != key(last):
                break
            first = index
    return first


def last_recovery(events: Sequence[Event]) -> int | None:
    """Index of the last look that succeeded after one that failed."""
    found, away = None, False
    for index, event in enumerate(events):
        if event.kind == "error":
            away = True
        elif event.kind == "look" and away:
            found, away = index, False
    return found


# -- what must hold ----------------------------------------------------------------------------------------------


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
    rises = sum(
        max(0, later.run_id - earlier.run_id)
        for earlier, later in itertools.pairwise(shown)
        if earlier.id == later.id and earlier.run_id > 0 and fresh(plan, earlier)
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
