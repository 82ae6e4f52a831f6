"""The one judge of waits.

``PipelineWait`` is told what was seen, and when; it says whether the wait is over. The synchronous wait, the
trigger, the sensor and the shared feed only bring it observations, so they cannot disagree.

What it knows of Arroyo beyond the names of the states (each seen on real servers):

- A change is answered before anything happened; for half a second the old state still shows. A wait with a
  baseline takes a state that is not terminal only from a higher ``run_id`` or another job, and the baseline's
  own terminal state only after it stood unchanged for a grace time or another state was seen.
- ``Running`` may be the 260 ms before a failure (``stable_for``), or a pipeline on its way down
  (``running_desired: false``).
- ``Failing`` is the failure already; ``Finished`` never leaves; ``Stopped`` can be resumed.
- Names that nobody knows yet are progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, ArroyoResponseError
from airflow_provider_arroyo.monitoring.notes import Note, Notes
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict, job_from_dict, job_to_dict

_RESTING = TERMINAL_STATES | {JobState.FAILING}


@dataclass(slots=True)
class _Progress:
    """What a wait remembers, and takes along when it moves from the worker to the triggerer."""

    started_at: float
    now: float
    job: Job | None = None
    state_since: float = 0.0
    held_since: float | None = None
    left_baseline: bool = False
    restarts: int = 0
    looked_at: float | None = None
    outage_since: float | None = None
    last_error: ArroyoError | None = None
    said_at: float = 0.0


class PipelineWait:
    """Decides, from what was seen and when, whether a wait is over.

    Times are seconds since the epoch. A clock that steps back is taken to stand still.

    :param plan: the goal and the limits.
    :param now: when the wait begins.
    :param label: what the log calls the pipeline, e.g. its name and id.
    :param progress: what :meth:`progress` gave in the process that waited before, to go on from there.
    """

    def __init__(
        self, plan: WaitPlan, *, now: float, label: str = "", progress: Mapping[str, Any] | None = None
    ) -> None:
        self.plan = plan
        self._notes = Notes(label or f"Pipeline {plan.pipeline_id}")
        self._p = (
            _progress_from_dict(progress, now)
            if progress
            else _Progress(started_at=now, now=now, said_at=now)
        )

    # -- what was seen ---------------------------------------------------------------------------------------

    def observe(self, job: Job | None, now: float) -> Verdict:
        """Take a look that succeeded.

        :param job: the pipeline's newest job; None when it has none yet.
        :param now: when the answer was read.
        :return: the verdict; once it :attr:`~.Verdict.is_over`, the wait has ended.
        """
        now = self._advance(now)
        p = self._p
        if p.outage_since is not None:
            self._notes.reachable_again(now - p.outage_since)
            p.said_at = now
        p.looked_at, p.outage_since, p.last_error = now, None, None
        if job is not None:
            self._remember(job, now)
            if outcome := self._judge(job, now):
                return self._verdict(outcome, now)
        return self._pending(now)

    def observe_error(self, error: ArroyoError, now: float) -> Verdict:
        """Take a look that failed, after its own retries.

        :param error: how it failed.
        :param now: when it was given up.
        :return: the verdict: at once for what no waiting mends, else an outage that is tolerated for a while.
        """
        now = self._advance(now)
        p = self._p
        p.last_error = error
        seen = p.looked_at is not None
        if isinstance(error, ArroyoNotFoundError):
            known = p.job is not None or self.plan.baseline is not None
            return self._verdict(Outcome.DELETED if known else Outcome.MISSING, now)
        # A gateway that serves its own page for a while looks like "not Arroyo"; at an address where Arroyo
        # has answered before, that is an outage.
        if not error.is_transient and not (seen and isinstance(error, ArroyoResponseError)):
            return self._verdict(Outcome.ERROR, now)
        if p.outage_since is None:
            p.outage_since = p.looked_at if p.looked_at is not None else p.started_at
            self._notes.unreachable(error, self.plan.outage_tolerance)
            p.said_at = now
        return self._pending(now)

    def tick(self, now: float) -> Verdict:
        """Let time pass without a look: the deadline, an outage's limit or the heartbeat can be due."""
        return self._pending(self._advance(now))

    # -- what follows ----------------------------------------------------------------------------------------

    def notes(self) -> list[Note]:
        """Return what is to be logged since the last call: each change once, a rare heartbeat, outages."""
        return self._notes.take()

    def next_due(self) -> float:
        """Return when a look at an unchanged job could change the verdict, seconds since the epoch."""
        p, plan = self._p, self.plan
        due = min(plan.deadline, p.said_at + plan.heartbeat.total_seconds())
        if p.outage_since is not None:
            due = min(due, p.outage_since + plan.outage_tolerance.total_seconds())
        if p.held_since is not None:
            due = min(due, p.held_since + plan.stable_for.total_seconds())
        if plan.baseline is not None and p.job is not None and not p.left_baseline:
            since = max(p.state_since, plan.baseline.asked_at)
            if p.job.state in _RESTING:
                due = min(due, since + plan.stale_grace.total_seconds())
        return due

    def progress(self) -> dict[str, Any]:
        """Return what the wait remembers as JSON values, for the process that goes on with it."""
        p = self._p
        return {
            "started_at": p.started_at,
            "job": job_to_dict(p.job) if p.job else None,
            "state_since": p.state_since,
            "held_since": p.held_since,
            "left_baseline": p.left_baseline,
            "restarts": p.restarts,
            "looked_at": p.looked_at,
            "outage_since": p.outage_since,
            "said_at": p.said_at,
        }

    # -- inside ----------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> float:
        self._p.now = max(self._p.now, now)
        return self._p.now

    def _remember(self, job: Job, now: float) -> None:
        p, before = self._p, self._p.job
        p.job = job
        if (
            before is not None
            and (before.id, before.run_id, before.state) == (job.id, job.run_id, job.state)
            and before.running_desired == job.running_desired
        ):
            self._hold(job, now)
            return
        new_run = before is not None and (before.id != job.id or job.run_id > before.run_id)
        if before is not None and before.id == job.id and before.run_id > 0 and self._is_fresh(before):
            # A poll can miss every state between two runs; the rise of run_id alone counts them.
            p.restarts += max(0, job.run_id - before.run_id)
        if before is not None and before.state == job.state and not new_run:
            if before.running_desired != job.running_desired:
                self._notes.desire_changed(job)
        else:
            stood = now - p.state_since if before is not None else None
            self._notes.changed(before, job, stood)
            p.state_since = now
        p.said_at = now
        p.held_since = None
        baseline = self.plan.baseline
        if baseline is not None and job.state != baseline.state:
            p.left_baseline = True
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

    def _is_stale(self, job: Job, now: float) -> bool:
        """Whether this may be what stood before the change that is waited for."""
        baseline = self.plan.baseline
        if baseline is None or self._is_fresh(job):
            return False
        if job.state not in _RESTING:
            return True
        if self._p.left_baseline or job.state != baseline.state:
            return False
        stood_since = max(self._p.state_since, baseline.asked_at)
        return now - stood_since < self.plan.stale_grace.total_seconds()

    def _judge(self, job: Job, now: float) -> Outcome | None:
        plan = self.plan
        if job.state == JobState.FINISHED and not self._is_fresh(job) and not self._p.left_baseline:
            # It was finished before the change was asked; nothing leaves that state, so nothing will happen.
            return Outcome.FINISHED
        if self._is_stale(job, now):
            return None
        if job.state in plan.targets:
            held = self._p.held_since
            if held is None:
                return None
            lasted = now - held >= plan.stable_for.total_seconds()
            return Outcome.REACHED if lasted or job.state in TERMINAL_STATES else None
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
        if p.outage_since is not None and now - p.outage_since >= plan.outage_tolerance.total_seconds():
            return self._verdict(Outcome.UNREACHABLE, now)
        if now - p.said_at >= plan.heartbeat.total_seconds():
            self._notes.still(p.job, now - p.state_since, self._unreachable(now), plan, now)
            p.said_at = now
        return self._verdict(Outcome.WAITING, now)

    def _unreachable(self, now: float) -> float | None:
        return None if self._p.outage_since is None else now - self._p.outage_since

    def _verdict(self, outcome: Outcome, now: float) -> Verdict:
        p = self._p
        return Verdict(
            outcome=outcome,
            wanted=tuple(sorted(self.plan.targets)),
            job=p.job,
            waited_seconds=now - p.started_at,
            stood_seconds=now - p.state_since if p.job else 0.0,
            restarts=p.restarts,
            unreachable_seconds=self._unreachable(now),
            unreachable_since=p.outage_since,
            error=p.last_error,
        )


def _progress_from_dict(data: Mapping[str, Any], now: float) -> _Progress:
    """Read what ``progress()`` wrote; what is missing or damaged is as if nothing had been seen yet."""
    fresh = _Progress(started_at=now, now=now, said_at=now)
    try:
        job = job_from_dict(data["job"]) if data.get("job") else None
        return replace(
            fresh,
            started_at=float(data.get("started_at", now)),
            job=job,
            state_since=float(data.get("state_since", now)),
            held_since=data.get("held_since"),
            left_baseline=bool(data.get("left_baseline", False)),
            restarts=int(data.get("restarts", 0)),
            looked_at=data.get("looked_at"),
            outage_since=data.get("outage_since"),
            said_at=float(data.get("said_at", now)),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return fresh
