"""Restarts a pipeline or changes its settings, with the requests that work in its current state.

Arroyo answers many requests with 200 but does nothing: a restart of a stopped pipeline, or any change of a finished
one. Here, each change results in the right request, or in an error that says why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState, StopMode
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.pipelines.change_notes import ChangeNote, ChangeNotes
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.compare import begins_new_run, compare_settings
from airflow_provider_arroyo.pipelines.existing import PICKED_UP_SECONDS, Existing, is_going_down
from airflow_provider_arroyo.text import duration, run_number, shorten

_ONLY_0_16 = ("env_vars", "scheduler_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What was requested.

    :param action: what was done; ``updated`` also for a change that was requested earlier, if its run is awaited.
    :param before: its job before the request, if a new run follows; None if none does.
    :param must_run: whether the pipeline must be running in the end.
    :param changes: the changed settings, without secrets.
    """

    action: Action
    before: Baseline | None = None
    must_run: bool = True
    changes: tuple[Mapping[str, str], ...] = ()


class Change:
    """Changes an existing pipeline.

    :param client: sends the requests, and needs a deadline: until then, the pipeline may take to run or to end. Its
        log gets a line for what is dropped, and for what is waited for first.
    :param pipeline: the pipeline.
    :param notes: stores what an update changes, right before its request.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self, client: ArroyoClient, pipeline: Pipeline, *, notes: ChangeNotes, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._pipeline = pipeline
        self._name = shorten(pipeline.name, 80)
        self._notes = notes
        self._began = clock()
        self._existing = Existing(client)
        self.left_stopped: str | None = None
        """How to start the pipeline if the task ends now, because a restart has stopped it; None if it has not."""

    def restart(self, *, force: bool = False, ignore_state: bool = False) -> Changed:
        """Request a new run: restart a running or failed pipeline, resume a stopped one.

        :param force: whether to skip the checkpoint, default False.
        :param ignore_state: whether to begin without the state of the last checkpoint (0.16), default False.
        :raises ArroyoError: if it has finished or is about to; nothing was changed then.
        :raises ArroyoUnsupportedError: if the server is too old for ``ignore_state``.
        """
        # Arroyo may be stuck in a restart, and obeys force at once.
        job = (self._restarting() if force else None) or self._settled()
        if ignore_state:
            return self._restart_without_state(job, force=force)
        if job.state in (JobState.RUNNING, JobState.RESTARTING):
            self._existing.restart(self._pipeline.id, job, force=force)
            if not force:
                self._existing.see_restart(self._pipeline.id, job)
            return self._restarted(job)
        action, before = self._existing.adopt(self._pipeline.id, job)
        return Changed(action=action, before=self._baseline(before))

    def update(self, settings: Mapping[str, Any]) -> Changed:
        """Change settings by one PATCH that contains only what differs.

        :param settings: ``parallelism``, ``checkpoint_interval`` (a timedelta), ``env_vars``, ``scheduler_config``;
            None does not change one.
        :raises ArroyoError: if it has finished or is about to; nothing was changed then.
        :raises ArroyoUnsupportedError: if the server is too old for one of them.
        """
        job = self._settled()
        given = [name for name in _ONLY_0_16 if settings.get(name) is not None]
        if given and job.is_from_0_15:
            raise ArroyoUnsupportedError.of(given)
        runs = job.state == JobState.RUNNING
        differences = compare_settings(self._pipeline, job, settings)
        # A stopped or failed pipeline uses them at its next start.
        is_new_run = runs and begins_new_run(differences)
        before = self._baseline(job if is_new_run else None)
        note = ChangeNote.of(self._pipeline.id, settings, differences, before)
        if not differences:
            return self._unchanged(job, note, settings)
        self._notes.write(note)
        self._client.patch_pipeline(self._pipeline.id, **{one.argument: one.wanted for one in differences})
        if is_new_run:
            self._existing.see_restart(self._pipeline.id, job)
        return Changed(action=Action.UPDATED, before=before, must_run=runs, changes=note.changes)

    def _unchanged(self, job: Job, note: ChangeNote, settings: Mapping[str, Any]) -> Changed:
        """Return what is still to be awaited of a change that the server has already."""
        before, runs = None, job.state == JobState.RUNNING
        if settings.get("parallelism") is not None and lacks_tasks(self._pipeline, job):
            before = self._apply_parallelism(job)
        if (noted := self._notes.read(note)) is not None:
            # Only the run before it tells whether the new run has begun: this try's, if it had to restart it.
            self._client.log.info("An earlier try of this task requested the change: %s", self._name)
            before = before or noted.before
            return Changed(action=Action.UPDATED, before=before, must_run=runs, changes=noted.changes)
        # Requested earlier, and not in effect yet.
        action = Action.UNCHANGED if before is None else Action.UPDATED
        return Changed(action=action, before=before, must_run=runs)

    def _baseline(self, job: Job | None) -> Baseline | None:
        return None if job is None else Baseline.of(job, requested_at=self._began)

    def _restarted(self, before: Job) -> Changed:
        return Changed(action=Action.RESTARTED, before=self._baseline(before))

    def _apply_parallelism(self, before: Job) -> Baseline | None:
        """Make sure that a parallelism which was requested earlier takes effect; return the job before that.

        Arroyo may be about to apply it. It never does if it got it between two runs, after it had read the settings.
        """

        def has_changed() -> bool:
            job = self._client.get_job(self._pipeline.id)
            return job is None or not lacks_tasks(self._pipeline, job) or job.run_id != before.run_id

        if not self._existing.retry_until(has_changed, PICKED_UP_SECONDS):
            self._client.log.warning(
                "Restarting, since it runs %s tasks instead of %s: Arroyo has dropped the new parallelism: %s",
                before.tasks,
                self._pipeline.graph.tasks,
                self._name,
            )
            self._existing.restart(self._pipeline.id, before)
            self._existing.see_restart(self._pipeline.id, before)
        return self._baseline(before)

    def _restarting(self) -> Job | None:
        """Return the job if a restart of it is in progress, and no stop is requested."""
        job = self._client.get_job(self._pipeline.id)
        return job if job is not None and job.state == JobState.RESTARTING and job.running_desired else None

    def _settled(self) -> Job:
        """Return the job once it is running or has ended, and is not between two runs or stopping.

        A change that is requested between two runs may take effect with the next run, or restart that run.
        """
        job = self._client.get_job(self._pipeline.id)
        if job is not None and _is_changing(job):
            job = self._settle(job)
        if job is None:
            raise ArroyoError(
                f"{self._pipeline.label} has no job: its creation was interrupted halfway. "
                "Delete it and submit it again."
            )
        if job.state == JobState.FINISHED:
            raise ArroyoError(
                f"{self._pipeline.label} is Finished and can never run again: Arroyo "
                "ignores all changes to it. Nothing was changed. Submit it again to run it once more.",
                is_fatal=True,
            )
        if job.state == JobState.FINISHING:
            raise ArroyoError(
                f"{self._pipeline.label} is Finishing: at least one of its sources has ended, "
                "and it takes no more checkpoints that a new run could continue from. Nothing was changed. Wait "
                "until it has finished, or stop it with mode='immediate', then submit it again."
            )
        return job

    def _settle(self, job: Job) -> Job | None:
        began = self._client.clock()
        self._client.log.info("%s, waiting until it runs or has ended: %s", job.state, self._name)

        latest = self._existing.poll_while(self._pipeline.id, _is_changing, self._existing.seconds_left())
        if latest is None or not _is_changing(latest):
            return latest
        way_out = "stop the pipeline first, with mode='force' if nothing else helps"
        if latest.state == JobState.RESTARTING and latest.running_desired:
            way_out = "restart it with force=True, which does without its final checkpoint"
        raise ArroyoError(
            f"{self._pipeline.label} neither ran nor ended within {duration(self._client.clock() - began)}; it is "
            f"{latest.state} ({run_number(latest.run_id)}). The change was not requested, "
            "since Arroyo can change it only when it is running or has ended. Allow more time (timeout), check "
            f"Arroyo's controller and workers, or {way_out}."
        )

    def _restart_without_state(self, job: Job, *, force: bool) -> Changed:
        if job.is_from_0_15:
            raise ArroyoUnsupportedError(
                "This Arroyo is older than 0.16 and would ignore ignore_state. Nothing was changed. Delete the "
                "pipeline and submit it again: that also starts without state."
            )
        checkpoints = self._client.list_checkpoints(self._pipeline.id, job.id)
        last = max((one.epoch for one in checkpoints if one.is_finished), default=None)
        what = "It has no finished checkpoint" if last is None else f"Its checkpoint {last} is dropped"
        self._client.log.warning("Restarting without state. %s: %s", what, self._name)
        if job.state == JobState.FAILED and not job.running_desired:
            # Otherwise the earlier stop request would stop the new run.
            self._client.patch_pipeline(self._pipeline.id, stop=StopMode.NONE)
        try:
            self._existing.restart(self._pipeline.id, job, force=force, ignore_state=True)
        except ArroyoApiError as err:
            # If the controller runs jobs in workers, the server requires a stop first, and then replaces the job.
            if err.status != 409 or job.state not in (JobState.RUNNING, JobState.RESTARTING):
                raise
            job = self._stop_and_restart(StopMode.IMMEDIATE if force else StopMode.CHECKPOINT)
        return self._restarted(job)

    def _stop_and_restart(self, mode: StopMode) -> Job:
        """Stop the pipeline and restart it without state; return its job in between.

        :raises ArroyoError: if it is not started again; says that it was stopped, and what to do.
        """
        self._client.log.warning("Stopping first, as this version of Arroyo requires: %s", self._name)
        self.left_stopped = left_stopped = (
            f"{self._pipeline.label} was asked to stop, which a restart without state requires, and was not started "
            "again. Another try of this task starts it; without one, start it by "
            f"ArroyoRestartPipelineOperator(pipeline_id={self._pipeline.id!r}, ignore_state=True)."
        )
        try:
            self._existing.stop(self._pipeline.id, mode)
            job = self._client.get_job(self._pipeline.id)
            if job is not None and job.state != JobState.FINISHED:
                self._existing.restart(self._pipeline.id, job, ignore_state=True)
        except ArroyoNotFoundError:
            # Deleted meanwhile, so that nothing can start it.
            self.left_stopped = None
            raise
        except ArroyoError as err:
            raise err.adding(left_stopped) from err.__cause__
        self.left_stopped = None
        if job is None or job.state == JobState.FINISHED:
            raise ArroyoError(
                f"{self._pipeline.label} has finished while it was stopped, which a restart without state requires. "
                "It can never run again. Submit it again to run it once more.",
                is_fatal=True,
            )
        return job


def _is_changing(job: Job) -> bool:
    return job.state not in AT_WORK | TERMINAL_STATES or is_going_down(job)


def lacks_tasks(pipeline: Pipeline, job: Job) -> bool:
    """Return whether a running pipeline runs with another parallelism than the one that the server has for it."""
    wanted = pipeline.graph.tasks
    return job.state == JobState.RUNNING and None not in (job.tasks, wanted) and job.tasks != wanted


def still_different(client: ArroyoClient, pipeline_id: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the settings that still differ, or are not in effect.

    :param client: sends the requests.
    :param pipeline_id: id of the pipeline.
    :param settings: see :meth:`Change.update`.
    """
    pipeline, job = client.get_pipeline(pipeline_id), client.get_job(pipeline_id)
    found = [one.argument for one in compare_settings(pipeline, job, settings)]
    if (
        settings.get("parallelism") is not None
        and not found
        and job is not None
        and lacks_tasks(pipeline, job)
    ):
        found.append("parallelism")
    return tuple(found)
