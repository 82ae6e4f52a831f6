"""Events of a pipeline that no task waits for: their content, and which were already reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.restarts import SeenRun, restart_times
from airflow_provider_arroyo.monitoring.result import result_values
from airflow_provider_arroyo.monitoring.stall import CheckpointAge
from airflow_provider_arroyo.text import utc_iso

RESTARTS = "Restarts"
"""The event of a pipeline that restarts too often."""

NO_CHECKPOINT = "NoCheckpoint"
"""The event of a pipeline that finishes no checkpoints; the other events are named after their state."""

_MOST_RESTARTS = 1000
"""Maximum number of restarts that are told apart between two polls; more do not happen."""


class Event(NamedTuple):
    """An event to report.

    :param kind: a state, :data:`RESTARTS` or :data:`NO_CHECKPOINT`.
    :param mark: distinguishes events of the same kind and job: the run, or the last checkpoint.
    :param facts: further fields, JSON values.
    """

    kind: str
    mark: str
    facts: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMemory(JsonValue):
    """What was last seen of a pipeline, and therefore reported.

    :param run, state: the run and the state of its job as last seen; None and empty if none was.
    :param restarted_at: when the restarts that still count were seen, seconds since the epoch.
    :param stalled_epoch: the checkpoint after which a missing one was reported; None if none was.
    :param kept_at: when this was stored for another triggerer, until that one sees the pipeline; otherwise None.
    """

    run: SeenRun | None = None
    state: str = ""
    restarted_at: tuple[float, ...] = ()
    stalled_epoch: int | None = None
    kept_at: float | None = None

    def take(
        self, rule: EventRule, job: Job, now: float, *, unseen_since: float | None = None
    ) -> tuple[EventMemory, tuple[Event, ...]]:
        """Return the memory after a poll, and the events that the poll shows.

        A state that existed before the watch began is also an event: the pipeline may have failed while no triggerer
        was running.

        :param rule: which events are reported.
        :param job: the job now.
        :param now: when it was seen, seconds since the epoch.
        :param unseen_since: since when no poll has succeeded; None if the last one succeeded.
        """
        before = self.run or SeenRun.of(job)
        run, restarts = before.follow(job)
        is_known = self.run is not None and self.run.job_id == job.id
        since = unseen_since if self.kept_at is None else self.kept_at
        counted, excess = self._counted(rule, job, restarts, since, now) if is_known else ((), None)
        events: list[Event] = []
        if excess is not None:
            facts = {
                "restarts": (rule.max_restarts or 0) + 1,
                "restart_window_seconds": rule.restart_window.total_seconds(),
            }
            events.append(Event(RESTARTS, str(excess), facts))
        is_reported = is_known and (job.run_id, job.state) == (before.run_id, self.state)
        if job.state in rule.states and not is_reported:
            events.append(Event(str(job.state), str(job.run_id)))
        memory = EventMemory(
            run=run,
            state=str(job.state),
            restarted_at=counted,
            stalled_epoch=self.stalled_epoch if is_known else None,
        )
        return memory, tuple(events)

    def _counted(
        self, rule: EventRule, job: Job, restarts: int, since: float | None, now: float
    ) -> tuple[tuple[float, ...], int | None]:
        """Return the times of the restarts that still count, and the last run that exceeded the limit.

        They are counted run by run, so that a restarted triggerer comes to the same run and thus the same event.
        """
        if rule.max_restarts is None:
            return (), None
        window, excess = rule.restart_window.total_seconds(), None
        counted = [min(at, now) for at in self.restarted_at]
        times = restart_times(restarts, since=since, now=now, most=_MOST_RESTARTS)
        for run, at in enumerate(times, start=job.run_id - len(times) + 1):
            counted = [*(one for one in counted if one > at - window), at]
            if len(counted) > rule.max_restarts:
                excess, counted = run, []
        return tuple(at for at in counted if at > now - window), excess

    def take_age(
        self, rule: EventRule, age: CheckpointAge, is_over: bool
    ) -> tuple[EventMemory, tuple[Event, ...]]:
        """Return the memory after the checkpoints were read, and the event that they show.

        :param rule: which events are reported.
        :param age: the age of the last checkpoint.
        :param is_over: whether it is too old.
        """
        if self.stalled_epoch == age.epoch:
            return self, ()
        memory = replace(self, stalled_epoch=age.epoch if is_over else None)
        if not is_over or rule.max_checkpoint_age is None:
            return memory, ()
        facts = {
            "last_checkpoint": age.epoch or None,
            "last_checkpoint_at": _iso(age.finished_at_micros),
            "max_checkpoint_age_seconds": rule.max_checkpoint_age.total_seconds(),
        }
        return memory, (Event(NO_CHECKPOINT, f"checkpoint-{age.epoch}", facts),)


def event_payload(event: Event, pipeline: PipelineRef, job: Job, *, now: float) -> dict[str, Any]:
    """Return the payload of an event, as JSON values without secrets.

    :param event: the event.
    :param pipeline, job: its pipeline and job.
    :param now: when it was seen, seconds since the epoch.
    """
    return {
        **result_values(pipeline, job),
        "event_id": f"{job.id}/{event.mark}/{event.kind}",
        "event": event.kind,
        "failure_domain": job.failure.domain if job.failure else None,
        "seen_at": utc_iso(now),
        "started_at": _iso(job.start_time_micros),
        "finished_at": _iso(job.finish_time_micros),
        **event.facts,
    }


def _iso(micros: int | None) -> str | None:
    try:
        return None if micros is None else utc_iso(micros / 1_000_000)
    except (OSError, OverflowError, ValueError):
        return None  # a time that only explains must not suppress the event
