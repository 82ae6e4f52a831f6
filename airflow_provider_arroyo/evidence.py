"""Gathers what Arroyo reports about a pipeline, for :func:`.diagnose`: on request, or for the error of a wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.body_secrets import pipeline_secret_values
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.lists import Listed
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.diagnosis import Evidence
from airflow_provider_arroyo.monitoring.plan import PipelineRef

EXPLAIN_SECONDS = 5.0
"""How long the error of a wait may be delayed to read its causes, in seconds."""

_POLL_SECONDS = 0.1


def gather(client: ArroyoClient, pipeline_id: str, *, observe_seconds: float = 0.0) -> Evidence:
    """Return what Arroyo reports about a pipeline: its job, checkpoints, errors and metrics. Changes nothing.

    :param client: sends the requests: five, one for each further poll, and one more to let Arroyo plan the SQL if the
        pipeline has failed or has no job.
    :param pipeline_id: id of the pipeline.
    :param observe_seconds: how long to poll its job, default 0: once. The API keeps no history, so only this shows a
        pipeline that keeps restarting.
    :returns: the evidence; if Arroyo reports only the state, ``unread`` names what could not be read.
    :raises ArroyoNotFoundError: if there is no such pipeline.
    """
    pipeline = client.get_pipeline(pipeline_id)
    jobs: list[Job] = []
    until = client.clock() + observe_seconds
    while (job := client.get_job(pipeline_id)) is not None:
        jobs.append(job)
        if job.state in TERMINAL_STATES or client.clock() >= until:
            break
        client.sleep(_POLL_SECONDS)
    # Arroyo responds, so details that it cannot send are not worth a long wait.
    same = tuple(job for job in jobs if job.id == jobs[-1].id)
    return _gather(client.with_short_limit(EXPLAIN_SECONDS), pipeline, same)


def gather_for_error(client: ArroyoClient, ref: PipelineRef, job: Job) -> Evidence:
    """Return what explains the failure of a wait, as far as it can be read in 5 seconds: one try of each request.

    :param client: sends the requests: six at most, and a second one to confirm that something is gone.
    :param ref: the pipeline.
    :param job: the job as the wait last saw it.
    :returns: the evidence; ``unread`` names what could not be read, ``definition`` for the pipeline itself. It may be
        gone by now, or have another job.
    """
    deadline = client.clock() + EXPLAIN_SECONDS
    limited = client.with_limits(
        max_elapsed_seconds=0.0, first_try_seconds=EXPLAIN_SECONDS, deadline=deadline
    )
    return _gather(limited, Pipeline(id=ref.pipeline_id, name=ref.name or "", query=""), (job,))


def _gather(client: ArroyoClient, pipeline: Pipeline, jobs: tuple[Job, ...]) -> Evidence:
    """Return the evidence about a pipeline, as far as it can be read within the limits of a client.

    :param pipeline: the pipeline; read, too, if its query is empty.
    :param jobs: its job, as polled.
    """
    job = jobs[-1] if jobs else None
    found: dict[str, Any] = {}
    unread: dict[str, str] = {}

    def read(what: str, request: Callable[[], Any]) -> None:
        try:
            value = request()
        except ArroyoError as err:
            # The last try says why: Arroyo itself is not unreachable.
            unread[what] = str(err.__cause__ if isinstance(err.__cause__, ArroyoError) else err)
            return
        if isinstance(value, Listed):
            # What can be read of a list still tells something.
            if value.error is not None:
                unread[what] = str(value.error)
            value = value.readable
        found[what] = value

    owner = job
    if not pipeline.query and job is not None and job.pipeline_id is not None and not job.env_vars:
        # Another process may have passed the job on, without its environment, which the errors may quote.
        read("environment", lambda: client.get_job(pipeline.id))
        owner = found.pop("environment", None) or job
    # The most useful evidence comes first.
    if job is not None:
        read("errors", lambda: client.list_job_errors(pipeline.id, job.id, limit=10))
        read("checkpoints", lambda: client.list_checkpoints(pipeline.id, job.id))
    if not pipeline.query:
        read("definition", lambda: client.get_pipeline(pipeline.id))
        pipeline = found.pop("definition", pipeline)
    if pipeline.query and (job is None or job.state in (JobState.FAILED, JobState.FAILING)):
        found["refusals"] = _refusals(client, pipeline)
    if job is not None:
        read("metrics", lambda: client.list_metrics(pipeline.id, job.id))
    now = time.time() + client.server_ahead_seconds
    evidence = Evidence(pipeline=pipeline, now=now, jobs=jobs, unread=unread, **found)
    return _without_echoes(evidence, pipeline_secret_values(pipeline, owner))


def _without_echoes(evidence: Evidence, secrets: Collection[str]) -> Evidence:
    """Return the evidence without the secrets of the pipeline, which what Arroyo says may echo."""

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
        unread={what: shown(why) for what, why in evidence.unread.items()},
    )


def _refusals(client: ArroyoClient, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the planner's errors for the SQL of a pipeline."""
    try:
        once = client.with_limits(max_elapsed_seconds=0.0)
        found = once.validate_query(pipeline.query, udfs=pipeline.udfs)
    except ArroyoError:
        return ()  # this request is only additional, and may break on the SQL itself
    return tuple(one.message for one in found.errors)
