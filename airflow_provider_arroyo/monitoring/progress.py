"""What a wait remembers between polls, and passes from one process to the next."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Finding
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.proof import ProofOfLife
from airflow_provider_arroyo.monitoring.restarts import SeenRun
from airflow_provider_arroyo.monitoring.stats import WaitStats
from airflow_provider_arroyo.monitoring.transitions import Transition

_WHILE_POLLED = {"responded_at", "outage_since", "failing_since", "unreadable_since", "responding_since"}
_WHILE_POLLED |= {"held_since", "old_since", "desired_since"}
"""The times from which something counts only while polls are sent."""


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
    :param restarted_at: when the last of them began, as many as are needed.
    :param seen_run: the last run that was seen, possibly by an earlier wait of the same task.
    :param unseen_since: since when nobody has polled, or no poll has succeeded; None while polls succeed.
    :param responded_at: when a poll last succeeded.
    :param outage_since: while polls fail: when the last one succeeded, or the wait began; otherwise None.
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
    proof: ProofOfLife = field(default_factory=ProofOfLife)
    finding: Finding = field(default_factory=Finding)
    details_at: float | None = None
    details_seconds: float = 0.0
    details_error: ArroyoError | None = None
    unreadable_since: float | None = None
    left_baseline: bool = False
    restarts: int = 0
    restarted_at: tuple[float, ...] = ()
    seen_run: SeenRun | None = None
    unseen_since: float | None = None
    responded_at: float | None = None
    outage_since: float | None = None
    failing_since: float | None = None
    failures: int = 0
    failed_at: float | None = None
    is_unsteady: bool = False
    last_error: ArroyoError | None = None
    transitions: tuple[Transition, ...] = ()
    stats: WaitStats = field(default_factory=WaitStats)

    @classmethod
    def begin(cls, plan: WaitPlan, now: float) -> Self:
        """Return the memory of a wait that has seen nothing yet."""
        requested_at = plan.baseline.requested_at if plan.baseline is not None else now
        return cls(started_at=now, now=now, responding_since=min(requested_at, now), logged_at=now)

    def recall(self, earlier: Progress, plan: WaitPlan) -> None:
        """Take over what an earlier wait of the same task counted."""
        if plan.checkpoint is not None:
            self.finding = Finding(memory=earlier.finding.memory)
        if plan.max_restarts is not None and earlier.seen_run is not None:
            self.seen_run, self.restarts = earlier.seen_run, earlier.restarts
            self.restarted_at = tuple(min(at, self.now) for at in earlier.restarted_at)
            seen_at = earlier.now if earlier.unseen_since is None else earlier.unseen_since
            self.unseen_since = min(seen_at, self.now)

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
