"""Events of a pipeline that no task waits for: which changes are events, and which were reported already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import result_values
from airflow_provider_arroyo.text import utc_iso

RESTARTS = "Restarts"
"""The event of a pipeline that restarts too often; the others are named after their state."""

_REQUESTED = TERMINAL_STATES | {JobState.RESTARTING, JobState.RESCALING}
"""The states after which a new run is the effect of a request, and no failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """What is reported of a pipeline.

    :param states: terminal states, each of which is an event.
    :param max_restarts: how often it may restart by itself within ``restart_window``; one more is an event, and then
        they are counted anew. Default None: any number.
    :param restart_window: the time in which restarts are counted, default 10 minutes.
    :raises ValueError: names the argument that is out of range, or missing.
    """

    states: frozenset[str]
    max_restarts: int | None = None
    restart_window: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if wrong := sorted(self.states - TERMINAL_STATES):
            raise ValueError(
                f"states: {', '.join(map(repr, wrong))} is not a terminal state; allowed: "
                f"{', '.join(sorted(TERMINAL_STATES))}"
            )
        if not self.states and self.max_restarts is None:
            raise ValueError("states: needs at least one state where max_restarts is not given")
        if self.max_restarts is not None and self.max_restarts < 0:
            raise ValueError(f"max_restarts: {self.max_restarts} is negative; allowed: 0 and more")
        if self.restart_window <= timedelta(0):
            raise ValueError(f"restart_window: must be more than 0 seconds, got {self.restart_window}")

    @property
    def goal(self) -> str:
        """What is watched for, in words."""
        names = sorted(self.states)
        if self.max_restarts is not None:
            names.append(f"more than {self.max_restarts} restarts")
        return " or ".join(names)


class Event(NamedTuple):
    """Something to report.

    :param kind: a state, or :data:`RESTARTS`.
    :param restarts: how many restarts led to it; 0 for a state.
    """

    kind: str
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMemory(JsonValue):
    """What was seen of a pipeline last, and thus reported.

    :param job_id, run_id, state: the job as it was seen last; None, 0 and empty where none was.
    :param restarted_at: when the restarts that still count were seen, seconds since the epoch.
    """

    job_id: str | None = None
    run_id: int = 0
    state: str = ""
    restarted_at: tuple[float, ...] = ()

    def take(self, rule: EventRule, job: Job, now: float) -> tuple[EventMemory, tuple[Event, ...]]:
        """Return what is remembered after a job was seen, and the events that this is.

        A state that was there before the watch began is an event, too: the pipeline may have failed while no
        triggerer ran.

        :param job: as it is now.
        :param now: when it was seen, seconds since the epoch.
        """
        is_known = job.id == self.job_id
        restarts = self._restarts(job) if is_known else 0
        since = now - rule.restart_window.total_seconds()
        counted: tuple[float, ...] = ()
        events: list[Event] = []
        if rule.max_restarts is not None and is_known:
            counted = (*(at for at in self.restarted_at if at > since), *(now,) * restarts)
            if restarts and len(counted) > rule.max_restarts:
                events.append(Event(RESTARTS, len(counted)))
                counted = ()
        is_reported = is_known and (job.run_id, job.state) == (self.run_id, self.state)
        if job.state in rule.states and not is_reported:
            events.append(Event(str(job.state)))
        seen = EventMemory(job_id=job.id, run_id=job.run_id, state=str(job.state), restarted_at=counted)
        return seen, tuple(events)

    def _restarts(self, job: Job) -> int:
        """Return how many runs began by themselves since the last one that was seen."""
        # The first run is no restart. A poll can miss every state between two runs; the number shows them.
        runs = max(0, job.run_id - max(self.run_id, 1))
        return max(0, runs - 1) if self.state in _REQUESTED else runs


def event_payload(
    event: Event, pipeline: PipelineRef, job: Job, *, now: float, rule: EventRule
) -> dict[str, Any]:
    """Return what an event says, as JSON values without secrets.

    :param event: what happened.
    :param pipeline, job: to what.
    :param now: when it was seen, seconds since the epoch.
    :param rule: what is watched for.
    """
    from airflow_provider_arroyo.client.sql_secrets import redact_sql

    values = result_values(pipeline, job)
    reason = values["failure_reason"]
    more: dict[str, Any] = {
        "event_id": f"{job.id}/{job.run_id}/{event.kind}",
        "event": event.kind,
        "failure_reason": None if reason is None else redact_sql(reason),
        "failure_domain": job.failure.domain if job.failure else None,
        "seen_at": utc_iso(now),
        "started_at": _iso(job.start_time_micros),
        "finished_at": _iso(job.finish_time_micros),
    }
    if event.kind == RESTARTS:
        more |= {"restarts": event.restarts, "restart_window_seconds": rule.restart_window.total_seconds()}
    return {**values, **more}


def _iso(micros: int | None) -> str | None:
    return None if micros is None else utc_iso(micros / 1_000_000)
