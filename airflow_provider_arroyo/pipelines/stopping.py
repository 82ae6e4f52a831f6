"""Requests a stop so that its final checkpoint can be proven afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, Disposition
from airflow_provider_arroyo.monitoring.checkpoints import (
    StopRequest,
    checkpoint_of_stop,
    checkpoint_of_stopped,
)
from airflow_provider_arroyo.monitoring.plan import PipelineRef

LACKS_FINAL_CHECKPOINT = "%s has not finished its final checkpoint within %s; it is stopped without it"
"""The warning about a stop that waits for it in vain, with the pipeline's label and a duration."""

_CHECKPOINTS_SECONDS = 10.0


def for_checkpoints(client: ArroyoClient) -> ArroyoClient:
    """Return a client with a short limit: checkpoints only prove what a stop does, and must not delay it."""
    return client.with_short_limit(_CHECKPOINTS_SECONDS)


def effective_stop_mode(job: Job, wanted: StopMode = StopMode.CHECKPOINT) -> StopMode:
    """Return the mode that stops a job. In ``Finishing``, only an immediate stop works, not even one by force.

    :param job: the job now.
    :param wanted: the mode for every other state, default with a checkpoint.
    """
    return StopMode.IMMEDIATE if job.state == JobState.FINISHING else wanted


class StopProof:
    """Proves the final checkpoint of one pipeline that is stopped.

    :param client: sends the requests; its log gets a warning for what cannot be proven.
    :param pipeline: the pipeline.
    :param is_required: whether a missing proof is an error instead, default False.
    """

    def __init__(self, client: ArroyoClient, pipeline: PipelineRef, *, is_required: bool = False) -> None:
        self._client = client
        self._pipeline = pipeline
        self._is_required = is_required

    def request_stop(
        self, job: Job | None, mode: StopMode, *, sending: Callable[[], object] = lambda: None
    ) -> StopRequest | None:
        """Request a stop; return what the proof will need, or None if nothing is to be proven.

        :param job: the pipeline's job before the stop; None if it has none.
        :param mode: how to stop.
        :param sending: called when everything has been read and the stop is about to be requested; default does
            nothing.
        :raises ArroyoError: if Arroyo is unreachable, or the checkpoints cannot be read although they are required.
        """
        pipeline_id = self._pipeline.pipeline_id
        before: tuple[Checkpoint, ...] | None = ()
        if job is not None and mode is StopMode.CHECKPOINT:
            before = self._checkpoints(job)
        sending()
        response = self._client.send(endpoints.patch_pipeline(pipeline_id, stop=mode))
        if mode is not StopMode.CHECKPOINT or before is None:
            return None
        accepted: tuple[Checkpoint, ...] | None = None
        if job is not None and all(one.checkpoint_type is None for one in before):
            # Without types, only the epoch tells which checkpoint began after the request.
            with suppress(ArroyoError):
                accepted = tuple(for_checkpoints(self._client).list_checkpoints(pipeline_id, job.id))
        date = response.server_date
        at_micros = int(date.timestamp() * 1_000_000) if date else None
        return StopRequest.after(before, at_micros, accepted=accepted, job=job)

    def of_stop(self, job: Job, stop: StopRequest | None) -> dict[str, int] | None:
        """Return epoch and finish time of the checkpoint that a requested stop took; None without proof.

        :param job: the stopped job.
        :param stop: the record of the stop request; None if it cannot be read.
        :raises ArroyoError: if a proof is required, and there is none.
        """
        checkpoints = self._checkpoints(job) or ()
        found = None if stop is None else checkpoint_of_stop(checkpoints, stop, job)
        if found is None:
            are_gone = not checkpoints and stop is not None and stop.after_epoch > 0
            self._report_missing(job, are_gone=are_gone)
        return _summary(found)

    def of_stopped(self, job: Job, mode: StopMode) -> dict[str, int] | None:
        """Return epoch and finish time of the final checkpoint of a job that was found stopped; None without proof.

        :param job: the stopped job.
        :param mode: how it would have been stopped; only with a checkpoint is a missing proof reported.
        :raises ArroyoError: if a proof is required, and there is none.
        """
        found = checkpoint_of_stopped(self._checkpoints(job) or (), job)
        if found is None and mode is StopMode.CHECKPOINT:
            self._report_missing(job)
        return _summary(found)

    def _checkpoints(self, job: Job) -> tuple[Checkpoint, ...] | None:
        """Return the job's checkpoints; None if they cannot be read although Arroyo responds."""
        for is_last in (False, True):
            try:
                limited = for_checkpoints(self._client)
                return tuple(limited.list_checkpoints(self._pipeline.pipeline_id, job.id))
            except ArroyoError as err:
                if is_last or err.disposition is Disposition.PERMANENT:
                    error = err
                    break
            # Waits while Arroyo is unreachable; if Arroyo responds, only the checkpoints cannot be read.
            self._client.get_job(self._pipeline.pipeline_id)
        if error.is_fatal:
            raise error
        # After the deadline, the client's error reports the timeout, and its cause is the failure.
        cause = error.__cause__ if isinstance(error.__cause__, ArroyoError) else error
        text = f"{self._pipeline.label} is {job.state}, and its checkpoints cannot be read: {cause}"
        if self._is_required:
            raise ArroyoError(f"{text}\nSet require_checkpoint=False to stop it without this proof.")
        end = "" if job.is_terminal else "\nIt is stopped anyway, without proof of a final checkpoint."
        self._client.log.warning("%s%s", text, end)
        return None

    def _report_missing(self, job: Job, *, are_gone: bool = False) -> None:
        """Raise or log that a stopped job has no proof.

        :param are_gone: whether Arroyo lists none of the checkpoints any more that it listed before the stop.
        """
        label = self._pipeline.label
        text = f"{label} was stopped before its first run, so it has no checkpoint."
        if are_gone:
            text = (
                f"{label} is {job.state}, and Arroyo no longer lists its checkpoints, so nothing can prove "
                "that it took a final one. With job-controller = 'worker', Arroyo lists them only while the "
                "pipeline runs."
            )
        elif job.run_id:
            text = (
                f"{label} is {job.state}, but nothing proves that it took a final checkpoint: a resume may "
                "go back to an earlier one. Check the log of Arroyo's controller."
            )
        if self._is_required:
            raise ArroyoError(text)
        self._client.log.warning("%s", text)


def _summary(checkpoint: Checkpoint | None) -> dict[str, int] | None:
    if checkpoint is None:
        return None
    return {"epoch": checkpoint.epoch, "finish_time_micros": checkpoint.finish_time_micros or 0}


def lacks_final_checkpoint(job: Job | None) -> bool:
    """Return whether a job waits for its final checkpoint before it stops.

    It waits for ever if a source or sink is stuck: in that state, Arroyo (0.15 and 0.16) notices no failure.
    """
    return job is not None and job.state == JobState.CHECKPOINT_STOPPING
