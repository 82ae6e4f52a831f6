"""Watches a pipeline for events: a wait that continues through outages and after each event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.events import Event, EventMemory, event_payload
from airflow_provider_arroyo.monitoring.messages import Messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import Outcome, WaitResult
from airflow_provider_arroyo.monitoring.rules import WaitRules
from airflow_provider_arroyo.monitoring.stall import CheckpointAge
from airflow_provider_arroyo.monitoring.wait import PipelineWait

_ENDLESS = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class _WatchRules(WaitRules):
    """Neither a state nor an outage ends a watch."""

    def evaluate(self, job: Job, now: float) -> Outcome | None:
        return None

    def outage_limit_seconds(self) -> float:
        return float("inf")


class _WatchMessages(Messages):
    """The log lines of a watch: without the remaining time, and with one warning for each outage."""

    def __init__(self, plan: WaitPlan, goal: str) -> None:
        super().__init__(plan)
        self._watched_for = goal

    def _goal(self, now: float) -> str:
        return f"watching for {self._watched_for}"

    def found(self, plan: WaitPlan) -> None:
        self._plan, pipeline = plan, plan.pipeline
        self._name = pipeline.short
        self._add(f"Watching for {self._watched_for}: {self._name}, id {pipeline.pipeline_id}")

    def missing(self, now: float, missing_seconds: float | None = None, *, elsewhere: str = "") -> None:
        self._add(f"No such pipeline: {self._name}; {self._goal(now)}")

    def poll_failed(self, error: ArroyoError, retry: int, retry_in: float | None, *, is_known: bool) -> None:
        super().poll_failed(error, retry, retry_in, is_known=True)

    def unreachable(self, error: ArroyoError, seconds: float, limit_seconds: float) -> None:
        self._outage(error, seconds)


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
            target_states=rule.states or frozenset({rule.goal}),
            deadline=now + _ENDLESS.total_seconds(),
            heartbeat=_ENDLESS,
            may_be_missing=True,
        )
        super().__init__(plan, now=now)
        self._messages = _WatchMessages(plan, rule.goal)
        self.rule = rule
        self.memory = memory or EventMemory()
        self._follows_name = not pipeline.pipeline_id
        self._age: CheckpointAge | None = None
        if rule.max_checkpoint_age is not None:
            self._age = CheckpointAge(max_age_seconds=rule.max_checkpoint_age.total_seconds())
        self._is_unreadable = False
        self._events: list[dict[str, Any]] = []

    def _new_rules(self) -> WaitRules:
        return _WatchRules(self.plan, self._p)

    @property
    def may_be_replaced(self) -> bool:
        """Whether the name may mean another pipeline by now, because this one does not run."""
        job = self._p.job
        return self._follows_name and (job is None or job.is_terminal or self._p.jobless_since is not None)

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
        unseen_since = self._p.unseen_since
        result = super().observe(job, now)
        # The wait ignored it, so it is an old response.
        if result.is_over or job is None or self._p.job is not job:
            return result
        if self._age is not None:
            self._age.follow(job, now)
        self.memory, events = self.memory.take(self.rule, job, now, unseen_since=unseen_since)
        return self._report(events, job, now) or result

    def details_due(self) -> float | None:
        """Return when the checkpoints must be read; None if they are not needed."""
        p = self._p
        if self._over is not None or self._age is None or p.job is None:
            return None
        return None if p.failing_since is not None or p.jobless_since is not None else self._age.due()

    def observe_details(
        self, job: Job, read: Reading | ArroyoError, now: float, *, sent_at: float
    ) -> WaitResult:
        """Process the checkpoints, see :meth:`.PipelineWait.observe_details`; epochs continue across runs."""
        age, was_unreadable = self._age, self._is_unreadable
        if self._over is not None or age is None or self._p.job is None or self._p.job.id != job.id:
            return self.tick(now)
        self._is_unreadable = isinstance(read, ArroyoError)
        if isinstance(read, ArroyoError):
            age.tried_at = now
            if not was_unreadable:
                self._messages.unreadable(read)
            return self.tick(now)
        is_over = age.take(self._p.job, read.value, now, read.server_time)
        self.memory, events = self.memory.take_age(self.rule, age, is_over)
        return self._report(events, self._p.job, now) or self.tick(now)

    def _report(self, events: Sequence[Event], job: Job, now: float) -> WaitResult | None:
        self._events += [event_payload(event, self.plan.pipeline, job, now=now) for event in events]
        return self._result(Outcome.REACHED, now) if events else None

    def observe_error(self, error: ArroyoError, now: float, **details: Any) -> WaitResult:
        """Process a failed poll, see :meth:`.PipelineWait.observe_error`.

        A missing pipeline may appear: its id may be used again, or another pipeline may get its name.
        """
        if self._over is not None or not isinstance(error, ArroyoNotFoundError):
            return super().observe_error(error, now, **details)
        self._forget_job()
        result = self.observe_missing(now)
        return self._result(Outcome.DELETED, now) if self._follows_name else result
