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

    Times count from the request for the change that is waited for, or from when the pipeline was created. A wait for
    neither, such as a sensor's, has none.

    :param polls: how often Arroyo was asked for the pipeline's state, each try counted. A poll that
        waits share counts for each of them.
    :param retries: how many of these failed and were followed by another try.
    :param outages: how often Arroyo was announced to be unreachable.
    :param running_seconds: until the pipeline was first seen ``Running``; None where it was not, or is to stop.
    :param checkpoint_seconds: until a finished checkpoint of its run was first seen; None where none was needed.
    :param stop_seconds: until it was seen ``Stopped``; None where it is to run.
    """

    polls: int = 0
    retries: int = 0
    outages: int = 0
    running_seconds: float | None = None
    checkpoint_seconds: float | None = None
    stop_seconds: float | None = None

    def plus(self, *, polls: int = 0, retries: int = 0, outages: int = 0) -> Self:
        """Return them with more counted."""
        return replace(
            self,
            polls=self.polls + polls,
            retries=self.retries + retries,
            outages=self.outages + outages,
        )

    def with_state(self, plan: WaitPlan, job: Job, now: float) -> Self:
        """Return them with the time to a state that was just seen, where that is timed and was not seen before.

        :param job: in that state; not one that is out of date.
        :param now: when it was seen, seconds since the epoch.
        """
        if plan.target_states == TERMINAL_STATES:
            if job.state == JobState.STOPPED and self.stop_seconds is None:
                return replace(self, stop_seconds=_seconds(plan, now))
        elif job.state in AT_WORK and job.running_desired and self.running_seconds is None:
            return replace(self, running_seconds=_seconds(plan, now))
        return self

    def with_checkpoint(self, plan: WaitPlan, now: float) -> Self:
        """Return them with the time to the first finished checkpoint.

        :param now: when it was seen, seconds since the epoch.
        """
        if self.checkpoint_seconds is not None:
            return self
        return replace(self, checkpoint_seconds=_seconds(plan, now))


def _seconds(plan: WaitPlan, now: float) -> float | None:
    began = plan.baseline.requested_at if plan.baseline is not None else plan.created_at
    return None if began is None else max(0.0, now - began)
