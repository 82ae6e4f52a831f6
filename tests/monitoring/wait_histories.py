"""Histories for the properties of a wait: what may happen, and how a wait reacts.

A history is a list of what happened: polls that succeeded, tries of polls that failed, and time that passed. Its
times are those of the clock, which may step back.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoTlsError,
)
from airflow_provider_arroyo.monitoring.messages import Message
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.progress import RESTARTED_SECONDS
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import FOREIGN, GONE, ORDERS, REFUSED, T0, api_error

SECRET = "hunter2"
TERMINAL = {"Stopped", "Finished", "Failed"}
LASTING = {*TERMINAL, "Failing"}
"""States that no controller leaves without a request."""
ALMOST = 1e-5
"""More than the rounding error when times since the epoch are added."""


@dataclass(frozen=True)
class Event:
    """One event: a poll (``job``, may be None), a try that failed (``error``), or only passing time."""

    kind: str
    at: float
    job: Job | None = None
    error: ArroyoError | None = None
    sent_at: float | None = None


RETRIED: list[ArroyoError] = [
    REFUSED,
    ArroyoConnectionError("reset", method="GET", path="/"),
    FOREIGN,
    *(api_error(status) for status in (429, 500, 502, 503, 504)),
]
ERRORS: list[ArroyoError] = [
    *RETRIED,
    ArroyoTlsError("unknown CA"),
    api_error(401, ArroyoAuthError),
    api_error(403, ArroyoAuthError),
    api_error(400, ArroyoApiError),
    GONE,
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
    """Histories of a few jobs that are shown repeatedly, so that states last and recur."""
    kinds = st.sampled_from(["poll"] * 18 + ["failed", "failed", "outage", "error", "none", "time"])
    return st.builds(
        _history,
        st.lists(jobs, min_size=1, max_size=3),
        st.lists(st.tuples(moves, kinds, st.integers(0, 13)), min_size=1, max_size=16),
    )


def _history(seen: list[Job], script: list[tuple[float, str, int]]) -> list[Event]:
    now, events = T0, []
    for move, kind, choice in script:
        before, now = now, now + move
        sent_at = min(now, max(before, now - choice / 8))
        if kind == "poll":
            events.append(Event("poll", now, job=seen[choice % len(seen)]))
        elif kind == "none":
            events.append(Event("poll", now))
        elif kind == "time":
            events.append(Event("time", now))
        elif kind == "error":
            events.append(Event("error", now, error=ERRORS[choice % len(ERRORS)], sent_at=sent_at))
        else:
            error = RETRIED[choice % len(RETRIED)]
            events.append(Event("error", now, error=error, sent_at=sent_at))
            # As many more tries as announce an outage, or one fewer.
            for _ in range(choice if kind == "outage" else 0):
                now += 0.125
                events.append(Event("error", now, error=error))
    return events


plans = st.builds(
    WaitPlan,
    pipeline=st.just(ORDERS),
    target_states=st.one_of(
        st.just(frozenset({"Running"})),
        st.just(frozenset({"Running"})),
        st.just(frozenset(TERMINAL)),
        st.frozensets(st.sampled_from([state.value for state in JobState]), min_size=1, max_size=3),
    ),
    deadline=st.sampled_from([T0 + seconds for seconds in (*[90_000] * 9, 900, 30, 3, 0)]),
    stable_for=st.sampled_from([timedelta(seconds=seconds) for seconds in (2, 2, 0.5, 0, 60)]),
    finished_is_success=st.booleans(),
    stopped_is_final=st.booleans(),
    resume_is_final=st.sampled_from([False, False, True]),
    restart_requested=st.booleans(),
    baseline=st.none()
    | st.builds(
        lambda job, ago: Baseline.of(job, requested_at=T0 - ago),
        jobs,
        st.sampled_from([0.0, 0.01, 3.0, -2.0]),
    ),
    outage_tolerance=st.sampled_from([timedelta(seconds=seconds) for seconds in (600, 600, 600, 3, 0)]),
    stale_grace=st.sampled_from([timedelta(seconds=5), timedelta(seconds=5), timedelta(0)]),
    heartbeat=st.sampled_from([timedelta(seconds=1), timedelta(minutes=5)]),
)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


# -- running one -------------------------------------------------------------------------------------------------


def show(wait: PipelineWait, event: Event) -> WaitResult:
    if event.kind == "poll":
        return wait.observe(event.job, event.at)
    if event.error is not None:
        return wait.observe_error(event.error, event.at, sent_at=event.sent_at)
    return wait.tick(event.at)


@dataclass
class Run:
    """A wait so far: the events up to the one that ended it, the result after each, and the log."""

    plan: WaitPlan
    events: list[Event] = field(default_factory=list)
    results: list[WaitResult] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    @property
    def ended(self) -> WaitResult | None:
        return self.results[-1] if self.results[-1].is_over else None

    def since(self, index: int) -> float:
        """How long, by the clock, since the event with that index."""
        return self.events[-1].at - min(event.at for event in self.events[index:])


def run(plan: WaitPlan, events: Sequence[Event], moves: Sequence[bool] = ()) -> Run:
    """Show events until the wait is over; before an event whose entry in ``moves`` is true, another process takes
    over.

    It takes over at once, since time without polls is not an outage. Events with an earlier run than before are left
    out: they are ignored, which has its own tests.
    """
    done = Run(plan)
    wait = PipelineWait(plan, now=T0)
    for index, event in enumerate(without_old(plan, events)):
        if index < len(moves) and moves[index]:
            wait = moved(wait)
        done.events.append(event)
        done.results.append(show(wait, event))
        done.messages.extend(wait.messages())
        if done.results[-1].is_over:
            break
    return done


def without_old(plan: WaitPlan, events: Sequence[Event]) -> list[Event]:
    """Return the events; a poll that shows a job in an earlier run than before becomes passing time."""
    before = None if plan.baseline is None else (plan.baseline.job_id, plan.baseline.run_id)
    last, kept = before, []
    for event in events:
        job = event.job
        known = () if job is None else [one for one in (before, last) if one is not None and one[0] == job.id]
        if job is not None and any(job.run_id < run_id for _, run_id in known):
            kept.append(Event("time", event.at))
            continue
        last = last if job is None else (job.id, job.run_id)
        kept.append(event)
    return kept


def moved(wait: PipelineWait) -> PipelineWait:
    """Return the wait as another process continues it at once, from JSON."""
    plan, progress = json.loads(json.dumps([wait.plan.to_dict(), wait.progress.to_dict()]))
    return PipelineWait(WaitPlan.from_dict(plan), now=progress["now"], progress=progress)


def is_fresh(plan: WaitPlan, job: Job) -> bool:
    return plan.baseline is None or job.id != plan.baseline.job_id or job.run_id > plan.baseline.run_id


def shows_a_change(plan: WaitPlan, job: Job) -> bool:
    """Whether a state can only have come after the change; an old Failing ends in Failed by itself."""
    assert plan.baseline is not None
    if (plan.baseline.state, job.state) == ("Failing", "Failed") and not is_fresh(plan, job):
        return False
    # A requested restart may still follow it.
    if plan.restart_requested and job.state in ("Failing", "Failed") and not is_fresh(plan, job):
        return False
    return job.state != plan.baseline.state


def is_withdrawn(plan: WaitPlan, job: Job) -> bool:
    """Whether the pipeline was asked to run again although the wait is for its stop, and it has not stopped."""
    ends = {"Failing", "Failed", "Finished"}
    if plan.baseline is None or is_fresh(plan, job) or plan.baseline.state != "Stopped":
        ends.add("Stopped")
    return plan.resume_is_final and bool(job.running_desired) and job.state not in ends


def unbroken(events: Sequence[Event], *, strictly: bool, targets: Collection[str] = ()) -> int:
    """Index of the first of the uninterrupted polls that show what the last one shows.

    Strictly means that running_desired was the same, too, and that every poll showed a job. If Running is a target,
    Finishing is the same state.
    """

    def key(job: Job) -> tuple[Any, ...]:
        is_running = job.state == "Finishing" and "Running" in targets
        state = "Running" if is_running else job.state
        return (job.id, job.run_id, state, job.running_desired if strictly else None)

    last = events[-1].job
    assert last is not None
    first = len(events) - 1
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if event.kind == "poll" and event.job is None and strictly:
            break
        if event.job is not None:
            if key(event.job) != key(last):
                break
            first = index
    return first


def last_recovery(events: Sequence[Event], failing_seconds: float) -> int | None:
    """Index of the last poll that succeeded after a long time of failed tries; None if there is none."""
    found: int | None = None
    failing_since: float | None = None
    for index, event in enumerate(events):
        if event.kind == "error" and failing_since is None:
            failing_since = event.at if event.sent_at is None else event.sent_at
        if failing_since is None:
            continue
        failing_since = min(failing_since, event.at)
        if event.kind == "poll":
            if event.at - failing_since >= failing_seconds:
                found = index
            failing_since = None
    return found


def assert_it_lasted(done: Run, wanted: float) -> None:
    first = unbroken(done.events, strictly=True, targets=done.plan.target_states)
    assert done.since(first) >= wanted - ALMOST
    recovery = last_recovery(done.events, RESTARTED_SECONDS + ALMOST)
    if recovery is not None:
        # A response after an outage can show the state before it.
        grace = done.plan.stale_grace.total_seconds()
        assert done.since(recovery) >= min(wanted, grace) - ALMOST


def assert_it_is_not_stale(done: Run, job: Job) -> None:
    plan = done.plan
    assert plan.baseline is not None
    if plan.baseline.state == job.state == "Finished":
        assert {"Stopped", "Finished"} <= plan.target_states
        return
    if any(event.job is not None and shows_a_change(plan, event.job) for event in done.events):
        return
    grace = plan.stale_grace.total_seconds()
    assert done.since(unbroken(done.events, strictly=False)) >= grace - ALMOST
    recovery = last_recovery(done.events, RESTARTED_SECONDS + ALMOST)
    assert recovery is None or done.since(recovery) >= grace - ALMOST
