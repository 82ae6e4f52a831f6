"""What a wait counts and times, for Airflow's metrics. Plain values that cross processes with the wait."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from airflow_provider_arroyo.client.enums import AT_WORK
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.monitoring.plan import WaitPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStats(JsonValue):
    """What a wait has counted and timed so far.

    Times are measured from the request for the change, or from the creation of the pipeline. A wait for neither, such
    as a sensor's, has no times.

    :param polls: how often Arroyo was asked for the pipeline's state, including retries. A poll that several waits
        share counts for each of them.
    :param retries: how many of these failed and were retried.
    :param outages: how often an outage of Arroyo was logged.
    :param running_seconds: until the pipeline was first seen ``Running``; None if it was not, or should stop.
    :param checkpoint_seconds: until a finished checkpoint of its run was first seen; None if none was needed.
    :param stop_seconds: until it was seen ``Stopped``; None if it should run.
    """

    polls: int = 0
    retries: int = 0
    outages: int = 0
    running_seconds: float | None = None
    checkpoint_seconds: float | None = None
    stop_seconds: float | None = None

    def plus(self, *, polls: int = 0, retries: int = 0, outages: int = 0) -> Self:
        """Return the stats with these counts added."""
        return replace(
            self,
            polls=self.polls + polls,
            retries=self.retries + retries,
            outages=self.outages + outages,
        )

    def with_state(self, plan: WaitPlan, job: Job, now: float) -> Self:
        """Return the stats with the time to a state that was just seen, if it is timed and was not seen before.

        :param plan: the plan of the wait.
        :param job: the job in that state; must not be stale.
        :param now: when it was seen, seconds since the epoch.
        """
        if plan.target_states == TERMINAL_STATES:
            if job.state == JobState.STOPPED and self.stop_seconds is None:
                return replace(self, stop_seconds=_seconds(plan, now))
        elif job.state in AT_WORK and job.running_desired and self.running_seconds is None:
            return replace(self, running_seconds=_seconds(plan, now))
        return self

    def with_checkpoint(self, plan: WaitPlan, now: float) -> Self:
        """Return the stats with the time to the first finished checkpoint.

        :param plan: the plan of the wait.
        :param now: when it was seen, seconds since the epoch.
        """
        if self.checkpoint_seconds is not None:
            return self
        return replace(self, checkpoint_seconds=_seconds(plan, now))


def _seconds(plan: WaitPlan, now: float) -> float | None:
    began = plan.baseline.requested_at if plan.baseline is not None else plan.created_at
    return None if began is None else max(0.0, now - began)
