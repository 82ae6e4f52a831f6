"""What happens to a pipeline whose task ends while it is being created."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.on_kill import WORKER_SECONDS, WatchedRun, has_ended, request_stop

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.enums import StopMode
    from airflow_provider_arroyo.pipelines.submit import Submission

_FIND_SECONDS = 0.25
"""How often a pipeline that is being created is looked for."""


def stop_submission(
    client: ArroyoClient,
    submission: Submission,
    pipeline: PipelineRef,
    mode: StopMode | None,
    *,
    ti: Any,
    is_timeout: bool,
    log: Any,
    limit_seconds: float = WORKER_SECONDS,
) -> bool:
    """Stop the pipeline that a submit is creating, when its task ends before the wait for it began.

    Only what a request of this very submit created is stopped: it is found by its ownership label, as soon as it is
    there. Never raises.

    :param client: sends the requests; not the submit's own, which may be in the middle of one.
    :param submission: what was interrupted.
    :param pipeline: what it creates, as far as that is known.
    :param mode, ti, is_timeout, log, limit_seconds: as for :func:`stop_on_kill`.
    :returns: whether a stop was requested.
    """
    name = pipeline.short
    advice = (
        f"If pipeline {name!r} exists, it keeps running; stop it with "
        f"ArroyoStopPipelineOperator(pipeline_name={name!r}) or in Arroyo's console, or clear this task to adopt it"
    )
    if mode is None:
        log.info("This task ends. %s", advice)
        return False
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
