"""The one class that decides whether a wait is over.

``PipelineWait`` is given observations with their times, and returns the status of the wait. The worker's loop, the
shared poller and the sensor only bring it observations, so they always agree. What it remembers is in ``progress``,
what that means in ``rules``, what it says in ``messages`` and ``explain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.monitoring.condition import Detail, Reading
from airflow_provider_arroyo.monitoring.messages import Message, Messages, unreadable
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.rules import OLD_SECONDS, WaitRules

_LAST_MOMENT_SECONDS = 0.1
"""How many seconds before the deadline a request may fail because too little time is left."""


class PipelineWait(WaitRules):
    """Decides, from observations and their times, whether a wait is over.

    Times are seconds since the epoch. If the clock steps back, even between processes, later observations count as
    made now. Once a wait is over, its result does not change.

    :param plan: the goal and the limits.
    :param now: when the wait begins.
    :param progress: the memory of the process that waited before, as JSON values, to continue from there.
    :param has_responded: whether Arroyo itself has responded in this task, if that is not in the progress.
    :param earlier: the memory of an earlier wait of the same task, whose counts this one continues; default None.
        That wait logged the state, so the first state that this one sees is logged at DEBUG.
    """

    __slots__ = ("_earlier", "_messages", "_over", "_was_found")

    def __init__(
        self,
        plan: WaitPlan,
        *,
        now: float,
        progress: Mapping[str, Any] | None = None,
        has_responded: bool = False,
        earlier: Progress | None = None,
    ) -> None:
        super().__init__(plan, Progress.restore(progress, plan, now))
        self._messages = Messages(plan, is_repeated=earlier is not None)
        self._earlier = earlier
        self._was_found = False
        self._over: WaitResult | None = None
        """The result, once the wait has ended."""
        if has_responded and self.progress.responded_at is None:
            self.progress.responded_at = now
        if earlier is not None:
            self.progress.recall(earlier, plan)

    def messages(self) -> list[Message]:
        """Return the log messages since the last call: each change once, rare heartbeats, outages."""
        return self._messages.take()

    # -- observations ------------------------------------------------------------------------------------------

    def polled(self, times: int = 1) -> None:
        """Count the polls of this wait, including those that were not passed on because nothing had changed."""
        self.progress.stats = self.progress.stats.plus(polls=times)

    def found(self, pipeline: PipelineRef, now: float) -> None:
        """Record which pipeline was found for the name, and that Arroyo has responded."""
        self._responded(now)
        self._was_found, self.plan = True, replace(self.plan, pipeline=pipeline)
        self._messages.found(self.plan)
        self.progress.missing_since = None

    def find_again(self) -> None:
        """Record that the name may mean another pipeline, which must be looked up."""
        self.progress.forget_job()
        self.plan = replace(self.plan, pipeline=PipelineRef(pipeline_id="", name=self.plan.pipeline.name))

    def observe(self, job: Job | None, now: float) -> WaitResult:
        """Process a successful poll.

        A poll that shows the same as the last one may be skipped until :meth:`next_due`, except the first one after a
        failed poll.

        :param job: the pipeline's newest job; None if it has none yet.
        :param now: when the response was read.
        :returns: the status of the wait; the wait has ended if it :attr:`~.WaitResult.is_over`.
        """
        if self._over is not None:
            return self._over
        p = self.progress
        self._responded(now)
        p.missing_since = None
        if job is None:
            p.held_since = p.old_since = p.desired_since = None
            if p.job is not None and p.jobless_since is None:
                self._messages.no_job(p.job)
                p.jobless_since = p.logged_at = now
            return self._pending(now)
        if self._is_old(job):
            p.old_since = now if p.old_since is None else p.old_since
            if now < p.old_since + OLD_SECONDS:
                return self._pending(now)
        before, lasted = p.present_job, now - p.state_since
        is_changed = p.see(job, self.plan, now)
        held_since = now if p.held_since is None else p.held_since
        p.held_since = held_since if self._may_count(job, now) else None
        if is_changed:
            self._messages.changed(before, job, lasted)
            if not self._is_stale(job, now):
                p.stats = p.stats.with_state(self.plan, job, now)
        return self._result(self._evaluate(job, now), now)

    def observe_missing(self, now: float, elsewhere: str = "") -> WaitResult:
        """Process a successful look-up that found no such pipeline.

        :param now: when the response was read.
        :param elsewhere: which other Airflow has one of that name, and what to do about it; default empty: none has.
        :returns: the status of the wait: over, unless the pipeline may not exist yet.
        """
        if self._over is not None:
            return self._over
        p = self.progress
        self._responded(now)
        if not self.plan.may_be_missing:
            return self._result(Outcome.DELETED if self._was_seen else Outcome.MISSING, now)
        if p.missing_since is None or (elsewhere and not p.elsewhere):
            p.missing_since, p.logged_at = p.missing_since or now, now
            self._messages.missing(now, elsewhere=elsewhere)
        p.elsewhere = elsewhere
        return self._pending(now)

    def observe_details(
        self, job: Job, read: Reading | ArroyoError, now: float, *, sent_at: float
    ) -> WaitResult:
        """Process the details that :meth:`details_due` asked for.

        :param job: the job when they were requested.
        :param read: what was read, or the error.
        :param now: when the response or error came.
        :param sent_at: when they were requested.
        :returns: the status of the wait.
        """
        if self._over is not None:
            return self._over
        p, plan = self.progress, self.plan
        p.follow(now)
        if p.job is None or (p.job.id, p.job.run_id) != (job.id, job.run_id):
            return self._pending(now)
        ends_at = self.ends_at()
        p.details_at = min(sent_at, now)
        p.details_seconds = now - p.details_at
        if isinstance(read, ArroyoError):
            return self._unreadable(read, now, ends_at)
        p.details_error = p.unreadable_since = None
        if plan.detail is Detail.CHECKPOINTS:
            is_final = p.job.state == JobState.FINISHING and p.details_at >= p.settled_at
            p.proof = p.proof.after(read.value, is_final=is_final)
        if plan.condition is not None:
            try:
                before, p.finding = p.finding, plan.condition.check(p.finding, job, read, now)
            except ArroyoError as err:
                p.last_error = err
                return self._result(Outcome.ERROR, now)
            self._messages.found_out(p.job, before, p.finding)
        elif p.proof.epoch is not None:
            self._messages.proven(p.job, p.proof.epoch)
            p.stats = p.stats.with_checkpoint(plan, now)
        if p.unseen_since is None and p.jobless_since is None and p.old_since is None:
            # As of the last poll: unchanged polls were not passed on.
            return self._result(self._evaluate(p.job, p.responded_at or now), now)
        return self._pending(now)

    def observe_error(
        self,
        error: ArroyoError,
        now: float,
        *,
        sent_at: float | None = None,
        responded_at: float | None = None,
        retry_in: float | None = None,
    ) -> WaitResult:
        """Process a failed try of a poll.

        :param error: the error.
        :param now: when it failed.
        :param sent_at: when it was sent; default now.
        :param responded_at: when Arroyo last responded, if that was in a poll that was skipped.
        :param retry_in: seconds until the next try, for the log.
        :returns: the status of the wait: over if no further poll can help; otherwise, the outage is tolerated for a
            while.
        """
        if self._over is not None:
            return self._over
        p = self.progress
        p.follow(now)
        if responded_at is not None and p.outage_since is None:
            p.responded_at = min(now, max(responded_at, p.responded_at or responded_at))
        p.last_error = error
        if isinstance(error, ArroyoNotFoundError):
            created_at = self.plan.created_at
            if created_at is not None and now < created_at + self.plan.stale_grace.total_seconds():
                p.failures += 1
                p.stats = p.stats.plus(retries=1)
                self._messages.poll_failed(error, p.failures, retry_in, is_known=False)
                return self._pending(now)
            return self._result(Outcome.DELETED, now) if self._was_seen else self.observe_missing(now)
        if error.disposition is Disposition.PERMANENT:
            return self._result(Outcome.ERROR, now)
        sent_at = now if sent_at is None else min(sent_at, now)
        if p.failing_since is None:
            last = p.responded_at
            p.begin_outage(now, sent_at, is_late=last is not None and now >= self._outage_ends_at(last))
        if error.disposition is Disposition.OUTAGE and p.responded_at is None and p.foreign_since is None:
            p.foreign_since = sent_at
        was_announced, p.failures, p.failed_at = p.is_announced, p.failures + 1, now
        if self._limit_reached(now) is not None:
            return self._pending(now)  # the wait's own error names this failure; no retry follows
        p.stats = p.stats.plus(retries=1)
        if p.is_announced and not was_announced:
            since = p.outage_since or now
            self._messages.unreachable(error, now - since, self._outage_ends_at(since) - since)
            p.logged_at = now
            p.stats = p.stats.plus(outages=1)
        elif retry := p.failures % (POLL_RETRIES + 1):
            self._messages.poll_failed(error, retry, retry_in, is_known=was_announced or p.is_unsteady)
        return self._pending(now)

    def tick(self, now: float) -> WaitResult:
        """Let time pass without a poll: the deadline, the limit of an outage or the heartbeat may be due."""
        if self._over is not None:
            return self._over
        self.progress.follow(now)
        return self._pending(now)

    def expire(self, now: float, argument: str) -> WaitResult:
        """End the wait because an external limit was reached.

        :param now: when it was reached.
        :param argument: name of the argument that set it.
        """
        if self._over is not None:
            return self._over
        self.progress.follow(now)
        return self._result(self._timed_out(argument), now, argument)

    def details_due(self) -> float | None:
        """Return when :attr:`.WaitPlan.detail` of the job must be read; None if it is not needed."""
        return None if self._over is not None else super().details_due()

    # -- internals ---------------------------------------------------------------------------------------------

    @property
    def _was_seen(self) -> bool:
        """Whether the pipeline exists or existed, even before this wait."""
        p, plan = self.progress, self.plan
        if p.job is not None or plan.baseline is not None or plan.created_at is not None:
            return True
        # If it may not be missing, an earlier wait looked it up.
        return (self._was_found or self._earlier is not None) and not plan.may_be_missing

    def _responded(self, now: float) -> None:
        """Record that Arroyo has responded."""
        p = self.progress
        if p.is_announced and p.failing_since is not None:
            self._messages.reachable_again(now - (p.outage_since or now), p.last_error)
            p.logged_at = now
        p.responded(now)

    def _unreadable(self, error: ArroyoError, now: float, ends_at: float) -> WaitResult:
        """Process that the details of the job could not be read, although its state could."""
        p = self.progress
        if now >= ends_at - _LAST_MOMENT_SECONDS:
            return self._pending(now)  # the deadline itself cut it short
        # If the job does not exist, the next poll tells.
        is_final = error.disposition is Disposition.PERMANENT and not isinstance(error, ArroyoNotFoundError)
        if p.details_error is None and not (is_final and self.plan.condition is not None):
            self._messages.unreadable(error)
        p.details_error = error
        p.unreadable_since = p.unreadable_since or p.details_at
        if self.plan.condition is None:
            return self._pending(now)  # the proof is only one of several goals
        lasted = now - (p.unreadable_since or now)
        if is_final or lasted >= self.plan.outage_tolerance.total_seconds():
            p.last_error = error if is_final else unreadable(self.plan, error, lasted)
            return self._result(Outcome.ERROR, now)
        return self._pending(now)

    def _pending(self, now: float) -> WaitResult:
        """Return the status of a wait that continues, unless a limit has been reached."""
        p = self.progress
        if outcome := self._limit_reached(now):
            return self._result(outcome, now)
        if now >= p.logged_at + self.plan.heartbeat.total_seconds():
            self._messages.still(p, now)
            p.logged_at = now
        return self._result(Outcome.WAITING, now)

    def _result(self, outcome: Outcome | None, now: float, argument: str | None = None) -> WaitResult:
        """Return the status of the wait.

        :param outcome: its status or outcome; None if it continues, unless a limit has been reached.
        :param now: seconds since the epoch.
        :param argument: name of the argument that ended it; default that of the plan.
        """
        if outcome is None:
            return self._pending(now)
        p, plan, job = self.progress, self.plan, self.progress.job
        is_unchanged = p.present_job is not None and self._is_as_before(p.present_job)
        if outcome is Outcome.DELETED and job is None and self._earlier is not None:
            job = self._earlier.job
        result = WaitResult(
            outcome=outcome,
            target_states=tuple(sorted(plan.target_states)),
            goal=plan.goal,
            facts=p.finding.facts or {},
            seen=p.finding.seen,
            advice="" if plan.condition is None else plan.condition.advice,
            job=job,
            reached_at=now if outcome is Outcome.REACHED else None,
            waited_seconds=now - p.started_at,
            state_seconds=now - p.state_since if p.job else 0.0,
            restarts=p.restarts,
            restarts_seconds=now - (p.counting_since or p.started_at),
            restart_window=plan.restart_window,
            restarts_in_window=p.restarts_within(plan.restart_window, now),
            is_missing=p.missing_since is not None,
            elsewhere=p.elsewhere,
            jobless_seconds=None if p.jobless_since is None else now - p.jobless_since,
            lacks_checkpoint=self._lacks_checkpoint,
            open_epoch=p.proof.open_epoch,
            detail=plan.detail,
            details_error=p.details_error,
            unreachable_since=p.outage_since,
            unreachable_seconds=None if p.outage_since is None else now - p.outage_since,
            is_outage=self._is_outage,
            has_responded=p.responded_at is not None,
            error=p.last_error,
            transitions=p.transitions,
            stats=p.stats,
            deadline_argument=argument or plan.deadline_argument,
            awaits_run=self.awaits_run,
            is_unchanged=is_unchanged,
        )
        self._over = result if result.is_over else None
        return result
