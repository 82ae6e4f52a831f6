"""Gathers what Arroyo reports about a pipeline, for a diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.body_secrets import pipeline_secret_values
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState, Pipeline
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.diagnosis import Evidence
from airflow_provider_arroyo.monitoring.plan import PipelineRef

T = TypeVar("T")

EXPLAIN_SECONDS = 5.0
"""How long the error of a wait may be delayed to read its causes, in seconds."""

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

    :param client: sends the requests: four or five, one for each further poll, and one more to let Arroyo plan the
        SQL if the pipeline has failed or has no job.
    :param pipeline_id: id of the pipeline.
    :param observe_seconds: how long to poll its job, default 0: once. The API keeps no history, so only this shows a
        pipeline that keeps restarting.
    :param sleep, monotonic: wait for and measure seconds.
    :param now: the time, if the server's responses do not contain it.
    :returns: the evidence; if Arroyo reports only the state, ``unread`` names what could not be read.
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
    refusals = _refusals(client, pipeline, jobs[-1] if jobs else None)
    if not jobs:
        return _without_echoes(Evidence(pipeline=pipeline, now=moment, refusals=refusals))
    job_id = jobs[-1].id
    where = pipeline_id, job_id
    # Arroyo responds, so details that it cannot send are not worth a long wait.
    limited = client.with_limits(max_elapsed_seconds=min(EXPLAIN_SECONDS, client.limits.max_elapsed_seconds))
    unread: dict[str, str] = {}

    def read(what: str, request: Callable[[], T], default: T) -> T:
        try:
            return request()
        except ArroyoNotFoundError:
            raise  # deleted meanwhile
        except ArroyoError as err:
            # The last try says why: Arroyo itself is not unreachable.
            unread[what] = str(err.__cause__ if isinstance(err.__cause__, ArroyoError) else err)
            return default

    no_errors: tuple[JobError, ...] = ()
    evidence = Evidence(
        pipeline=pipeline,
        now=moment,
        jobs=tuple(job for job in jobs if job.id == job_id),
        checkpoints=read("checkpoints", lambda: limited.list_checkpoints(*where), ()),
        errors=read("errors", lambda: limited.list_job_errors(*where, limit=10).data, no_errors),
        metrics=read("metrics", lambda: limited.list_metrics(*where), ()),
        refusals=refusals,
        unread=unread,
    )
    return _without_echoes(evidence)


def gather_for_error(
    client: ArroyoClient,
    ref: PipelineRef,
    job: Job,
    *,
    seconds: float = EXPLAIN_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> tuple[Evidence, ArroyoError | None]:
    """Return what explains the failure of a wait, as far as it can be read in time: one try of each request.

    :param client: sends the requests, five at most.
    :param ref: the pipeline.
    :param job: the job as the wait last saw it.
    :param seconds: how long it may take in total, default 5.
    :param monotonic: measures seconds.
    :param now: the time, if the server's responses do not contain it.
    :returns: the evidence, and why something is missing from it; None if nothing is missing.
    """
    deadline = monotonic() + seconds
    limited = client.with_limits(max_elapsed_seconds=0.0, first_try_seconds=seconds, deadline=deadline)
    failed: dict[str, ArroyoError] = {}

    def read(what: str, request: Callable[[], T], default: T) -> T:
        try:
            return request()
        except ArroyoError as err:
            failed[what] = err
            return default

    where = ref.pipeline_id, job.id
    # The most useful evidence comes first.
    no_errors: tuple[JobError, ...] = ()
    errors = read("errors", lambda: limited.list_job_errors(*where, limit=10).data, no_errors)
    response = read("checkpoints", lambda: limited.send(endpoints.list_checkpoints(*where)), None)
    pipeline = read("pipeline", lambda: limited.get_pipeline(ref.pipeline_id), None)
    date = None if response is None else response.server_date
    refusals = () if pipeline is None else _refusals(limited, pipeline, job)
    evidence = Evidence(
        pipeline=pipeline or Pipeline(id=ref.pipeline_id, name=ref.name or "", query=""),
        now=date.timestamp() if date is not None else now(),
        jobs=(job,),
        checkpoints=() if response is None else response.value,
        errors=errors,
        metrics=read("metrics", lambda: limited.list_metrics(*where), ()),
        refusals=refusals,
        unread={what: str(err) for what, err in failed.items() if what != "pipeline"},
    )
    return _without_echoes(evidence), next(iter(failed.values()), None)


def _without_echoes(evidence: Evidence) -> Evidence:
    """Return the evidence without the secrets of the pipeline, which what Arroyo says may echo."""
    secrets = pipeline_secret_values(evidence.pipeline, evidence.jobs[-1] if evidence.jobs else None)

    def shown(text: str) -> str:
        return redact_values(text, secrets)

    return replace(
        evidence,
        jobs=tuple(
            replace(job, failure=job.failure and replace(job.failure, error=shown(job.failure.error)))
            for job in evidence.jobs
        ),
        errors=tuple(
            replace(one, message=shown(one.message), details=shown(one.details)) for one in evidence.errors
        ),
        refusals=tuple(map(shown, evidence.refusals)),
    )


def _refusals(client: ArroyoClient, pipeline: Pipeline, job: Job | None) -> tuple[str, ...]:
    """Return the planner's errors for the SQL of a pipeline that does not run because of an error."""
    if job is not None and job.state not in (JobState.FAILED, JobState.FAILING):
        return ()
    try:
        once = client.with_limits(max_elapsed_seconds=0.0)
        found = once.validate_query(pipeline.query, udfs=pipeline.udfs)
    except ArroyoError:
        return ()  # this request is only additional, and may break on the SQL itself
    return tuple(one.message for one in found.errors)
