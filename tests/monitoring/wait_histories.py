"""Histories for the properties of a wait: what may happen, and what a wait makes of it.

A history is what happened, in order: looks that succeeded, looks that failed, and time that passed. Its times
are what the clock showed, which may step back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

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
from airflow_provider_arroyo.monitoring.notes import Note
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Verdict
from airflow_provider_arroyo.monitoring.wait import PipelineWait

START = 1_795_572_000.0
SECRET = "hunter2"
RESTING = {"Stopped", "Finished", "Failed", "Failing"}
TERMINAL = {"Stopped", "Finished", "Failed"}
ALMOST = 1e-5
"""More than what is lost where moments since the epoch are added."""


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
    """Show events until the wait is over; where ``moves`` says so, another process goes on before an event.

    It takes over at once, since time in which nobody looks is no outage.
    """
    done = Run(plan)
    wait = PipelineWait(plan, now=START)
    for index, event in enumerate(events):
        if index < len(moves) and moves[index]:
            carried = json.loads(json.dumps({"plan": wait.plan.to_dict(), "progress": wait.progress()}))
            wait = PipelineWait(
                WaitPlan.from_dict(carried["plan"]),
                now=carried["progress"]["now"],
                progress=carried["progress"],
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
