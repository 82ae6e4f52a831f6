"""The one judge of waits.

``PipelineWait`` is told what was seen, and when; it says whether the wait is over. The synchronous wait, the
trigger, the sensor and the shared feed only bring it observations, so they cannot disagree.

What it knows of Arroyo beyond the names of the states (each seen on real servers):

- A change is answered before anything happened; for half a second the old state still shows. A wait with a
  baseline takes a state that is not terminal only from a higher ``run_id`` or another job, and the baseline's
  own terminal state only after it stood unchanged for a grace time or another state was seen.
- A server that was away may be one that was started again: what it shows first may be what stood before. The
  grace time counts from its first answer.
- ``Running`` may be the 260 ms before a failure (``stable_for``), or a pipeline on its way down
  (``running_desired: false``).
- ``Failing`` is the failure already; ``Finished`` never leaves; ``Stopped`` can be resumed.
- Names that nobody knows yet are progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.notes import Note, Notes
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict

_RESTING = TERMINAL_STATES | {JobState.FAILING}
"""Where a job stays unless it is asked for something; ``Failing`` only comes to its end in ``Failed``."""

_AT_REST = frozenset({JobState.STOPPED, JobState.FINISHED})


class PipelineWait:
    """Decides, from what was seen and when, whether a wait is over.

    Times are seconds since the epoch. Where the clock steps back, also from one process to the next, what was
    seen later than that counts as seen at that moment. Once a wait is over, its verdict stands.

    :param plan: the goal and the limits.
    :param now: when the wait begins.
    :param label: what the log calls the pipeline, e.g. its name and id.
    :param progress: what :meth:`progress` gave in the process that waited before, to go on from there.
    :param has_answered: whether Arroyo has answered at this address before, where that is not in the progress.
    """

    def __init__(
        self,
        plan: WaitPlan,
        *,
        now: float,
        label: str = "",
        progress: Mapping[str, Any] | None = None,
        has_answered: bool = False,
    ) -> None:
        self.plan = plan
        self.label = label or f"Pipeline {plan.pipeline_id}"
        self._notes = Notes(self.label)
        self._p = Progress.from_dict(progress, plan, now) if progress else Progress.begin(plan, now)
        if has_answered and self._p.looked_at is None:
            self._p.looked_at = now
        self._over: Verdict | None = None

    @property
    def job(self) -> Job | None:
        """The job as it was last seen; None if it never was."""
        return self._p.job

    # -- what was seen ---------------------------------------------------------------------------------------

    def observe(self, job: Job | None, now: float, *, after_trouble: bool = False) -> Verdict:
        """Take a look that succeeded.

        A look that shows the same as the last one need not be brought before :meth:`next_due`, except the first
        one after a look that failed.

        :param job: the pipeline's newest job; None when it has none yet.
        :param now: when the answer was read.
        :param after_trouble: whether the look had to be tried again for a while: an outage too short to speak of,
            after which, as after any, what stood before it may show for a moment.
        :return: the verdict; once it :attr:`~.Verdict.is_over`, the wait has ended.
        """
        if self._over is not None:
            return self._over
        p = self._p
        p.follow(now)
        if p.outage_since is not None:
            self._notes.reachable_again(now - p.outage_since)
            p.answers_since = p.said_at = now
        elif after_trouble:
            p.answers_since = now
        p.looked_at, p.outage_since, p.last_error = now, None, None
        if job is None:
            p.held_since = None
            return self._pending(now)
        self._remember(job, now)
        if outcome := self._judge(job, now):
            return self._verdict(outcome, now)
        return self._pending(now)

    def observe_error(self, error: ArroyoError, now: float, *, answered_at: float | None = None) -> Verdict:
        """Take a look that failed, after its own retries.

        :param error: how it failed.
        :param now: when it was given up.
        :param answered_at: when Arroyo last answered, where that was in a look that was not brought here.
        :return: the verdict: at once for what no waiting mends, else an outage that is tolerated for a while.
        """
        if self._over is not None:
            return self._over
        p = self._p
        p.follow(now)
        if answered_at is not None and p.outage_since is None:
            p.looked_at = min(now, max(answered_at, p.looked_at or answered_at))
        p.last_error = error
        if isinstance(error, ArroyoNotFoundError):
            known = p.job is not None or self.plan.baseline is not None
            return self._verdict(Outcome.DELETED if known else Outcome.MISSING, now)
        if not error.may_pass(has_answered=p.looked_at is not None):
            return self._verdict(Outcome.ERROR, now)
        if p.outage_since is None:
            p.outage_since = p.looked_at if p.looked_at is not None else p.started_at
            self._notes.unreachable(error, self.plan.outage_tolerance)
            p.said_at = now
        return self._pending(now)

    def tick(self, now: float) -> Verdict:
        """Let time pass without a look: the deadline, an outage's limit or the heartbeat can be due."""
        if self._over is not None:
            return self._over
        self._p.follow(now)
        return self._pending(now)

    def expire(self, now: float, limit: str) -> Verdict:
        """End the wait because a limit from outside has come.

        :param limit: name of the argument that set it.
        """
        if self._over is not None:
            return self._over
        self._p.follow(now)
        return self._verdict(Outcome.TIMED_OUT, now, limit)

    # -- what follows ----------------------------------------------------------------------------------------

    def notes(self) -> list[Note]:
        """Return what is to be logged since the last call: each change once, a rare heartbeat, outages."""
        return self._notes.take()

    def next_due(self) -> float:
        """Return when a look at an unchanged job could change the verdict, seconds since the epoch."""
        p, plan = self._p, self.plan
        due = min(plan.deadline, p.said_at + plan.heartbeat.total_seconds())
        if p.outage_since is not None:
            # The look that ends the outage is brought in any case, and only from there on anything stands.
            return min(due, p.outage_since + plan.outage_tolerance.total_seconds())
        if p.held_since is not None:
            due = min(due, self._stable_at(p.held_since))
        if p.job is not None and p.job.state in _RESTING and self._is_stale(p.job, p.now):
            due = min(due, self._believed_at())
        return due

    def progress(self) -> dict[str, Any]:
        """Return what the wait remembers as JSON values, for the process that goes on with it."""
        return self._p.to_dict()

    # -- inside ----------------------------------------------------------------------------------------------

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
        new_run = before is not None and (before.id, before.run_id) != (job.id, job.run_id)
        if before is not None and before.id == job.id:
            # A poll can miss every state between two runs; the rise of run_id alone counts them.
            p.restarts += max(0, job.run_id - max(before.run_id, self._first_run(job)))
        if before is not None and before.state == job.state and not new_run:
            if before.running_desired != job.running_desired:
                self._notes.desire_changed(job)
        else:
            stood = now - p.state_since if before is not None else None
            self._notes.changed(before, job, stood)
            p.state_since = now
        p.said_at = now
        p.held_since = None
        self._hold(job, now)

    def _hold(self, job: Job, now: float) -> None:
        """Keep since when a wanted state has been seen in one unbroken run."""
        p = self._p
        on_its_way_down = job.state == JobState.RUNNING and not job.running_desired
        if job.state in self.plan.targets and not on_its_way_down and not self._is_stale(job, now):
            if p.held_since is None:
                p.held_since = now
        else:
            p.held_since = None

    def _is_fresh(self, job: Job) -> bool:
        baseline = self.plan.baseline
        return baseline is None or job.id != baseline.job_id or job.run_id > baseline.run_id

    def _first_run(self, job: Job) -> int:
        """The first run of a job that is no restart: of this wait's change, or of all."""
        baseline = self.plan.baseline
        return baseline.run_id + 1 if baseline is not None and baseline.job_id == job.id else 1

    def _has_left_baseline(self, job: Job) -> bool:
        """Whether this shows that something happened since the change was asked for."""
        baseline = self.plan.baseline
        if baseline is None or job.state == baseline.state:
            return False
        # An old failure that comes to its end is still the old failure.
        return (baseline.state, job.state) != (JobState.FAILING, JobState.FAILED) or self._is_fresh(job)

    def _is_stale(self, job: Job, now: float) -> bool:
        """Whether this may be what stood before the change that is waited for."""
        if self._is_fresh(job):
            return False
        if job.state not in _RESTING:
            return True
        return not self._p.left_baseline and now < self._believed_at()

    def _believed_at(self) -> float:
        """When the baseline's own resting state has stood for long enough to be the answer."""
        return max(self._p.state_since, self._p.answers_since) + self.plan.stale_grace.total_seconds()

    def _stable_at(self, held_since: float) -> float:
        """When a wanted state has lasted for long enough, if it goes on."""
        stable = self.plan.stable_for.total_seconds()
        # The first answers after an outage may be what stood before it: wait a moment, but do not begin anew.
        settled = min(stable, self.plan.stale_grace.total_seconds())
        return max(held_since + stable, self._p.answers_since + settled)

    def _judge(self, job: Job, now: float) -> Outcome | None:
        plan, baseline = self.plan, self.plan.baseline
        was_finished = baseline is not None and baseline.state == JobState.FINISHED
        if was_finished and job.state == JobState.FINISHED and not self._is_fresh(job):
            # Nothing leaves that state, so the change does nothing. Who wants it at rest has it; who wants a new
            # run, even one that finishes, does not.
            return Outcome.REACHED if plan.targets >= _AT_REST else Outcome.FINISHED
        if self._is_stale(job, now):
            return None
        if job.state in plan.targets:
            held = self._p.held_since
            if held is None:
                return None
            lasted = job.state in TERMINAL_STATES or now >= self._stable_at(held)
            return Outcome.REACHED if lasted else None
        if job.state == JobState.FAILED or (
            job.state == JobState.FAILING and JobState.FAILED not in plan.targets
        ):
            return Outcome.FAILED
        if job.state == JobState.FINISHED:
            return Outcome.REACHED if plan.finished_is_success else Outcome.FINISHED
        if job.state == JobState.STOPPED and plan.stopped_is_final and not job.running_desired:
            return Outcome.STOPPED
        return None

    def _pending(self, now: float) -> Verdict:
        p, plan = self._p, self.plan
        if now >= plan.deadline:
            return self._verdict(Outcome.TIMED_OUT, now)
        if p.outage_since is not None and now >= p.outage_since + plan.outage_tolerance.total_seconds():
            return self._verdict(Outcome.UNREACHABLE, now)
        if now >= p.said_at + plan.heartbeat.total_seconds():
            self._notes.still(p.job, now - p.state_since, self._unreachable(now), plan, now)
            p.said_at = now
        return self._verdict(Outcome.WAITING, now)

    def _unreachable(self, now: float) -> float | None:
        return None if self._p.outage_since is None else now - self._p.outage_since

    def _verdict(self, outcome: Outcome, now: float, limit: str | None = None) -> Verdict:
        p, baseline = self._p, self.plan.baseline
        verdict = Verdict(
            outcome=outcome,
            wanted=tuple(sorted(self.plan.targets)),
            job=p.job,
            waited_seconds=now - p.started_at,
            stood_seconds=now - p.state_since if p.job else 0.0,
            restarts=p.restarts,
            unreachable_seconds=self._unreachable(now),
            unreachable_since=p.outage_since,
            error=p.last_error,
            limit=limit or self.plan.limit,
            unchanged=(
                p.job is not None
                and baseline is not None
                and not self._is_fresh(p.job)
                and p.job.state == baseline.state
            ),
        )
        if verdict.is_over:
            self._over = verdict
        return verdict
