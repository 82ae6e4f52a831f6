"""Gathers what Arroyo reports about a pipeline, for a diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job
from airflow_provider_arroyo.monitoring.diagnosis import Evidence

_POLL_SECONDS = 0.1


def gather(
    client: ArroyoClient,
    pipeline_id: str,
    *,
    observe_seconds: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Evidence:
    """Return what Arroyo reports about a pipeline: its job, checkpoints, errors and metrics. Changes nothing.

    :param client: sends the requests, four or five, and one for each further poll.
    :param pipeline_id: which.
    :param observe_seconds: for how long its job is polled, default 0: once. The API keeps no history, so only that
        shows a pipeline that restarts again and again.
    :param sleep, monotonic: how to wait and to measure, in seconds.
    :param now: the time, where the server's responses carry none.
    :raises ArroyoNotFoundError: if there is no such pipeline.
    """
    pipeline = client.get_pipeline(pipeline_id)
    jobs: list[Job] = []
    until = monotonic() + observe_seconds
    while True:
        response = client.send(endpoints.get_job(pipeline_id))
        if response.value is not None:
            jobs.append(response.value)
        has_ended = response.value is None or response.value.state in TERMINAL_STATES
        if has_ended or monotonic() >= until:
            break
        sleep(_POLL_SECONDS)
    date = response.server_date
    moment = date.timestamp() if date is not None else now()
    if not jobs:
        return Evidence(pipeline=pipeline, now=moment)
    job_id = jobs[-1].id
    return Evidence(
        pipeline=pipeline,
        now=moment,
        jobs=tuple(job for job in jobs if job.id == job_id),
        checkpoints=client.list_checkpoints(pipeline_id, job_id),
        errors=client.list_job_errors(pipeline_id, job_id, limit=10).data,
        metrics=client.list_metrics(pipeline_id, job_id),
    )
