"""The memory of a wait: it records what was seen, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from airflow_provider_arroyo.client.enums import AT_WORK
from airflow_provider_arroyo.client.models import Job, JobState
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.monitoring.condition import Finding
from airflow_provider_arroyo.monitoring.messages import Message, Messages
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan, is_wanted
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.proof import ProofOfLife
from airflow_provider_arroyo.monitoring.restarts import SeenRun, restart_times
from airflow_provider_arroyo.monitoring.rules import ConditionRules, WaitRules
from airflow_provider_arroyo.monitoring.transitions import with_transition

RESTARTED_SECONDS = 1.0
"""After polls failed for this many seconds, the server may have been restarted. Hiccups of a gateway are shorter, and
so frequent on a bad network that otherwise no state would ever count.
"""

_SHOWN = attrgetter("id", "run_id", "state", "running_desired")
"""What of a job is logged when it changes."""


class WaitMemory:
    """Records what was seen and when, and the log lines for changes.

    Has the parameters of :class:`.PipelineWait`.
    """

    def __init__(
        self,
        plan: WaitPlan,
        *,
        now: float,
        progress: Mapping[str, Any] | None = None,
        has_responded: bool = False,
        earlier: Progress | None = None,
    ) -> None:
        self.plan = plan
        self._messages = Messages(plan, is_repeated=earlier is not None)
        self._p = Progress.restore(progress, plan, now)
        if has_responded and self._p.responded_at is None:
            self._p.responded_at = now
        self._earlier = earlier
        if earlier is not None:
            self._p.recall(earlier, plan)
        self._rules = self._new_rules()

    def _new_rules(self) -> WaitRules:
        """Return the rules of the plan."""
        condition = self.plan.condition
        return (
            WaitRules(self.plan, self._p)
            if condition is None
            else ConditionRules(self.plan, self._p, condition)
        )

    @property
    def job(self) -> Job | None:
        """The job as last seen; None if none was seen."""
        return self._p.job

    @property
    def finding(self) -> Finding:
        """What is known about the condition of the wait."""
        return self._p.finding

    @property
    def awaits_run(self) -> bool:
        """Whether the run that follows the change has yet to begin."""
        return self._rules.awaits_run

    @property
    def may_be_replaced(self) -> bool:
        """Whether the name may mean another pipeline by now: this one is stopped, and was so when the wait began."""
        job = self._p.job
        is_stopped = job is not None and job.state == JobState.STOPPED and not job.running_desired
        return is_stopped and all(one.state == JobState.STOPPED for one in self._p.transitions)

    @property
    def unreachable_since(self) -> float | None:
        """While polls fail: since when Arroyo has not responded; otherwise None."""
        return self._p.outage_since

    # -- observations ------------------------------------------------------------------------------------------

    def polled(self, times: int = 1) -> None:
        """Count the polls of this wait, including those that were not passed on because nothing had changed."""
        self._p.stats = self._p.stats.plus(polls=times)

    def found(self, pipeline: PipelineRef) -> None:
        """Record which pipeline was found for the name."""
        self.plan = replace(self.plan, pipeline=pipeline)
        self._messages.found(self.plan)
        self._rules = self._new_rules()
        self._p.missing_since = None

    def find_again(self) -> None:
        """Record that the name may mean another pipeline, which must be looked up."""
        self._forget_job()
        self.plan = replace(self.plan, pipeline=PipelineRef(pipeline_id="", name=self.plan.pipeline.name))

    def _forget_job(self) -> None:
        self._p.job = self._p.jobless_since = self._p.held_since = None

    def messages(self) -> list[Message]:
        """Return the log messages since the last call: each change once, rare heartbeats, outages."""
        return self._messages.take()

    def progress(self) -> dict[str, Any]:
        """Return the memory as JSON values, for the process that continues the wait."""
        return self._p.to_dict()

    # -- for the decisions ----------------------------------------------------------------------------------------

    @property
    def _was_seen(self) -> bool:
        """Whether the pipeline exists or existed, even before this wait: if it may not be missing, it was looked
        up.
        """
        if self._p.job is not None or self.plan.baseline is not None or self.plan.created_at is not None:
            return True
        return self._earlier is not None and not self.plan.may_be_missing

    @property
    def _is_announced(self) -> bool:
        return self._p.failures > POLL_RETRIES

    def _responded(self, now: float) -> None:
        """Record that Arroyo has responded."""
        p = self._p
        p.follow(now)
        if p.failing_since is not None:
            if self._is_announced:
                self._messages.reachable_again(now - (p.outage_since or now), p.last_error)
                p.logged_at = now
            if now - p.failing_since >= RESTARTED_SECONDS:
                p.responding_since = now
        p.responded_at, p.outage_since, p.failing_since, p.failures, p.last_error = now, None, None, 0, None

    def _remember(self, job: Job, now: float) -> None:
        p, before, baseline = self._p, self._p.job, self.plan.baseline
        self._count_restarts(job, now)
        was_jobless, p.job, p.jobless_since = p.jobless_since is not None, job, None
        if not job.running_desired:
            p.desired_since = None
        elif p.desired_since is None:
            p.desired_since = now
        if baseline is not None and baseline.was_left(job):
            p.left_baseline = True
        if before is not None and not was_jobless and _SHOWN(before) == _SHOWN(job):
            self._hold(job, now)
            return
        is_new_run = before is not None and (before.id, before.run_id) != (job.id, job.run_id)
        if before is None or is_new_run:
            p.run_since, p.proof = now, ProofOfLife.of_run(job)
            p.details_at = p.details_error = p.unreadable_since = None
            p.finding = replace(p.finding, facts=None, is_unsettled=False)
        if before is not None and before.state == job.state and not is_new_run and not was_jobless:
            self._messages.desire_changed(job)
        else:
            self._messages.changed(None if was_jobless else before, job, now - p.state_since)
            p.state_since = now
        p.transitions = with_transition(p.transitions, job, now)
        p.logged_at = now
        if before is None or is_new_run or not {before.state, job.state} <= AT_WORK:
            p.held_since = None
        self._hold(job, now)
        if not self._rules.is_stale(job, now):
            p.stats = p.stats.with_state(self.plan, job, now)

    def _count_restarts(self, job: Job, now: float) -> None:
        p, most = self._p, self.plan.max_restarts
        before = p.seen_run or SeenRun.of(p.job or job)
        p.seen_run, restarts = before.follow(job, first_run=self._rules.first_run(job))
        p.restarts += restarts
        if most is not None and self.plan.restart_window is not None:
            seen = restart_times(restarts, since=p.unseen_since, now=now, most=most + 1)
            # More than that end the wait.
            p.restarted_at = (*p.restarted_at, *seen)[-most - 1 :]

    def _hold(self, job: Job, now: float) -> None:
        """Record since when a wanted state has been seen without a break in one run."""
        p = self._p
        is_leaving = job.state in AT_WORK and not job.running_desired
        if job.state == JobState.STOPPED and job.running_desired and len(p.transitions) <= 1:
            # A resume was requested before this wait began, and the old state still shows. A stop during the wait
            # counts, however soon the pipeline is resumed.
            is_leaving = self.plan.baseline is None
        is_held = is_wanted(job.state, self.plan.target_states) and not is_leaving
        if not is_held or self._rules.is_stale(job, now):
            p.held_since = None
        elif p.held_since is None:
            p.held_since = now
