"""The rules of a wait: when a state counts, how the wait ends, and what is due when.

What they know about Arroyo beyond the names of the states (all seen on real servers):

- Arroyo responds to a change before it applies it; for half a second, the old state still shows. A wait with a
  baseline accepts a state that is not terminal only from a higher ``run_id`` or another job, and the baseline's own
  terminal state only after it lasted for a grace time or another state was seen.
- After an outage, the server may have been restarted, and may first show the state before that. The grace time counts
  from its first response.
- A lower ``run_id`` of the same job is a stale response, for example from a replica that lags behind. If nothing
  newer comes for a minute, it counts, since a restored backup also has lower numbers.
- ``Running`` may be the 260 ms before a failure (``stable_for``), a pipeline that is about to stop
  (``running_desired: false``), or the 30 s in which a source tries in vain (``until_checkpoint``).
- ``Finishing`` is ``Running`` towards an end: one source has ended, others still run, and no checkpoints are taken.
- ``Failing`` already is the failure; ``Finished`` is final; ``Stopped`` can be resumed. Unknown states are progress.

So ``Running`` counts if it is wanted, of a run that began after the change, and no stop is requested
(``_may_count``); if it has lasted in that run (``_stable_at``); and if a checkpoint of that run has finished, where
one is needed (``_lacks_checkpoint``). ``_evaluate`` decides.
"""

from __future__ import annotations

import math

from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import outage_ends_at
from airflow_provider_arroyo.monitoring.checkpoints import pause_seconds
from airflow_provider_arroyo.monitoring.condition import Condition
from airflow_provider_arroyo.monitoring.metrics import MEASURED_EVERY_SECONDS
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan, is_wanted
from airflow_provider_arroyo.monitoring.progress import Progress

OLD_SECONDS = 60.0
"""How many seconds all responses may be stale; after that, the run numbers went back, as by a restored backup."""

_SETTLED = TERMINAL_STATES | {JobState.FAILING}
"""States that last until something is requested; ``Failing`` only ends in ``Failed``."""

_ENDS = frozenset({JobState.FAILING, JobState.FAILED, JobState.FINISHED})
"""States in which a pipeline ends although it was asked to run."""

_CONDITION_ENDED = {
    JobState.FAILING: Outcome.FAILED,
    JobState.FAILED: Outcome.FAILED,
    JobState.FINISHED: Outcome.FINISHED,
    JobState.STOPPED: Outcome.STOPPED,
    JobState.FINISHING: Outcome.NO_CHECKPOINT,
}
"""The outcome of a wait for a condition, by the state in which the condition can no longer become true."""

_FIRST_READINGS_SECONDS = 5.0
"""How long the first readings of a run's details may take, in seconds, even if the wait has timed out: for a metric,
the second one shows whether it is still measured.
"""

CUT_SHORT_SECONDS = 2.0
"""How many seconds before the deadline a poll may have been sent that failed only because of the deadline."""

_REST_PER_READING = 10
"""After a reading, the server gets this many times its duration to rest: a long list of checkpoints takes a while."""


class WaitRules:
    """What a plan and the memory of a wait mean at a given time. The rules change nothing.

    :param plan: the goal and the limits.
    :param progress: the memory of the wait.
    """

    __slots__ = ("plan", "progress")

    def __init__(self, plan: WaitPlan, progress: Progress) -> None:
        self.plan = plan
        self.progress = progress

    # -- when a state counts -------------------------------------------------------------------------------------

    def _is_old(self, job: Job) -> bool:
        """Return whether this is a stale response, about an earlier run than the last one or about an earlier job."""
        baseline, seen = self.plan.baseline, self.progress.job
        if seen is not None and job.id == seen.id:
            return job.run_id < seen.run_id
        if seen is not None and 0 < job.created_at_micros < seen.created_at_micros:
            return True
        return baseline is not None and job.id == baseline.job_id and job.run_id < baseline.run_id

    def _is_fresh(self, job: Job) -> bool:
        """Return whether a run began after the change."""
        return self.plan.baseline is None or self.plan.baseline.is_before(job)

    def _is_stale(self, job: Job, now: float) -> bool:
        """Return whether this may be the state before the change."""
        return not self._is_fresh(job) and now < self._counts_at(job)

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

    def _may_count(self, job: Job, now: float) -> bool:
        """Return whether a state is wanted, of the right run, and not about to be left; it must then last."""
        is_leaving = job.state in AT_WORK and not job.running_desired
        if job.state == JobState.STOPPED and job.running_desired and len(self.progress.transitions) <= 1:
            # A resume was requested before this wait began, and the old state still shows. A stop during the wait
            # counts, however soon the pipeline is resumed.
            is_leaving = self.plan.baseline is None
        return (
            is_wanted(job.state, self.plan.target_states) and not is_leaving and not self._is_stale(job, now)
        )

    def _stable_at(self, held_since: float) -> float:
        """Return when a wanted state will have lasted long enough, if it does not change."""
        stable = self.plan.stable_for.total_seconds()
        # The first responses after an outage may show the state before it: wait a moment, but do not start over.
        settled = min(stable, self.plan.stale_grace.total_seconds())
        return max(held_since + stable, self.progress.responding_since + settled)

    @property
    def _lacks_checkpoint(self) -> bool:
        """Whether a finished checkpoint is still needed: one of the run, or the awaited one."""
        p = self.progress
        if self.plan.condition is not None:
            return self.plan.checkpoint is not None and p.finding.facts is None
        is_open = p.job is not None and not p.job.is_terminal
        return self.plan.until_checkpoint and is_open and p.proof.epoch is None

    # -- how the wait ends ---------------------------------------------------------------------------------------

    def _evaluate(self, job: Job, now: float) -> Outcome | None:
        """Return how the wait ends with the job as it is now; None if it continues."""
        plan = self.plan
        if plan.condition is not None:
            return self._evaluate_condition(job, plan.condition)
        if self._is_as_before(job) and job.state == JobState.FINISHED:
            # Finished is final, so the change has no effect: a wait for a new run fails, even if it is to finish.
            is_stop = plan.target_states >= {JobState.STOPPED, JobState.FINISHED}
            return Outcome.REACHED if is_stop else Outcome.FINISHED
        if (withdrawn_at := self._withdrawn_at(job)) is not None:
            return Outcome.WITHDRAWN if now >= withdrawn_at else None
        if (gives_up_at := self._gives_up_at(job)) is not None and now >= gives_up_at:
            return Outcome.NO_CHECKPOINT
        if self._is_stale(job, now):
            return None
        if (
            plan.max_restarts is not None
            and job.state not in _SETTLED
            and self.progress.restarts_within(plan.restart_window, now) > plan.max_restarts
        ):
            return Outcome.FLAPPING
        if is_wanted(job.state, plan.target_states):
            return self._evaluate_wanted(job, now)
        if job.state == JobState.FAILED or (
            job.state == JobState.FAILING and JobState.FAILED not in plan.target_states
        ):
            return Outcome.FAILED
        if job.state == JobState.FINISHED:
            return Outcome.REACHED if plan.finished_is_success else Outcome.FINISHED
        if job.state == JobState.STOPPED and plan.stopped_is_final and not job.running_desired:
            return Outcome.STOPPED
        return None

    def _evaluate_wanted(self, job: Job, now: float) -> Outcome | None:
        """Return whether a wanted state counts by now."""
        p = self.progress
        if p.held_since is None:
            return None
        if self._lacks_checkpoint and job.state in AT_WORK:
            is_final = p.proof.is_final and now >= p.settled_at
            return Outcome.NO_CHECKPOINT if job.state == JobState.FINISHING and is_final else None
        has_lasted = job.state in TERMINAL_STATES or now >= self._stable_at(p.held_since)
        return Outcome.REACHED if has_lasted else None

    def _evaluate_condition(self, job: Job, condition: Condition) -> Outcome | None:
        """Return how a wait for a condition ends; None if it continues."""
        if self.progress.finding.facts is not None:
            return Outcome.REACHED
        if not condition.has_ended(job) or (condition.is_read_in(job) and not self.progress.was_read_settled):
            return None
        return _CONDITION_ENDED[JobState(job.state)]

    def _withdrawn_at(self, job: Job) -> float | None:
        """Return the time from which the awaited stop counts as withdrawn; None if it is not withdrawn."""
        since = self.progress.desired_since
        is_open = self.plan.resume_is_final and job.running_desired and job.state not in _ENDS
        # Once it has stopped, the stop succeeded, even if it is resumed externally later.
        has_stopped = job.state == JobState.STOPPED and (self._is_fresh(job) or self.progress.left_baseline)
        return self._lasted_at(since) if is_open and not has_stopped and since is not None else None

    def _gives_up_at(self, job: Job) -> float | None:
        """Return the time from which ``Finishing`` ends the wait; None if it does not."""
        if job.state != JobState.FINISHING:
            return None
        # In Finishing, Arroyo ignores restarts and settings, so no requested run can begin.
        is_ignored = JobState.RUNNING in self.plan.target_states and not self._is_fresh(job)
        grace = self.plan.stale_grace.total_seconds()
        return self.progress.state_since + grace if self.plan.finishing_is_final or is_ignored else None

    def _limit_reached(self, now: float) -> Outcome | None:
        """Return how the wait ends because a limit has been reached; None if none has."""
        p = self.progress
        if now >= self.ends_at():
            return self._timed_out(self.plan.deadline_argument)
        if p.outage_since is not None and now >= self._outage_ends_at(p.outage_since):
            return Outcome.UNREACHABLE
        return None

    def _timed_out(self, argument: str) -> Outcome:
        """Return the outcome of a wait that timed out."""
        is_success = self.plan.timeout_is_success and argument == "timeout" and self._is_running()
        return Outcome.REACHED if is_success else Outcome.TIMED_OUT

    def _outage_ends_at(self, since: float) -> float:
        """Return until when an outage is tolerated that has lasted since a given time."""
        p, ends_at = self.progress, since + self.plan.outage_tolerance.total_seconds()
        if p.last_error is None:
            return ends_at
        return outage_ends_at(p.last_error, ends_at, foreign_since=p.foreign_since)

    # -- what is known about the job -------------------------------------------------------------------------------

    @property
    def may_be_replaced(self) -> bool:
        """Whether the name may mean another pipeline by now: this one is gone, or stopped since the wait began."""
        job = self.progress.job
        if self.progress.missing_since is not None:
            return bool(self.plan.pipeline.pipeline_id)
        is_stopped = job is not None and job.state == JobState.STOPPED and not job.running_desired
        return is_stopped and all(one.state == JobState.STOPPED for one in self.progress.transitions)

    @property
    def awaits_run(self) -> bool:
        """Whether the run that follows the change has yet to begin."""
        job = self.progress.job
        return self.plan.baseline is not None and (job is None or not self._is_fresh(job))

    def _is_as_before(self, job: Job) -> bool:
        """Return whether a job is still as it was before the change."""
        baseline = self.plan.baseline
        return baseline is not None and not self._is_fresh(job) and job.state == baseline.state

    def _is_running(self) -> bool:
        """Return whether the pipeline is running, as far as known."""
        p, job = self.progress, self.progress.present_job
        if job is None:
            return False
        is_old = p.old_since is not None and p.now - p.old_since >= CUT_SHORT_SECONDS
        # What another process saw may be days old.
        was_seen_here = p.unseen_since in (None, p.responded_at)
        is_known = was_seen_here and not is_old and not self._is_outage
        return is_known and job.state in AT_WORK and job.running_desired is True

    @property
    def _is_outage(self) -> bool:
        """Whether Arroyo is unreachable; a last poll that the deadline itself cut short is not an outage."""
        p, since = self.progress, self.progress.failing_since
        has_seen = p.job is not None or p.missing_since is not None
        return since is not None and (not has_seen or p.now - since >= CUT_SHORT_SECONDS)

    # -- when something is due -------------------------------------------------------------------------------------

    def ends_at(self) -> float:
        """Return when the wait times out. Even one that begins after its deadline, such as that of a last poke, reads
        the details that decide it.
        """
        p, deadline = self.progress, self.plan.deadline
        if self.plan.condition is None:
            is_first, due = p.details_at is None, self.details_due()
            is_reading = is_first and due is not None and due <= p.now
        else:
            is_reading = self.is_unsettled() and p.details_error is None and self.details_due() is not None
        return max(deadline, p.run_since + _FIRST_READINGS_SECONDS) if is_reading else deadline

    def next_due(self) -> float:
        """Return when a poll of an unchanged job, or no poll, could change the result; seconds since the epoch."""
        p, plan = self.progress, self.plan
        due = min(self.ends_at(), p.logged_at + plan.heartbeat.total_seconds())
        if p.outage_since is not None:
            # The poll that ends the outage is always observed, and a state lasts only from then on.
            return min(due, self._outage_ends_at(p.outage_since))
        if p.old_since is not None:
            due = min(due, p.old_since + OLD_SECONDS)
        job = p.present_job
        if job is None:
            return due
        if (withdrawn_at := self._withdrawn_at(job)) is not None:
            return min(due, withdrawn_at)
        if p.held_since is not None and not self._lacks_checkpoint:
            due = min(due, self._stable_at(p.held_since))
        elif p.held_since is not None and job.state == JobState.FINISHING and p.proof.is_final:
            due = min(due, p.settled_at)
        if (gives_up_at := self._gives_up_at(job)) is not None:
            due = min(due, gives_up_at)
        return min(due, self._counts_at(job)) if self._is_stale(job, p.now) else due

    def details_due(self) -> float | None:
        """Return when :attr:`.WaitPlan.detail` of the job must be read; None while it cannot matter."""
        p, job = self.progress, self.progress.present_job
        if job is None or p.failing_since is not None:
            return None
        if self.plan.condition is not None:
            return self._condition_due(job, self.plan.condition)
        if not self._lacks_checkpoint or self._is_stale(job, p.now):
            return None
        if p.proof.after_epoch is None:
            due = p.state_since
        elif p.held_since is None or p.proof.is_final:
            return None
        else:
            due = p.settled_at if job.state == JobState.FINISHING else self._stable_at(p.held_since)
        # A reading before Finishing has settled may have missed the last checkpoint.
        if p.details_at is None or (job.state == JobState.FINISHING and p.details_at < due):
            return due
        return max(due, p.details_at + pause_seconds(p.details_at - p.run_since))

    def _condition_due(self, job: Job, condition: Condition) -> float | None:
        """Return when the details for a condition must be read; None while they cannot matter."""
        p = self.progress
        if p.finding.facts is not None or not condition.is_read_in(job):
            return None
        if p.details_at is None:
            return p.state_since
        least = self.plan.details_interval.total_seconds()
        if p.finding.is_unsettled:
            least = min(least, MEASURED_EVERY_SECONDS)
        due = p.details_at + max(least, _REST_PER_READING * p.details_seconds)
        if p.unreadable_since is not None:
            due = min(due, p.unreadable_since + self.plan.outage_tolerance.total_seconds())
        if condition.has_ended(job) and p.details_error is None:
            return None if p.was_read_settled else min(due, p.settled_at)
        return due

    def is_unsettled(self) -> bool:
        """Return whether the next reading for a condition, which is due soon, may end the wait."""
        p, job, condition = self.progress, self.progress.present_job, self.plan.condition
        if job is None or condition is None or not condition.is_read_in(job):
            return False
        is_open = p.details_at is None or p.details_error is not None
        return is_open or p.finding.is_unsettled or condition.has_ended(job)
