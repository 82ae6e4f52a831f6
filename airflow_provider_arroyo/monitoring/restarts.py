"""Restarts of a pipeline: which runs began by themselves, and when. The same rule for waits and events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.wire import JsonValue

_REQUESTED = TERMINAL_STATES | {JobState.RESTARTING, JobState.RESCALING}
"""The states after which a new run was requested, and is not due to a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun(JsonValue):
    """The last run of a job that was seen; later runs are counted from it.

    :param job_id, run_id: the run.
    :param ends_by_request: whether a state was seen in it that only a request causes; default False.
    """

    job_id: str
    run_id: int
    ends_by_request: bool = False

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the run of a job that was not seen before."""
        return cls(job_id=job.id, run_id=job.run_id, ends_by_request=job.state in _REQUESTED)

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
            return replace(now, ends_by_request=now.ends_by_request or self.ends_by_request), 0
        runs = max(0, job.run_id - max(self.run_id, first_run))
        is_requested = self.ends_by_request and self.run_id >= first_run
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
