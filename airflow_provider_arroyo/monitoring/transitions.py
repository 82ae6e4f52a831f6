"""The changes of a pipeline's state that a wait saw, for the task's XCom and Airflow's UI."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.text import utc_iso

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job

TRANSITIONS_XCOM_KEY = "arroyo_transitions"

MAX_TRANSITIONS = 50
"""How many of the last ones a wait remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition(JsonValue):
    """A state that was seen for the first time.

    :param at: when it was first seen, as ISO 8601 in UTC.
    :param state: the state.
    :param run_id, job_id: its run and job.
    :param stop_requested: whether a stop was requested, or the pipeline was stopped.
    """

    at: str
    state: str
    run_id: int
    job_id: str
    stop_requested: bool = False


def with_transition(before: tuple[Transition, ...], job: Job, now: float) -> tuple[Transition, ...]:
    """Return the last transitions, including one to this job's state.

    :param before: the transitions so far.
    :param job: the job.
    :param now: when it was seen, seconds since the epoch.
    """
    seen = Transition(
        at=utc_iso(now),
        state=str(job.state),
        run_id=job.run_id,
        job_id=job.id,
        stop_requested=job.running_desired is False,
    )
    if before and replace(before[-1], at=seen.at) == seen:
        # There was a response without a job in between.
        return before
    return (*before, seen)[-MAX_TRANSITIONS:]
