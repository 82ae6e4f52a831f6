"""Restarts of a pipeline: which runs began by themselves, and when. The same rule for waits and for events."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.wire import JsonValue, from_json

_REQUESTED = TERMINAL_STATES | {JobState.RESTARTING, JobState.RESCALING}
"""The states after which a new run is the effect of a request, and no failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun(JsonValue):
    """The run of a job as it was seen last, by which the next ones are counted.

    :param job_id, run_id: which.
    :param ends_by_request: whether a state was seen in it that only a request brings; default False.
    """

    job_id: str
    run_id: int
    ends_by_request: bool = False

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the run of a job that was not seen before."""
        return cls(job_id=job.id, run_id=job.run_id, ends_by_request=job.state in _REQUESTED)

    def follow(self, job: Job, *, first_run: int = 1) -> tuple[Self, int]:
        """Return the run that is seen now, and how many began by themselves since the last one.

        A poll can miss every state between two runs; the numbers of the runs show them. A request shows only in the
        states before its run, so one that takes less time than from poll to poll may count.

        :param job: as it is now, in the same run or a later one.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartMemory(JsonValue):
    """What a wait remembers of a pipeline's restarts, for a later wait of the same task.

    :param run: the run that was seen last.
    :param seen_at: when, seconds since the epoch.
    :param restarts: how often it restarted by itself.
    :param restarted_at: when, for the last of them.
    """

    run: SeenRun
    seen_at: float
    restarts: int = 0
    restarted_at: tuple[float, ...] = ()

    @classmethod
    def read(cls, data: Any) -> Self | None:
        """Return what ``to_dict`` wrote; None where that is not what it is."""
        try:
            memory = from_json(cls, data)
        except ValueError:
            return None
        return memory if all(map(math.isfinite, (memory.seen_at, *memory.restarted_at))) else None


def restart_times(count: int, *, since: float | None, now: float, most: int) -> tuple[float, ...]:
    """Return when restarts happened that one poll showed, seconds since the epoch.

    Those that nobody could see one by one are taken as spread evenly over the time in which nobody polled: all at
    once, a week without a triggerer would look like a pipeline that flaps.

    :param count: how many.
    :param since: since when nobody polled; None where polls came at their interval.
    :param now: when they were seen.
    :param most: how many are wanted at most, the last ones.
    """
    shown = range(max(0, count - most) + 1, count + 1)
    if since is None or since >= now:
        return (now,) * len(shown)
    return tuple(since + (now - since) * number / count for number in shown)
