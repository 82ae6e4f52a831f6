"""The rules of a wait: what its memory means at a given time. They change nothing; ``PipelineWait`` applies them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_provider_arroyo.client.enums import AT_WORK
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.client.retry import outage_limit_seconds
from airflow_provider_arroyo.monitoring.condition import Condition
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS
from airflow_provider_arroyo.monitoring.plan import WaitPlan, is_wanted
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.proof import SETTLES_SECONDS, pause_seconds
from airflow_provider_arroyo.monitoring.result import Outcome

OLD_SECONDS = 60.0
"""How many seconds all responses may be stale. No replica lags behind for longer, so the run numbers must have gone
back, as after restoring a backup.
"""

_SETTLED = TERMINAL_STATES | {JobState.FAILING}
"""States that last until something is requested; ``Failing`` only ends in ``Failed``."""

_FIRST_READINGS_SECONDS = 5.0
"""How long the first readings of a run's details may take, in seconds, even if the wait has timed out: for a metric,
the second one shows whether it is still measured.
"""

_CUT_SHORT_SECONDS = 2.0
"""How many seconds before the deadline a poll may have been sent that failed only because of the deadline."""

_ENDS = frozenset({JobState.FAILING, JobState.FAILED, JobState.FINISHED})
"""States in which a pipeline ends although it was asked to run."""

_ENDED = {
    JobState.FAILING: Outcome.FAILED,
    JobState.FAILED: Outcome.FAILED,
    JobState.FINISHED: Outcome.FINISHED,
    JobState.STOPPED: Outcome.STOPPED,
    JobState.FINISHING: Outcome.NO_CHECKPOINT,
}
"""The outcome of a wait for a condition, by the state in which the condition can no longer become true."""

_REST_PER_READING = 10
"""After a reading, the server gets this many times its duration to rest: a long list of checkpoints takes a while."""


@dataclass(frozen=True, slots=True)
class WaitRules:
    """The rules for one wait.

    :param plan: the goal and the limits.
    :param progress: the memory of the wait; read, never changed.
    """

    plan: WaitPlan
    progress: Progress

    # -- the job -------------------------------------------------------------------------------------------------

    def is_old(self, job: Job) -> bool:
        """Return whether this is a stale response, about an earlier run than the last one or about an earlier job."""
        baseline, seen = self.plan.baseline, self.progress.job
        if seen is not None and job.id == seen.id:
            return job.run_id < seen.run_id
        if seen is not None and 0 < job.created_at_micros < seen.created_at_micros:
            return True
        return baseline is not None and job.id == baseline.job_id and job.run_id < baseline.run_id

    @property
    def awaits_run(self) -> bool:
        """Whether the run that follows the change has yet to begin."""
        baseline, job = self.plan.baseline, self.progress.job
        return baseline is not None and (job is None or not baseline.is_before(job))

    def is_fresh(self, job: Job) -> bool:
        """Return whether a run began after the change."""
        return self.plan.baseline is None or self.plan.baseline.is_before(job)

    def first_run(self, job: Job) -> int:
        """Return the first run of a job that is not a restart: that of this wait's change, or the job's first."""
        baseline = self.plan.baseline
        return baseline.run_id + 1 if baseline is not None and baseline.job_id == job.id else 1

    def restarts_that_count(self, now: float) -> int:
        """Return how many restarts count towards ``max_restarts``."""
        if self.plan.restart_window is None:
            return self.progress.restarts
        since = now - self.plan.restart_window.total_seconds()
        return sum(at > since for at in self.progress.restarted_at)

    @property
    def lacks_checkpoint(self) -> bool:
        """Whether a finished checkpoint of the run is still needed."""
        p = self.progress
        return (
            self.plan.until_checkpoint
            and p.job is not None
            and not p.job.is_terminal
            and p.proof.epoch is None
        )

    def is_running(self) -> bool:
        """Whether the pipeline is running, as far as known."""
        p = self.progress
        if p.job is None or p.jobless_since is not None or p.missing_since is not None:
            return False
        # A last poll that the deadline itself cut short is not an outage.
        unknown_since = p.failing_since if p.old_since is None else p.old_since
        is_known = unknown_since is None or p.now - unknown_since < _CUT_SHORT_SECONDS
        return is_known and p.job.state in AT_WORK and p.job.running_desired is True

    def settled_at(self) -> float:
        """Return the time from which a state without new checkpoints is certain to bring none."""
        return self.progress.state_since + SETTLES_SECONDS

    def is_as_before(self, job: Job) -> bool:
        """Return whether a job is still as it was before the change."""
        baseline = self.plan.baseline
        return baseline is not None and not self.is_fresh(job) and job.state == baseline.state

    def is_stale(self, job: Job, now: float) -> bool:
        """Return whether this may be the state before the change."""
        return not self.is_fresh(job) and now < self._counts_at(job)

    def _counts_at(self, job: Job) -> float:
        """Return the time from which a state of the run before the request counts as its effect."""
        # A requested restart is carried out even after a failure of that run.
        may_restart = self.plan.restart_requested
        if job.state not in _SETTLED or (may_restart and job.state == JobState.FAILING):
            return math.inf
        if self.progress.left_baseline and not (may_restart and job.state == JobState.FAILED):
            return -math.inf
        return self._lasted_at(self.progress.state_since)

    def _lasted_at(self, since: float) -> float:
        """Return when something that has been seen since a given time will have lasted for the grace time."""
        return max(since, self.progress.responding_since) + self.plan.stale_grace.total_seconds()

    def _withdrawn_at(self, job: Job) -> float | None:
        """Return the time from which the awaited stop counts as withdrawn; None if it is not withdrawn."""
        since = self.progress.desired_since
        is_open = self.plan.resume_is_final and job.running_desired and job.state not in _ENDS
        # Once it has stopped, the stop succeeded, even if it is resumed externally later.
        has_stopped = job.state == JobState.STOPPED and (self.is_fresh(job) or self.progress.left_baseline)
        return self._lasted_at(since) if is_open and not has_stopped and since is not None else None

    def _gives_up_at(self, job: Job) -> float | None:
        """Return the time from which ``Finishing`` ends the wait; None if it does not."""
        if job.state != JobState.FINISHING:
            return None
        # In Finishing, Arroyo ignores restarts and settings, so no requested run can begin.
        is_ignored = JobState.RUNNING in self.plan.target_states and not self.is_fresh(job)
        grace = self.plan.stale_grace.total_seconds()
        return self.progress.state_since + grace if self.plan.finishing_is_final or is_ignored else None

    def _stable_at(self, held_since: float) -> float:
        """Return when a wanted state will have lasted long enough, if it does not change."""
        stable = self.plan.stable_for.total_seconds()
        # The first responses after an outage may show the state before it: wait a moment, but do not start over.
        settled = min(stable, self.plan.stale_grace.total_seconds())
        return max(held_since + stable, self.progress.responding_since + settled)

    # -- the decision --------------------------------------------------------------------------------------------

    def evaluate(self, job: Job, now: float) -> Outcome | None:
        """Return how the wait ends with the job as it is now; None if it continues."""
        p, plan, baseline = self.progress, self.plan, self.plan.baseline
        was_finished = baseline is not None and baseline.state == JobState.FINISHED
        if was_finished and job.state == JobState.FINISHED and not self.is_fresh(job):
            # Finished is final, so the change has no effect: this is fine for a wait for Stopped or Finished, but not
            # for a wait for a new run, even one that would finish.
            is_stop = plan.target_states >= {JobState.STOPPED, JobState.FINISHED}
            return Outcome.REACHED if is_stop else Outcome.FINISHED
        if (withdrawn_at := self._withdrawn_at(job)) is not None:
            return Outcome.WITHDRAWN if now >= withdrawn_at else None
        gives_up_at = self._gives_up_at(job)
        if gives_up_at is not None and now >= gives_up_at:
            return Outcome.NO_CHECKPOINT
        if self.is_stale(job, now):
            return None
        is_over = job.is_terminal or job.state == JobState.FAILING
        if (
            plan.max_restarts is not None
            and self.restarts_that_count(now) > plan.max_restarts
            and not is_over
        ):
            return Outcome.FLAPPING
        if is_wanted(job.state, plan.target_states):
            held = p.held_since
            if held is None:
                return None
            if self.lacks_checkpoint and job.state in AT_WORK:
                is_final = p.proof.is_final and now >= self.settled_at()
                return Outcome.NO_CHECKPOINT if job.state == JobState.FINISHING and is_final else None
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

    # -- when something is due ---------------------------------------------------------------------------------

    def ends_at(self) -> float:
        """Return when the wait times out. Even one that begins after its deadline, such as that of a last poke, reads
        the details that decide it.
        """
        is_open = self._is_reading()
        return (
            max(self.plan.deadline, self.progress.run_since + _FIRST_READINGS_SECONDS)
            if is_open
            else self.plan.deadline
        )

    def _is_reading(self) -> bool:
        """Return whether the first readings may end the wait, and have not been made yet."""
        due = self.details_due() if self.progress.details_at is None else None
        return due is not None and due <= self.progress.now

    def next_due(self) -> float:
        """Return when a poll of an unchanged job, or no poll, could change the result; seconds since the epoch."""
        p, plan = self.progress, self.plan
        due = min(self.ends_at(), p.logged_at + plan.heartbeat.total_seconds())
        if p.outage_since is not None:
            # The poll that ends the outage is always observed, and a state lasts only from then on.
            return min(due, p.outage_since + self.outage_limit_seconds())
        if p.old_since is not None:
            due = min(due, p.old_since + OLD_SECONDS)
        if p.job is None or p.jobless_since is not None:
            return due
        if (withdrawn_at := self._withdrawn_at(p.job)) is not None:
            return min(due, withdrawn_at)
        if p.held_since is not None and not self.lacks_checkpoint:
            due = min(due, self._stable_at(p.held_since))
        elif p.held_since is not None and p.job.state == JobState.FINISHING and p.proof.is_final:
            due = min(due, self.settled_at())
        if (gives_up_at := self._gives_up_at(p.job)) is not None:
            due = min(due, gives_up_at)
        return min(due, self._counts_at(p.job)) if self.is_stale(p.job, p.now) else due

    def details_due(self) -> float | None:
        """Return when the details of the job must be read; None if they are not needed."""
        p = self.progress
        is_open = p.failing_since is None and p.jobless_since is None
        if p.job is None or not is_open or not self.lacks_checkpoint or self.is_stale(p.job, p.now):
            return None
        if p.proof.after_epoch is None:
            due = p.state_since
        elif p.held_since is None or p.proof.is_final:
            return None
        else:
            due = self.settled_at() if p.job.state == JobState.FINISHING else self._stable_at(p.held_since)
        # A reading before Finishing has settled may have missed the last checkpoint.
        if p.details_at is None or (p.job.state == JobState.FINISHING and p.details_at < due):
            return due
        return max(due, p.details_at + pause_seconds(p.details_at - p.run_since))

    def is_unsettled(self) -> bool:
        """Whether the next reading, which is due soon, may end the wait."""
        return False

    def outage_limit_seconds(self) -> float:
        """Return for how many seconds the current outage is tolerated."""
        tolerance = self.plan.outage_tolerance.total_seconds()
        if self.progress.last_error is None:
            return tolerance
        has_responded = self.progress.responded_at is not None
        return outage_limit_seconds(self.progress.last_error, tolerance, has_responded=has_responded)


@dataclass(frozen=True, slots=True)
class ConditionRules(WaitRules):
    """The rules of a wait for a condition instead of a state."""

    condition: Condition

    @property
    def lacks_checkpoint(self) -> bool:
        """Whether the awaited checkpoint has not finished yet."""
        return self.plan.checkpoint is not None and self.progress.finding.facts is None

    def evaluate(self, job: Job, now: float) -> Outcome | None:
        """Return how the wait ends with the job as it is now; None if it continues."""
        if self.progress.finding.facts is not None:
            return Outcome.REACHED
        is_settled = not self._is_read_in(job) or self._was_read_since()
        return _ENDED[JobState(job.state)] if self._has_ended(job) and is_settled else None

    def is_unsettled(self) -> bool:
        """Whether the next reading, which is due soon, may end the wait."""
        p = self.progress
        if p.job is None or p.jobless_since is not None or not self._is_read_in(p.job):
            return False
        is_open = p.details_at is None or p.details_error is not None
        return is_open or p.finding.is_unsettled or self._has_ended(p.job)

    def _is_reading(self) -> bool:
        """Return whether the first readings may end the wait, and have not been made yet."""
        return self.is_unsettled() and self.progress.details_error is None and self.details_due() is not None

    def details_due(self) -> float | None:
        """Return when the details for the condition must be read; None while they cannot matter."""
        p = self.progress
        is_open = p.failing_since is None and p.jobless_since is None
        if p.job is None or not is_open or p.finding.facts is not None or not self._is_read_in(p.job):
            return None
        if p.details_at is None:
            return p.state_since
        least = self.plan.details_interval.total_seconds()
        if p.finding.is_unsettled:
            least = min(least, MEASURED_EVERY_SECONDS)
        due = p.details_at + max(least, _REST_PER_READING * p.details_seconds)
        if self._has_ended(p.job) and p.details_error is None:
            return None if self._was_read_since() else min(due, self.settled_at())
        return due

    def _is_read_in(self, job: Job) -> bool:
        return self.condition.read_in is None or job.state in self.condition.read_in

    def _has_ended(self, job: Job) -> bool:
        is_resuming = job.state == JobState.STOPPED and bool(job.running_desired)
        return job.state in self.condition.ended_in and not is_resuming

    def _was_read_since(self) -> bool:
        """Return whether the condition was checked after the current state had settled."""
        p = self.progress
        return p.details_error is None and p.details_at is not None and p.details_at >= self.settled_at()
