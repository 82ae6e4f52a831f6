"""Watches a pipeline that no task waits for: which changes are events, and which of them were already reported.

A watch is a wait that continues through outages and after each event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.checkpoints import CheckpointAge
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.messages import Messages
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.progress import SeenRun, restart_times
from airflow_provider_arroyo.monitoring.result import WaitResult, result_values
from airflow_provider_arroyo.monitoring.wait import PipelineWait
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


_ENDLESS = timedelta(days=36_500)


class EventWatch(PipelineWait):
    """Decides which events a pipeline's polls show.

    The watch is over whenever there is something to report; :meth:`take_events` lets it continue.

    :param pipeline: the pipeline; only its name if it must still be found. A name is followed: later, it may mean
        another pipeline.
    :param rule: which events are reported.
    :param now: when the watch begins, seconds since the epoch.
    :param memory: what was reported before; default nothing.
    """

    def __init__(
        self, pipeline: PipelineRef, rule: EventRule, *, now: float, memory: EventMemory | None = None
    ) -> None:
        plan = WaitPlan(
            pipeline=pipeline,
            target_states=frozenset({rule.goal}),  # as messages name it: no state ends a watch
            deadline=now + _ENDLESS.total_seconds(),
            heartbeat=_ENDLESS,
            may_be_missing=True,
        )
        super().__init__(plan, now=now)
        self._messages = Messages(plan, is_watch=True)
        self.rule = rule
        self.memory = memory or EventMemory()
        self._follows_name = not pipeline.pipeline_id
        self._age: CheckpointAge | None = None
        if rule.max_checkpoint_age is not None:
            self._age = CheckpointAge(max_age_seconds=rule.max_checkpoint_age.total_seconds())
        self._is_unreadable = False
        self._events: list[dict[str, Any]] = []

    # Neither a state nor an outage ends a watch.
    def _evaluate(self, job: Job, now: float) -> Outcome | None:
        return None

    def _outage_ends_at(self, since: float) -> float:
        return float("inf")

    @property
    def may_be_replaced(self) -> bool:
        """Whether the name may mean another pipeline by now, because this one does not run."""
        job = self.progress.present_job
        return self._follows_name and (job is None or job.is_terminal)

    @property
    def has_events(self) -> bool:
        """Whether there are events that were not taken yet."""
        return bool(self._events)

    def take_events(self) -> list[dict[str, Any]]:
        """Return the payloads of the events since the last call, and let the watch continue."""
        taken, self._events, self._over = self._events, [], None
        return taken

    def observe(self, job: Job | None, now: float) -> WaitResult:
        """Process a successful poll, see :meth:`.PipelineWait.observe`."""
        unseen_since = self.progress.unseen_since
        result = super().observe(job, now)
        # The wait ignored it, so it is an old response.
        if result.is_over or job is None or self.progress.job is not job:
            return result
        if self._age is not None:
            self._age.follow(job, now)
        self.memory, events = self.memory.take(self.rule, job, now, unseen_since=unseen_since)
        return self._report(events, job, now) or result

    def details_due(self) -> float | None:
        """Return when the checkpoints must be read; None if they are not needed."""
        p = self.progress
        if self._over is not None or self._age is None or p.present_job is None:
            return None
        return None if p.failing_since is not None else self._age.due()

    def observe_details(
        self, job: Job, read: Reading | ArroyoError, now: float, *, sent_at: float
    ) -> WaitResult:
        """Process the checkpoints, see :meth:`.PipelineWait.observe_details`; epochs continue across runs."""
        age, was_unreadable = self._age, self._is_unreadable
        if (
            self._over is not None
            or age is None
            or self.progress.job is None
            or self.progress.job.id != job.id
        ):
            return self.tick(now)
        self._is_unreadable = isinstance(read, ArroyoError)
        if isinstance(read, ArroyoError):
            age.tried_at = now
            if not was_unreadable:
                self._messages.unreadable(read)
            return self.tick(now)
        is_over = age.take(self.progress.job, read.value, now, read.server_time)
        self.memory, events = self.memory.take_age(self.rule, age, is_over)
        return self._report(events, self.progress.job, now) or self.tick(now)

    def _report(self, events: Sequence[Event], job: Job, now: float) -> WaitResult | None:
        self._events += [event_payload(event, self.plan.pipeline, job, now=now) for event in events]
        return self._result(Outcome.REACHED, now) if events else None

    def observe_error(self, error: ArroyoError, now: float, **details: Any) -> WaitResult:
        """Process a failed poll, see :meth:`.PipelineWait.observe_error`.

        A missing pipeline may appear: its id may be used again, or another pipeline may get its name.
        """
        if self._over is not None or not isinstance(error, ArroyoNotFoundError):
            return super().observe_error(error, now, **details)
        self.progress.forget_job()
        result = self.observe_missing(now)
        return self._result(Outcome.DELETED, now) if self._follows_name else result
