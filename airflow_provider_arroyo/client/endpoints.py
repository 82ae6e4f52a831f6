"""The requests for pipelines and jobs, as values that the client sends; ``catalog.py`` has the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.client.checks import (
    check_checkpoint_interval,
    check_parallelism,
    check_string_map,
    check_text,
)
from airflow_provider_arroyo.client.details import (
    Checkpoint,
    JobError,
    OperatorCheckpoint,
    OperatorMetrics,
    OutputBatch,
    QueryValidation,
)
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.lists import Listed, many, page, page_of_name
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.output import STREAM_IDLE_SECONDS, batches_in
from airflow_provider_arroyo.client.reading import newest_job, one, pong
from airflow_provider_arroyo.client.request import (
    COMPILE_TIMEOUT_SECONDS,
    HttpResponse,
    Request,
    delete,
    escaped,
    get,
    paging,
    without_none,
)
from airflow_provider_arroyo.client.udf import Udf

T = TypeVar("T")

PIPELINE_GONE = (
    "Pipeline not found",
    "Job for pipeline not found",
    "There are no jobs for the pipeline",
    "No jobs for pipeline",
)
"""Arroyo's messages, with status 404 or 400, if there is no such pipeline."""


# -- the server ----------------------------------------------------------------------------------------------------


def ping() -> Request[None]:
    """Check that Arroyo responds and accepts the key."""
    return get("/ping", pong)


# -- pipelines -----------------------------------------------------------------------------------------------------


def validate_query(query: str, *, udfs: Iterable[Udf] = ()) -> Request[QueryValidation]:
    """Validate SQL without running it.

    :param query: the SQL; Arroyo refuses empty SQL.
    :param udfs: UDFs that it uses, default none.
    """
    return Request(
        method="POST",
        path="/pipelines/validate_query",
        read=one(QueryValidation.from_api),
        body=without_none(query=query, udfs=_udfs(udfs)),
        changes=False,
        has_sql=True,
    )


def create_pipeline(
    *,
    name: str,
    query: str,
    parallelism: int = 1,
    checkpoint_interval: timedelta | None = None,
    udfs: Iterable[Udf] = (),
    tags: Mapping[str, str] | None = None,
    env_vars: Mapping[str, str] | None = None,
    scheduler_config: Mapping[str, Any] | None = None,
    state_url: str | None = None,
) -> Request[Pipeline]:
    """Create a pipeline with an id from the server, and start it. Each request creates another one.

    :param name: its name; names need not be unique.
    :param query: the SQL.
    :param parallelism: subtasks of each operator, 1 or more, default 1.
    :param checkpoint_interval: 1 second to 24 hours; default None leaves it to the server.
    :param udfs: UDFs that the SQL uses, default none.
    :param tags: labels, default none (0.16; 0.15 silently ignores this and the following arguments).
    :param env_vars: environment of the workers, default none (0.16).
    :param scheduler_config: passed to the scheduler unchanged, default none (0.16).
    :param state_url: where its checkpoints are stored (0.16); default None leaves it to the server.
    :raises ValueError: if an argument is invalid; names it and what it must be.
    """
    functions = _udfs(udfs)
    return Request(
        method="POST",
        path="/pipelines",
        read=one(Pipeline.from_api, name=name, query=query),
        body=without_none(
            name=check_text(name, "name"),
            query=check_text(query, "query"),
            parallelism=check_parallelism(parallelism),
            checkpoint_interval_micros=_micros(checkpoint_interval),
            udfs=functions,
            tags=check_string_map(tags, "tags") if tags else None,
            env_vars=check_string_map(env_vars, "env_vars") if env_vars else None,
            scheduler_config=scheduler_config,
            state_url=state_url,
        ),
        is_idempotent=False,
        about=f"a pipeline {name!r}",
        has_sql=True,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS if functions else 0.0,
    )


def put_pipeline(pipeline_id: str, **pipeline: Any) -> Request[Pipeline]:
    """Create a pipeline with an id from the caller, and start it (0.16; 0.15 responds with 405).

    If the id is taken, an :class:`~airflow_provider_arroyo.exceptions.ArroyoConflictError` is raised, even if an
    earlier try of this request took it and its response was lost.

    :param pipeline_id: any text.
    :param pipeline: arguments of :func:`create_pipeline`.
    """
    return replace(
        create_pipeline(**pipeline),
        method="PUT",
        path=_pipeline_path(pipeline_id),
        read=one(Pipeline.from_api, id=pipeline_id),
        is_idempotent=True,
        about=f"pipeline {pipeline_id!r}",
    )


def preview_query(query: str, *, udfs: Iterable[Udf] = (), enable_sinks: bool = False) -> Request[Pipeline]:
    """Run SQL for at most a minute, to read its rows with ``ArroyoClient.stream_output``.

    :param query: the SQL.
    :param udfs: UDFs that it uses, default none.
    :param enable_sinks: whether its sinks are written to, default False.
    """
    functions = _udfs(udfs)
    return Request(
        method="POST",
        path="/pipelines/preview",
        read=one(Pipeline.from_api, query=query),
        body=without_none(
            query=check_text(query, "query"), udfs=functions, enable_sinks=enable_sinks or None
        ),
        is_idempotent=False,
        has_sql=True,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS if functions else 0.0,
    )


def list_pipelines(
    *, limit: int | None = None, starting_after: str | None = None, name: str | None = None
) -> Request[Listed[Pipeline]]:
    """List a page of the pipelines, newest first, without previews.

    :param limit: pipelines on the page, 1 or more; default None leaves it to the server (10).
    :param starting_after: id of the last pipeline of the previous page; default None: the first page.
    :param name: read only the pipelines of this name in full; of the others, which Arroyo also lists, only id and
        name. Default None: all in full.
    """
    read = page(Pipeline) if name is None else page_of_name(check_text(name, "name"))
    return get("/pipelines", read, params=paging(limit, starting_after))


def get_pipeline(pipeline_id: str) -> Request[Pipeline]:
    """Get one pipeline."""
    return _get_of_pipeline(pipeline_id, "", one(Pipeline.from_api, id=pipeline_id))


def patch_pipeline(
    pipeline_id: str,
    *,
    stop: StopMode | str | None = None,
    parallelism: int | None = None,
    checkpoint_interval: timedelta | None = None,
    env_vars: Mapping[str, str] | None = None,
    scheduler_config: Mapping[str, Any] | None = None,
) -> Request[Pipeline]:
    """Change a pipeline's settings; None does not change one. Arroyo responds before it applies them.

    :param pipeline_id: id of the pipeline.
    :param stop: how to stop it; ``none`` clears an earlier stop request and resumes a stopped pipeline.
    :param parallelism: 1 or more.
    :param checkpoint_interval: 1 second to 24 hours.
    :param env_vars: environment of its workers (0.16).
    :param scheduler_config: passed to the scheduler unchanged (0.16).
    :raises ValueError: if an argument is invalid; names it and the allowed values.
    """
    if stop is not None and stop not in list(StopMode):
        raise ValueError(f"stop must be one of {', '.join(StopMode)}, got {stop!r}")
    body = without_none(
        stop=None if stop is None else str(StopMode(stop)),
        parallelism=None if parallelism is None else check_parallelism(parallelism),
        checkpoint_interval_micros=_micros(checkpoint_interval),
        env_vars=None if env_vars is None else check_string_map(env_vars, "env_vars"),
        scheduler_config=scheduler_config,
    )
    return _change_of_pipeline("PATCH", pipeline_id, "", body)


def restart_pipeline(
    pipeline_id: str, *, force: bool = False, ignore_state: bool = False
) -> Request[Pipeline]:
    """Restart a running or failed pipeline; has no effect on a stopped or finished one.

    :param pipeline_id: id of the pipeline.
    :param force: whether to skip the checkpoint, default False.
    :param ignore_state: whether to start without the state of the last checkpoint (0.16), default False.
    """
    # Arroyo refuses a restart without a body, so at least an empty object is sent.
    body = without_none(force=force or None, ignore_state=ignore_state or None)
    return replace(_change_of_pipeline("POST", pipeline_id, "/restart", body), is_idempotent=False)


def delete_pipeline(pipeline_id: str) -> Request[None]:
    """Delete a pipeline that is Stopped, Finished or Failed; Arroyo refuses to delete others.

    It is read again afterwards, because a gateway may respond to a DELETE in place of Arroyo.
    """
    about = f"pipeline {pipeline_id!r}"
    # Another task may create one with the same id at any time, so it is read instead of deleted again.
    return delete(_pipeline_path(pipeline_id), about=about, gone=PIPELINE_GONE, proof=get_job(pipeline_id))


# -- jobs ----------------------------------------------------------------------------------------------------------


def get_job(pipeline_id: str) -> Request[Job | None]:
    """Get the newest job of a pipeline; None if it has none yet. In practice, there is only one."""
    return _get_of_pipeline(pipeline_id, "/jobs", newest_job(pipeline_id))


def list_jobs() -> Request[Listed[Job]]:
    """List every job of the server, including finished and stopped ones, without previews."""
    return get("/jobs", many(Job))


def list_job_errors(
    pipeline_id: str, job_id: str, *, limit: int | None = None, starting_after: str | None = None
) -> Request[Listed[JobError]]:
    """List a page of a job's errors, newest first.

    :param pipeline_id, job_id: the pipeline and its job.
    :param limit: errors on the page, 1 or more; default None leaves it to the server.
    :param starting_after: id of the last error of the previous page; default None: the first page.
    """
    return _get_of_job(
        pipeline_id,
        job_id,
        "errors",
        page(JobError),
        params=paging(limit, starting_after),
    )


def list_checkpoints(pipeline_id: str, job_id: str) -> Request[Listed[Checkpoint]]:
    """List the checkpoints of a job, oldest first."""
    return _get_of_job(pipeline_id, job_id, "checkpoints", many(Checkpoint))


def list_operator_checkpoints(
    pipeline_id: str, job_id: str, epoch: int
) -> Request[Listed[OperatorCheckpoint]]:
    """List what each operator wrote to one checkpoint.

    :param pipeline_id, job_id: the pipeline and its job.
    :param epoch: the checkpoint.
    """
    what = f"checkpoints/{int(epoch)}/operator_checkpoint_groups"
    return _get_of_job(pipeline_id, job_id, what, many(OperatorCheckpoint))


def list_metrics(pipeline_id: str, job_id: str) -> Request[Listed[OperatorMetrics]]:
    """List the metrics of a job's operators over the last few minutes."""
    return _get_of_job(pipeline_id, job_id, "operator_metric_groups", many(OperatorMetrics))


def output(pipeline_id: str, job_id: str) -> Request[tuple[OutputBatch, ...]]:
    """Get the output of a preview, from now on. The client's ``stream_output`` yields it as it arrives."""
    request = _get_of_job(pipeline_id, job_id, "output", batches_in)
    return replace(request, min_read_timeout_seconds=STREAM_IDLE_SECONDS)


# -- parts of requests ---------------------------------------------------------------------------------------------


def _pipeline_path(pipeline_id: str) -> str:
    return f"/pipelines/{escaped(pipeline_id, 'pipeline_id')}"


def _get_of_pipeline(pipeline_id: str, what: str, read: Callable[[HttpResponse], T]) -> Request[T]:
    path = f"{_pipeline_path(pipeline_id)}{what}"
    return get(path, read, about=f"pipeline {pipeline_id!r}", gone=PIPELINE_GONE)


def _change_of_pipeline(
    method: str, pipeline_id: str, what: str, body: Mapping[str, Any]
) -> Request[Pipeline]:
    return Request(
        method=method,
        path=f"{_pipeline_path(pipeline_id)}{what}",
        read=one(Pipeline.from_api, id=pipeline_id),
        body=body,
        about=f"pipeline {pipeline_id!r}",
        gone=PIPELINE_GONE,
        proof=get_job(pipeline_id),
    )


def _get_of_job(
    pipeline_id: str,
    job_id: str,
    what: str,
    read: Callable[[HttpResponse], T],
    *,
    params: Mapping[str, str] | None = None,
) -> Request[T]:
    return get(
        f"{_pipeline_path(pipeline_id)}/jobs/{escaped(job_id, 'job_id')}/{what}",
        read,
        params=params,
        about=f"job {job_id!r} of pipeline {pipeline_id!r}, or its {what}",
        gone=(*PIPELINE_GONE, "Job not found"),
    )


def _udfs(udfs: Iterable[Udf]) -> list[dict[str, str]] | None:
    return [udf.to_api() for udf in udfs] or None


def _micros(interval: timedelta | None) -> int | None:
    if interval is None:
        return None
    return check_checkpoint_interval(interval) // timedelta(microseconds=1)
