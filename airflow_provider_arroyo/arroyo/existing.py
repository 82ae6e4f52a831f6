"""What is done with a pipeline that is there already: taken up as it is, or removed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import Caller, newest_job
from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoError, ArroyoNotFoundError

T = TypeVar("T")

SETTLE_SECONDS = 2.0
"""How long a call whose answer was lost may still be at work on the server before it is looked for in vain."""
POLL_SECONDS = 0.25
_REST_SECONDS = 120.0
"""How long a pipeline that is to be removed, resumed or restarted may take to come to rest."""
_ATTEMPTS = 5


class How(StrEnum):
    """How a submit came to its pipeline."""

    CREATED = "created"
    ADOPTED = "adopted"
    RESUMED = "resumed"
    RESTARTED = "restarted"
    REPLACED = "replaced"


class Existing:
    """Acts on pipelines that are there; each step may be taken again by a later try.

    :param caller: makes the calls.
    :param sleep, monotonic: how to wait and to measure, in seconds.
    """

    def __init__(
        self, caller: Caller, *, sleep: Callable[[float], None], monotonic: Callable[[], float]
    ) -> None:
        self._caller = caller
        self._sleep = sleep
        self._monotonic = monotonic

    def job(self, pipeline_id: str) -> Job | None:
        """Return the pipeline's newest job; None where it has none."""
        return newest_job(self._caller.call(api.pipeline_jobs(pipeline_id)))

    def adopt(self, pipeline_id: str, job: Job | None) -> tuple[How, Job | None]:
        """See that a pipeline is asked to run, and return how, and its job as it was before it was asked.

        One on its way down, to ``Stopped`` or ``Failed``, is waited for: what is asked of it earlier might
        only undo the stop, and the run after that could not be told from the one before.

        :param pipeline_id: which.
        :param job: its job, as it was seen last.
        :raises ArroyoError: if it does not come to rest.
        """
        if job is not None and _is_going_down(job):
            # A server that is started again meanwhile runs it anew, so that it never comes to rest.
            job = self._when(lambda now: not _is_going_down(now), pipeline_id)
        if job is None or job.state == JobState.FINISHED:
            return How.ADOPTED, None
        if job.state == JobState.FAILED:
            if not job.running_desired:
                # Else the stop that was asked for would meet the new run.
                self._caller.call(api.patch_pipeline(pipeline_id, stop=StopMode.NONE))
            self._restart(pipeline_id, job)
            return How.RESTARTED, job
        if job.state != JobState.STOPPED:
            return How.ADOPTED, None
        if not job.running_desired:
            self._caller.call(api.patch_pipeline(pipeline_id, stop=StopMode.NONE))
        return How.RESUMED, job

    def remove(self, pipeline_id: str) -> None:
        """Stop and delete a pipeline; nothing is done where it is gone.

        :raises ArroyoError: if it does not come to rest.
        """
        # Another try may be at the same, and be done first.
        with suppress(ArroyoNotFoundError):
            for attempt in range(_ATTEMPTS):
                job = self.job(pipeline_id)
                if job is not None and not _is_down(job):
                    self._caller.call(api.patch_pipeline(pipeline_id, stop=StopMode.IMMEDIATE))
                    self.at_rest(pipeline_id)
                try:
                    self.delete(pipeline_id)
                    break
                except ArroyoApiError as err:
                    # A restart that was asked for shows only when it begins, and it may have begun just now.
                    if err.status not in (400, 409) or attempt == _ATTEMPTS - 1:
                        raise
                self._sleep(POLL_SECONDS)

    def delete(self, pipeline_id: str) -> None:
        """Delete a pipeline that is at rest, or half of one; nothing is done where it is gone."""
        with suppress(ArroyoNotFoundError):
            self._caller.call(api.delete_pipeline(pipeline_id))

    def at_rest(self, pipeline_id: str) -> Job | None:
        """Return the pipeline's job once it is ``Stopped``, ``Finished`` or ``Failed``.

        :raises ArroyoError: if it does not come to rest.
        """
        return self._when(lambda job: job.state in TERMINAL_STATES, pipeline_id)

    def _when(self, condition: Callable[[Job], bool], pipeline_id: str) -> Job | None:
        job: Job | None = None

        def holds() -> bool:
            nonlocal job
            job = self.job(pipeline_id)
            return job is None or condition(job)

        if self.until(holds, _REST_SECONDS):
            return job
        raise ArroyoError(
            f"Pipeline {pipeline_id!r} has not come to rest in {_REST_SECONDS:.0f} s; it is "
            f"{job.state if job else 'without a job'}. Look at Arroyo's controller, then clear this task."
        )

    def until(self, look: Callable[[], T], seconds: float) -> T:
        """Return what a look finds, as soon as it finds something; what the last one found if the time is up.

        :param look: finds something, or what is false.
        :param seconds: for how long; it looks twice at least.
        """
        until = self._monotonic() + seconds
        while True:
            found = look()
            if found or self._monotonic() >= until:
                return found
            self._sleep(POLL_SECONDS)

    def _restart(self, pipeline_id: str, before: Job) -> None:
        """Ask a failed pipeline to restart; a lost answer is settled by looking at its run."""

        def has_moved() -> bool:
            job = self.job(pipeline_id)
            now = (job.id, job.run_id, job.state) if job else None
            return now != (before.id, before.run_id, before.state)

        for attempt in range(_ATTEMPTS):
            try:
                self._caller.call(api.restart_pipeline(pipeline_id))
            except ArroyoError as err:
                if not err.is_transient or attempt == _ATTEMPTS - 1:
                    raise
                if self.until(has_moved, SETTLE_SECONDS):
                    return
            else:
                return


def _is_down(job: Job) -> bool:
    """Whether nothing goes on: a stopped one that was asked to run is on its way up."""
    return job.state in TERMINAL_STATES and not (job.state == JobState.STOPPED and job.running_desired)


def _is_going_down(job: Job) -> bool:
    return job.state == JobState.FAILING or (not job.running_desired and job.state not in TERMINAL_STATES)
