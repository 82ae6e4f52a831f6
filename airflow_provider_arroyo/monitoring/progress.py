"""What a wait remembers between polls, and passes from one process to the next. It records, and decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from operator import attrgetter
from typing import Any, Self

from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.checkpoints import SETTLES_SECONDS, ProofOfLife
from airflow_provider_arroyo.monitoring.condition import Finding
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import MAX_TRANSITIONS, Transition, WaitStats

RESTARTED_SECONDS = 1.0
"""After polls failed for this many seconds, the server may have been restarted. Hiccups of a gateway are shorter, and
so frequent on a bad network that otherwise no state would ever count.
"""

STEADY_SECONDS = 60.0
"""Failures that begin less than this many seconds after others belong to the same fault, which was already logged."""

_SHOWN = attrgetter("id", "run_id", "state", "running_desired")
"""What of a job is logged when it changes."""

# Frozen, so that all waits share them.
_NO_PROOF, _NO_FINDING, _NO_STATS = ProofOfLife(), Finding(), WaitStats()

_REQUESTED = TERMINAL_STATES | {JobState.RESTARTING, JobState.RESCALING}
"""The states after which a new run was requested, and is not due to a failure."""

_STOPPING = frozenset({JobState.CHECKPOINT_STOPPING, JobState.STOPPING})
"""The states that end in ``Stopped`` even if the stop is withdrawn; then ``Stopped`` is too short to be polled."""

_NOT_STOPPING = AT_WORK | {JobState.RECOVERING}
"""The states of a run whose stop was withdrawn in time, or that failed instead."""

_WHILE_POLLED = {"responded_at", "outage_since", "failing_since", "unreadable_since", "responding_since"}
_WHILE_POLLED |= {"foreign_since", "held_since", "old_since", "desired_since"}
"""The times from which something counts only while polls are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun(JsonValue):
    """The last run of a job that was seen; later runs are counted from it.

    :param job_id, run_id: the run.
    :param ends_by_request: whether a state was seen in it that only a request causes; default False.
    :param is_stopping: whether it was about to stop when it was last seen, even if that request was withdrawn too
        late, so that a later run which is to go on was requested, too; default False.
    """

    job_id: str
    run_id: int
    ends_by_request: bool = False
    is_stopping: bool = False

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the run of a job that was not seen before."""
        return cls(
            job_id=job.id,
            run_id=job.run_id,
            ends_by_request=job.state in _REQUESTED,
            is_stopping=job.running_desired is False or job.state in _STOPPING,
        )

    def follow(self, job: Job, *, first_run: int = 1) -> tuple[Self, int]:
        """Return the current run, and how many runs began by themselves since this one.

        A poll can miss all states between two runs, but the run numbers show them. A request shows only in the states
        before its run, so a requested restart that is faster than the poll interval may count.

        :param job: the job now, in the same run or a later one.
        :param first_run: the first run that was requested, by the wait's own change or by the create.
        """
        now = self.of(job)
        if job.id != self.job_id:
            return now, 0
        if job.run_id == self.run_id:
            # Before the next run, the state can change once more: Restarting 1, Scheduling 1, Scheduling 2.
            was_stopping = self.is_stopping and job.state not in _NOT_STOPPING
            return replace(
                now,
                ends_by_request=now.ends_by_request or self.ends_by_request,
                is_stopping=now.is_stopping or was_stopping,
            ), 0
        runs = max(0, job.run_id - max(self.run_id, first_run))
        is_resumed = self.is_stopping and job.running_desired is True
        is_requested = (self.ends_by_request or is_resumed) and self.run_id >= first_run
        return now, max(0, runs - 1) if is_requested else runs


def restart_times(count: int, *, since: float | None, now: float, most: int) -> tuple[float, ...]:
    """Return when the restarts that one poll showed happened, seconds since the epoch.

    If nobody polled for a while, they are spread evenly over that time. Otherwise, after a week without a triggerer,
    the pipeline would seem to be flapping.

    :param count: the number of restarts.
    :param since: since when nobody polled; None if polls came at their interval.
    :param now: when they were seen.
    :param most: the maximum number of times to return; the last ones.
    """
    shown = range(max(0, count - most) + 1, count + 1)
    if since is None or since >= now:
        return (now,) * len(shown)
    return tuple(since + (now - since) * number / count for number in shown)


@dataclass(slots=True)
class Progress(JsonValue):
    """The memory of one wait. Times are seconds since the epoch, and none is later than ``now``.

    :param started_at: when the wait began.
    :param now: the latest time that the wait was given.
    :param responding_since: since when Arroyo has responded without an outage; before its first response, when the
        change was requested.
    :param logged_at: when the last message was written.
    :param job: the job as last seen.
    :param state_since: when its state and run were first seen.
    :param held_since: since when a wanted state has been seen without a break in one run; None if it is not.
    :param desired_since: since when the pipeline has been asked to run; None if it is not, or that is unknown.
    :param missing_since: since when there has been no such pipeline; None if it exists.
    :param elsewhere: if it is missing: which other Airflow has one of that name; empty if none has.
    :param jobless_since: since when the pipeline has had no job, after it had one; otherwise None.
    :param old_since: since when all responses have been about an earlier run; otherwise None.
    :param run_since: when its run was first seen.
    :param proof: what is known about the checkpoints of the job's run.
    :param finding: what is known about the condition.
    :param details_at: when the details of the job were last requested; None if they were not.
    :param details_seconds: how long that took.
    :param details_error: why the last reading of the details failed, if it did.
    :param unreadable_since: since when the details have been unreadable; otherwise None.
    :param left_baseline: whether another state than the baseline's was seen.
    :param restarts: how many new runs began by themselves.
    :param counting_since: since when an earlier wait of the same task counted them; otherwise None.
    :param restarted_at: when the last of them began, as many as are needed.
    :param seen_run: the last run that was seen, possibly by an earlier wait of the same task.
    :param unseen_since: since when nobody has polled, or no poll has succeeded; None while polls succeed.
    :param responded_at: when a poll last succeeded.
    :param outage_since: while polls fail: when the last one succeeded, or the wait began; otherwise None.
    :param foreign_since: since when something else has responded, if Arroyo never has; otherwise None.
    :param failing_since: while polls fail: when the first failed one was sent; otherwise None.
    :param failures: number of consecutive failed tries.
    :param failed_at: when the last failed try failed.
    :param is_unsteady: whether these failures began soon after others whose retries were already logged as warnings.
    :param last_error: the error of the last poll, if it failed.
    :param transitions: the last changes of state.
    :param stats: counts and times.
    """

    started_at: float
    now: float
    responding_since: float
    logged_at: float
    job: Job | None = None
    state_since: float = 0.0
    held_since: float | None = None
    desired_since: float | None = None
    missing_since: float | None = None
    elsewhere: str = ""
    jobless_since: float | None = None
    old_since: float | None = None
    run_since: float = 0.0
    proof: ProofOfLife = _NO_PROOF
    finding: Finding = _NO_FINDING
    details_at: float | None = None
    details_seconds: float = 0.0
    details_error: ArroyoError | None = None
    unreadable_since: float | None = None
    left_baseline: bool = False
    restarts: int = 0
    counting_since: float | None = None
    restarted_at: tuple[float, ...] = ()
    seen_run: SeenRun | None = None
    unseen_since: float | None = None
    responded_at: float | None = None
    outage_since: float | None = None
    foreign_since: float | None = None
    failing_since: float | None = None
    failures: int = 0
    failed_at: float | None = None
    is_unsteady: bool = False
    last_error: ArroyoError | None = None
    transitions: tuple[Transition, ...] = ()
    stats: WaitStats = _NO_STATS

    @classmethod
    def begin(cls, plan: WaitPlan, now: float) -> Self:
        """Return the memory of a wait that has seen nothing yet."""
        requested_at = plan.baseline.requested_at if plan.baseline is not None else now
        return cls(started_at=now, now=now, responding_since=min(requested_at, now), logged_at=now)

    @classmethod
    def restore(cls, data: Any, plan: WaitPlan, now: float) -> Self:
        """Read the output of ``to_dict``; if it is something else, return the memory of a wait that has seen nothing.

        :param data: the memory of the process that waited before, of this version or another one; None without one.
        :param plan: the plan of the wait.
        :param now: the time by the clock of this process, which may be behind that of the other.
        """
        try:
            p = from_json(cls, data)
        except ValueError:
            return cls.begin(plan, now)
        # While nobody polled, for example because no triggerer ran, no state or outage was observed. The time since
        # then may also be only a step of the machine's clock.
        not_polled = max(0.0, now - p.now)
        if p.unseen_since is None:
            p.unseen_since = p.now
        for name, time in p._times().items():
            setattr(p, name, time + not_polled if name in _WHILE_POLLED else time)
        p.now = float("inf")
        p.follow(now)
        return p

    def recall(self, earlier: Progress, plan: WaitPlan) -> None:
        """Take over what an earlier wait of the same task counted."""
        if plan.checkpoint is not None:
            self.finding = Finding(memory=earlier.finding.memory)
        if plan.max_restarts is not None and earlier.seen_run is not None:
            self.seen_run, self.restarts = earlier.seen_run, earlier.restarts
            self.counting_since = min(earlier.counting_since or earlier.started_at, self.now)
            self.restarted_at = tuple(min(at, self.now) for at in earlier.restarted_at)
            seen_at = earlier.now if earlier.unseen_since is None else earlier.unseen_since
            self.unseen_since = min(seen_at, self.now)

    @property
    def present_job(self) -> Job | None:
        """The job as last seen; None if the pipeline has none, or none any more."""
        return self.job if self.jobless_since is None else None

    @property
    def is_announced(self) -> bool:
        """Whether so many polls have failed that the outage was logged."""
        return self.failures > POLL_RETRIES

    @property
    def settled_at(self) -> float:
        """The time from which a state without new checkpoints is certain to bring none."""
        return self.state_since + SETTLES_SECONDS

    @property
    def was_read_settled(self) -> bool:
        """Whether the details were read after the current state had settled."""
        at = self.details_at
        return self.details_error is None and at is not None and at >= self.settled_at

    def restarts_within(self, window: timedelta | None, now: float) -> int:
        """Return how many restarts were within the time before now; None stands for the whole wait."""
        if window is None:
            return self.restarts
        return sum(at > now - window.total_seconds() for at in self.restarted_at)

    # -- recording -------------------------------------------------------------------------------------------------

    def follow(self, now: float) -> None:
        """Follow the clock; after it stepped back, what was seen later than now counts as seen now."""
        if now < self.now:
            for name, time in self._times().items():
                setattr(self, name, min(time, now))
            self.restarted_at = tuple(min(time, now) for time in self.restarted_at)
        self.now = now

    def _times(self) -> dict[str, float]:
        """Return the times that are set, by name, except ``now``."""
        names = (one.name for one in fields(self) if one.name.endswith(("_at", "_since")))
        times = {name: getattr(self, name) for name in names if name != "restarted_at"}
        return {name: time for name, time in times.items() if time is not None}

    def responded(self, now: float) -> None:
        """Record that Arroyo has responded."""
        self.follow(now)
        if self.failing_since is not None and now - self.failing_since >= RESTARTED_SECONDS:
            self.responding_since, self.unreadable_since = now, None
        self.responded_at, self.failures = now, 0
        self.outage_since = self.foreign_since = self.failing_since = self.last_error = None

    def begin_outage(self, now: float, sent_at: float, *, is_late: bool) -> None:
        """Record the first failure after a response.

        :param now: when it failed.
        :param sent_at: when that poll was sent.
        :param is_late: whether polls are rarer than the tolerance, so that the outage counts from this poll: nobody
            asked before.
        """
        self.failing_since = sent_at
        if self.unseen_since is None:
            self.unseen_since = self.responded_at
        self.outage_since = self.started_at if self.responded_at is None else self.responded_at
        if is_late:
            self.outage_since = sent_at
        self.is_unsteady = self.failed_at is not None and now < self.failed_at + STEADY_SECONDS

    def forget_job(self) -> None:
        """Record that the job no longer exists, or is that of another pipeline than the wait is for."""
        self.job = self.jobless_since = self.held_since = None

    def see(self, job: Job, plan: WaitPlan, now: float) -> bool:
        """Record a job, and return whether it shows a change that is to be logged.

        :param job: the job; must not be stale.
        :param plan: the plan of the wait.
        :param now: when it was seen.
        """
        before, was_jobless = self.job, self.jobless_since is not None
        self._count_restarts(job, plan, now)
        self.job, self.jobless_since, self.old_since, self.unseen_since = job, None, None, None
        if not job.running_desired:
            self.desired_since = None
        elif self.desired_since is None:
            self.desired_since = now
        if plan.baseline is not None and plan.baseline.was_left(job):
            self.left_baseline = True
        if before is not None and not was_jobless and _SHOWN(before) == _SHOWN(job):
            return False
        if before is None or (before.id, before.run_id) != (job.id, job.run_id):
            before = None  # of another run
            self.run_since, self.proof = now, ProofOfLife.of_run(job)
            self.details_at = self.details_error = self.unreadable_since = None
            self.finding = replace(self.finding, facts=None, is_unsettled=False)
        if before is None or was_jobless or before.state != job.state:
            self.state_since = now
        if before is None or not {before.state, job.state} <= AT_WORK:
            self.held_since = None
        transition = Transition.of(job, now)
        # The same as before, if there was a response without a job in between.
        if not self.transitions or not transition.is_same(self.transitions[-1]):
            self.transitions = (*self.transitions, transition)[-MAX_TRANSITIONS:]
        self.logged_at = now
        return True

    def _count_restarts(self, job: Job, plan: WaitPlan, now: float) -> None:
        # The runs up to that of this wait's change, or the job's first, are no restarts.
        baseline, first_run = plan.baseline, 1
        if baseline is not None and baseline.job_id == job.id:
            first_run = baseline.run_id + 1
        before = self.seen_run or SeenRun.of(self.job or job)
        self.seen_run, restarts = before.follow(job, first_run=first_run)
        self.restarts += restarts
        self.stats = self.stats.plus(restarts=restarts) if restarts else self.stats
        if plan.max_restarts is not None and plan.restart_window is not None:
            # More than that end the wait.
            most = plan.max_restarts + 1
            seen = restart_times(restarts, since=self.unseen_since, now=now, most=most)
            self.restarted_at = (*self.restarted_at, *seen)[-most:]
