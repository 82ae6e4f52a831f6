"""The one class that decides whether a wait is over.

``PipelineWait`` is given what was seen, and when; it says how the wait stands. The worker's loop, the shared poller
and the sensor only bring it observations, so they cannot disagree.

What it knows about Arroyo beyond the names of the states (each seen on real servers):

- A change is answered before anything happens; for half a second the old state still shows. A wait with a baseline
  accepts a state that is not terminal only from a higher ``run_id`` or another job, and the baseline's own terminal
  state only after it lasted for a grace time or another state was seen.
- A server that was unreachable may have been restarted: what it shows first may be the state before that. The grace
  time counts from its first response.
- ``Running`` may be the 260 ms before a failure (``stable_for``), or a pipeline that is about to stop
  (``running_desired: false``).
- ``Failing`` is the failure already; nothing leaves ``Finished``; ``Stopped`` can be resumed.
- Unknown names are progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.retry import POLL_RETRIES, outage_limit_seconds
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, Disposition
from airflow_provider_arroyo.monitoring.messages import Message, Messages
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.result import Outcome, WaitResult

RESTARTED_SECONDS = 1.0
"""After polls failed for so long, the server may have been restarted; a gateway's hiccup is shorter, and on a bad
network so frequent that no state would ever count."""

_SETTLED = TERMINAL_STATES | {JobState.FAILING}
"""States that last unless something is requested; ``Failing`` only ends in ``Failed``."""

_STOPPED_OR_FINISHED = frozenset({JobState.STOPPED, JobState.FINISHED})


class PipelineWait:
    """Decides, from what was seen and when, whether a wait is over.

    Times are seconds since the epoch. Where the clock steps back, also from one process to the next, what was seen
    later than that counts as seen at that time. Once a wait is over, its result stands.

    :param plan: the goal and the limits.
    :param now: when the wait begins.
    :param progress: what :meth:`progress` returned in the process that waited before, to go on from there.
    :param has_responded: whether Arroyo itself has responded in this task, where that is not in the progress.
    """

    def __init__(
        self,
        plan: WaitPlan,
        *,
        now: float,
        progress: Mapping[str, Any] | None = None,
        has_responded: bool = False,
    ) -> None:
        self.plan = plan
        self._messages = Messages(plan)
        self._p = Progress.restore(progress, plan, now) if progress else Progress.begin(plan, now)
        if has_responded and self._p.responded_at is None:
            self._p.responded_at = now
        self._over: WaitResult | None = None

    @property
    def job(self) -> Job | None:
        """The job as it was last seen; None if it never was."""
        return self._p.job

    # -- what was seen ---------------------------------------------------------------------------------------

    def observe(self, job: Job | None, now: float) -> WaitResult:
        """Take a poll that succeeded.

        A poll that shows the same as the last one may be left out until :meth:`next_due`, except the first one
        after a poll that failed.

        :param job: the pipeline's newest job; None when it has none yet.
        :param now: when the response was read.
        :returns: how the wait stands; once it :attr:`~.WaitResult.is_over`, the wait has ended.
        """
        if self._over is not None:
            return self._over
        p = self._p
        p.follow(now)
        if p.failing_since is not None:
            if self._is_announced:
                self._messages.reachable_again(now - (p.outage_since or now))
                p.logged_at = now
            if now - p.failing_since >= RESTARTED_SECONDS:
                p.responding_since = now
        p.responded_at, p.outage_since, p.failing_since, p.failures, p.last_error = now, None, None, 0, None
        if job is None:
            p.held_since = None
            return self._pending(now)
        self._remember(job, now)
        if outcome := self._evaluate(job, now):
            return self._result(outcome, now)
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
        """Take a try of a poll that failed.

        :param error: how it failed.
        :param now: when it failed.
        :param sent_at: when it was sent; default now.
        :param responded_at: when Arroyo last responded, where that was in a poll that was left out.
        :param retry_in: seconds until the next try, for the log.
        :returns: how the wait stands: over at once for what no further poll can fix, else an outage that is
            tolerated for a while.
        """
        if self._over is not None:
            return self._over
        p = self._p
        p.follow(now)
        if responded_at is not None and p.outage_since is None:
            p.responded_at = min(now, max(responded_at, p.responded_at or responded_at))
        p.last_error = error
        if isinstance(error, ArroyoNotFoundError):
            is_known = p.job is not None or self.plan.baseline is not None
            return self._result(Outcome.DELETED if is_known else Outcome.MISSING, now)
        if error.disposition is Disposition.PERMANENT:
            return self._result(Outcome.ERROR, now)
        if p.failing_since is None:
            p.failing_since = now if sent_at is None else min(sent_at, now)
            p.outage_since = p.responded_at if p.responded_at is not None else p.started_at
            if p.responded_at is not None and now >= p.outage_since + self._outage_limit():
                # Polls are rarer than outages are long: nobody asked in between, so it counts from this poll.
                p.outage_since = p.failing_since
        was_announced = self._is_announced
        p.failures += 1
        if self._limit_reached(now) is not None:
            return self._pending(now)  # the wait's own error names this failure; no retry follows
        if self._is_announced and not was_announced:
            self._messages.unreachable(error, now - (p.outage_since or now), self._outage_limit())
            p.logged_at = now
        elif retry := p.failures % (POLL_RETRIES + 1):
            self._messages.poll_failed(error, retry, retry_in, is_outage=was_announced)
        return self._pending(now)

    def tick(self, now: float) -> WaitResult:
        """Let time pass without a poll: the deadline, an outage's limit or the heartbeat can be due."""
        if self._over is not None:
            return self._over
        self._p.follow(now)
        return self._pending(now)

    def expire(self, now: float, argument: str) -> WaitResult:
        """End the wait because a limit from outside is reached.

        :param argument: name of the argument that set it.
        """
        if self._over is not None:
            return self._over
        self._p.follow(now)
        return self._result(Outcome.TIMED_OUT, now, argument)

    # -- what follows ----------------------------------------------------------------------------------------

    def messages(self) -> list[Message]:
        """Return what is to be logged since the last call: each change once, a rare heartbeat, outages."""
        return self._messages.take()

    def next_due(self) -> float:
        """Return when a poll of an unchanged job, or no poll, could change the result; seconds since the epoch."""
        p, plan = self._p, self.plan
        due = min(plan.deadline, p.logged_at + plan.heartbeat.total_seconds())
        if p.outage_since is not None:
            # The poll that ends the outage is observed in any case, and only from there on a state lasts.
            return min(due, p.outage_since + self._outage_limit())
        if p.held_since is not None:
            due = min(due, self._stable_at(p.held_since))
        if p.job is not None and p.job.state in _SETTLED and self._is_stale(p.job, p.now):
            due = min(due, self._baseline_counts_at())
        return due

    def progress(self) -> dict[str, Any]:
        """Return what the wait remembers as JSON values, for the process that continues it."""
        return self._p.to_dict()

    # -- inside ----------------------------------------------------------------------------------------------

    @property
    def _is_announced(self) -> bool:
        return self._p.failures > POLL_RETRIES

    def _remember(self, job: Job, now: float) -> None:
        p, before = self._p, self._p.job
        p.job = job
        if self._has_left_baseline(job):
            p.left_baseline = True
        if (
            before is not None
            and (before.id, before.run_id, before.state) == (job.id, job.run_id, job.state)
            and before.running_desired == job.running_desired
        ):
            self._hold(job, now)
            return
        is_new_run = before is not None and (before.id, before.run_id) != (job.id, job.run_id)
        if before is not None and before.id == job.id:
            # A poll can miss every state between two runs; only the higher run_id counts them.
            p.restarts += max(0, job.run_id - max(before.run_id, self._first_run(job)))
        if before is not None and before.state == job.state and not is_new_run:
            if before.running_desired != job.running_desired:
                self._messages.desire_changed(job)
        else:
            self._messages.changed(before, job, now - p.state_since)
            p.state_since = now
        p.logged_at = now
        p.held_since = None
        self._hold(job, now)

    def _hold(self, job: Job, now: float) -> None:
        """Keep since when a wanted state has been seen in one unbroken run."""
        p = self._p
        is_going_down = job.state == JobState.RUNNING and not job.running_desired
        if job.state in self.plan.target_states and not is_going_down and not self._is_stale(job, now):
            if p.held_since is None:
                p.held_since = now
        else:
            p.held_since = None

    def _is_fresh(self, job: Job) -> bool:
        baseline = self.plan.baseline
        return baseline is None or job.id != baseline.job_id or job.run_id > baseline.run_id

    def _first_run(self, job: Job) -> int:
        """Return the first run of a job that is no restart: of this wait's change, or of all."""
        baseline = self.plan.baseline
        return baseline.run_id + 1 if baseline is not None and baseline.job_id == job.id else 1

    def _has_left_baseline(self, job: Job) -> bool:
        """Return whether this shows that something happened since the change was requested."""
        baseline = self.plan.baseline
        if baseline is None or job.state == baseline.state:
            return False
        # An old failure that ends is still the old failure.
        return (baseline.state, job.state) != (JobState.FAILING, JobState.FAILED) or self._is_fresh(job)

    def _is_stale(self, job: Job, now: float) -> bool:
        """Return whether this may be the state before the change that is waited for."""
        if self._is_fresh(job):
            return False
        if job.state not in _SETTLED:
            return True
        return not self._p.left_baseline and now < self._baseline_counts_at()

    def _baseline_counts_at(self) -> float:
        """Return when the baseline's own state has lasted for long enough to be the effect."""
        return max(self._p.state_since, self._p.responding_since) + self.plan.stale_grace.total_seconds()

    def _stable_at(self, held_since: float) -> float:
        """Return when a wanted state has lasted for long enough, if it goes on."""
        stable = self.plan.stable_for.total_seconds()
        # The first responses after an outage may show the state before it: wait a moment, but do not begin anew.
        settled = min(stable, self.plan.stale_grace.total_seconds())
        return max(held_since + stable, self._p.responding_since + settled)

    def _evaluate(self, job: Job, now: float) -> Outcome | None:
        plan, baseline = self.plan, self.plan.baseline
        was_finished = baseline is not None and baseline.state == JobState.FINISHED
        if was_finished and job.state == JobState.FINISHED and not self._is_fresh(job):
            # Nothing leaves that state, so the change has no effect: fine for who wants it stopped or finished, not
            # for who wants a new run, even one that finishes.
            return Outcome.REACHED if plan.target_states >= _STOPPED_OR_FINISHED else Outcome.FINISHED
        if self._is_stale(job, now):
            return None
        if job.state in plan.target_states:
            held = self._p.held_since
            if held is None:
                return None
            has_lasted = job.state in TERMINAL_STATES or now >= self._stable_at(held)
            return Outcome.REACHED if has_lasted else None
        if job.state == JobState.FAILED or (
            job.state == JobState.FAILING and JobState.FAILED not in plan.target_states
        ):
            return Outcome.FAILED
        if job.state == JobState.FINISHED:
            return Outcome.REACHED if plan.finished_is_success else Outcome.FINISHED
        if job.state == JobState.STOPPED and plan.stopped_is_final and not job.running_desired:
            return Outcome.STOPPED
        return None

    def _limit_reached(self, now: float) -> Outcome | None:
        p = self._p
        if now >= self.plan.deadline:
            return Outcome.TIMED_OUT
        if p.outage_since is not None and now >= p.outage_since + self._outage_limit():
            return Outcome.UNREACHABLE
        return None

    def _pending(self, now: float) -> WaitResult:
        p, plan = self._p, self.plan
        if outcome := self._limit_reached(now):
            return self._result(outcome, now)
        if now >= p.logged_at + plan.heartbeat.total_seconds():
            # A few failures that were not announced may yet pass.
            unreachable_seconds = self._unreachable_seconds(now) if self._is_announced else None
            self._messages.still(p.job, now - p.state_since, unreachable_seconds, now)
            p.logged_at = now
        return self._result(Outcome.WAITING, now)

    def _outage_limit(self) -> float:
        tolerance = self.plan.outage_tolerance.total_seconds()
        if self._p.last_error is None:
            return tolerance
        has_responded = self._p.responded_at is not None
        return outage_limit_seconds(self._p.last_error, tolerance, has_responded=has_responded)

    def _unreachable_seconds(self, now: float) -> float | None:
        return None if self._p.outage_since is None else now - self._p.outage_since

    def _result(self, outcome: Outcome, now: float, argument: str | None = None) -> WaitResult:
        p, baseline = self._p, self.plan.baseline
        result = WaitResult(
            outcome=outcome,
            target_states=tuple(sorted(self.plan.target_states)),
            job=p.job,
            reached_at=now if outcome is Outcome.REACHED else None,
            waited_seconds=now - p.started_at,
            state_seconds=now - p.state_since if p.job else 0.0,
            restarts=p.restarts,
            unreachable_since=p.outage_since,
            unreachable_seconds=self._unreachable_seconds(now),
            has_responded=p.responded_at is not None,
            error=p.last_error,
            deadline_argument=argument or self.plan.deadline_argument,
            is_unchanged=(
                p.job is not None
                and baseline is not None
                and not self._is_fresh(p.job)
                and p.job.state == baseline.state
            ),
        )
        if result.is_over:
            self._over = result
        return result
