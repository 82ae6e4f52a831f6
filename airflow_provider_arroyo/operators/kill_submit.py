"""What happens to a pipeline if its task ends while creating or adopting it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.operators.base import ArroyoOperator

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.enums import StopMode
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.on_kill import WatchedRun
    from airflow_provider_arroyo.pipelines.submit import Submission

_FIND_SECONDS = 0.25
"""Time between two look-ups of a pipeline that is being created."""


class SubmittingOperator(ArroyoOperator):
    """The base class of an operator whose task may be killed before the wait for its pipeline has begun.

    Also requires these attributes: ``pipeline_id`` and ``pipeline_name``.
    """

    pipeline_id: str | None
    pipeline_name: str
    _submission: Submission | None = None
    """The submit in progress, until a wait has seen the pipeline."""

    def on_kill(self) -> None:
        """Apply ``stop_on_kill`` when Airflow kills the task, even while the pipeline is being created."""
        from airflow_provider_arroyo.on_kill import WatchedRun

        submission = self._submission
        if submission is None or self._waiting is not None or self._has_failed:
            super().on_kill()
            return
        exists, self._has_failed = submission.pipeline, True
        pipeline = self._expected() if exists is None else self._ref(exists)
        self._stop_on_kill(WatchedRun(pipeline=pipeline), is_timeout=self._is_timed_out)

    def _stop_on_kill(self, watched: WatchedRun, *, is_timeout: bool) -> None:
        submission = self._submission
        is_seen = watched.job is not None
        if is_seen or submission is None or not (submission.is_pending or submission.has_created):
            self._submission = None
            super()._stop_on_kill(watched, is_timeout=is_timeout)
        else:
            # Killed before its first poll: the label tells which pipeline it created.
            self._stop_submission(is_timeout=is_timeout)

    def _stop_submission(self, *, is_timeout: bool) -> None:
        submission, self._submission, self._has_failed = self._submission, None, True
        if submission is None:
            return
        try:
            client = self._new_client()
        except ValueError as err:
            self.log.error("No stop can be requested, so its pipeline keeps running: %s", err)
            return
        with client:
            stop_submission(
                client,
                submission,
                self._expected(),
                self.stop_on_kill,
                ti=self._ti,
                is_timeout=is_timeout,
                log=self.log,
            )

    def _expected(self) -> PipelineRef:
        """Return what is known of the pipeline before it exists."""
        from airflow_provider_arroyo.monitoring.plan import PipelineRef

        return PipelineRef(pipeline_id=str(self.pipeline_id or ""), name=str(self.pipeline_name))


def stop_submission(
    client: ArroyoClient,
    submission: Submission,
    pipeline: PipelineRef,
    mode: StopMode | None,
    *,
    ti: Any,
    is_timeout: bool,
    log: Any,
    limit_seconds: float | None = None,
) -> bool:
    """Stop the pipeline that a submit is creating, if its task ends before the wait for it began.

    Stops only a pipeline that a request of this submit created, found by its ownership label as soon as it exists. A
    pipeline of an earlier try that was being adopted keeps running. Never raises.

    :param client: sends the requests; not the submit's own client, which may be in the middle of a request.
    :param submission: the interrupted submit.
    :param pipeline: the pipeline that it creates, as far as it is known.
    :param mode, ti, is_timeout, log: see :func:`stop_on_kill`.
    :param limit_seconds: how long it may take in total; default the time that a worker has.
    :returns: whether a stop was requested.
    """
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.on_kill import WORKER_SECONDS, WatchedRun, has_ended, request_stop

    name, adopted = pipeline.short, submission.adopted
    advice = (
        f"If pipeline {name!r} exists, it keeps running; stop it with "
        f"ArroyoStopPipelineOperator(pipeline_name={name!r}) or in Arroyo's console, or clear this task to adopt it"
    )
    if adopted is not None:
        pipeline = PipelineRef(pipeline_id=adopted.id, name=adopted.name)
        advice = f"{WatchedRun(pipeline=pipeline).advice}, or clear this task to adopt it"
    if mode is None:
        log.info("This task ends. %s", advice)
        return False
    if adopted is not None:
        log.warning(
            "%s is not stopped: this task ended before it had adopted or replaced it. %s",
            pipeline.label,
            advice,
        )
        return False
    limit_seconds = WORKER_SECONDS if limit_seconds is None else limit_seconds
    deadline = time.monotonic() + limit_seconds
    if not is_timeout and not has_ended(ti, limit_seconds / 2, advice, log):
        return False
    try:
        limited = client.with_limits(
            max_elapsed_seconds=max(0.0, deadline - time.monotonic()), deadline=deadline
        )
        found = submission.find_created(limited)
        while found is None and submission.is_pending and time.monotonic() + _FIND_SECONDS < deadline:
            time.sleep(_FIND_SECONDS)
            found = submission.find_created(limited)
        if found is None:
            log.warning("This task ended before it had created its pipeline. %s", advice)
            return False
        watched = WatchedRun(
            pipeline=PipelineRef(pipeline_id=found.id, name=found.name), job=limited.get_job(found.id)
        )
    except Exception as err:  # noqa: BLE001  # the task ends whatever fails, so it is logged
        log.error("The pipeline of a task that ended was not found: %s. %s", err, advice)
        return False
    return request_stop(client, watched, mode, deadline, log)
