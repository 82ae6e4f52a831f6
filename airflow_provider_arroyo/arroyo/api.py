"""Every call of Arroyo's API as a value: both clients make them, neither knows what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.arroyo.call import Answer, Call, Exchange, Repeat
from airflow_provider_arroyo.arroyo.call_parts import (
    COMPILE_TIMEOUT_SECONDS,
    delete,
    escaped,
    filled,
    get,
    paging,
)
from airflow_provider_arroyo.arroyo.catalog_api import (
    create_connection_profile,
    create_connection_table,
    create_udf,
    delete_connection_profile,
    delete_connection_table,
    delete_udf,
    list_connection_profiles,
    list_connection_tables,
    list_connectors,
    list_udfs,
    validate_udf,
)
from airflow_provider_arroyo.arroyo.details import (
    Checkpoint,
    JobError,
    OperatorCheckpoint,
    OperatorMetrics,
    OutputBatch,
    Page,
    QueryValidation,
)
from airflow_provider_arroyo.arroyo.models import Job, StopMode
from airflow_provider_arroyo.arroyo.output import batches_in
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.arroyo.reading import many, one, page, pong
from airflow_provider_arroyo.arroyo.spec import (
    PipelineSpec,
    Udf,
    check_checkpoint_interval,
    check_parallelism,
    check_text,
    check_text_map,
)

__all__ = [
    "Answer",
    "Call",
    "Exchange",
    "Repeat",
    "checkpoints",
    "create_connection_profile",
    "create_connection_table",
    "create_pipeline",
    "create_udf",
    "delete_connection_profile",
    "delete_connection_table",
    "delete_pipeline",
    "delete_udf",
    "get_pipeline",
    "job_errors",
    "list_connection_profiles",
    "list_connection_tables",
    "list_connectors",
    "list_jobs",
    "list_pipelines",
    "list_udfs",
    "metrics",
    "operator_checkpoints",
    "output",
    "patch_pipeline",
    "ping",
    "pipeline_jobs",
    "preview",
    "put_pipeline",
    "restart_pipeline",
    "validate_query",
    "validate_udf",
]


T = TypeVar("T")


# -- the server ----------------------------------------------------------------------------------------------------


def ping() -> Call[None]:
    """Ask whether Arroyo is there and accepts the key."""
    return get("/ping", pong)


# -- pipelines -----------------------------------------------------------------------------------------------------


def validate_query(query: str, *, udfs: Iterable[Udf] = ()) -> Call[QueryValidation]:
    """Ask what Arroyo makes of a query, without running it.

    :param query: the SQL; empty SQL is valid to ask about, and refused.
    :param udfs: functions that it uses.
    """
    return Call(
        method="POST",
        path="/pipelines/validate_query",
        read=one(QueryValidation.from_api),
        body=filled(query=query, udfs=_udfs(udfs)),
        changes=False,
        carries_sql=True,
    )


def create_pipeline(spec: PipelineSpec, *, state_url: str | None = None) -> Call[Pipeline]:
    """Create a pipeline at an id of the server's, and start it. Each time makes another one.

    :param spec: what it should be. 0.15 ignores tags, environment and scheduler configuration silently.
    :param state_url: where its checkpoints go (0.16); None leaves it to the server.
    """
    return Call(
        method="POST",
        path="/pipelines",
        read=one(Pipeline.from_api),
        body=_pipeline_body(spec, state_url),
        repeat=Repeat.UNSENT_ONLY,
        subject=f"a pipeline {spec.name!r}",
        carries_sql=True,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS if spec.udfs else 0.0,
    )


def put_pipeline(pipeline_id: str, spec: PipelineSpec, *, state_url: str | None = None) -> Call[Pipeline]:
    """Create a pipeline at an id of the caller's, and start it (0.16; 0.15 answers 405).

    An id that is taken is an :class:`~airflow_provider_arroyo.exceptions.ArroyoConflictError`, also where an
    attempt of this same call took it whose answer was lost.

    :param pipeline_id: any text.
    :param spec: what it should be.
    :param state_url: where its checkpoints go; None leaves it to the server.
    """
    return Call(
        method="PUT",
        path=_pipeline_path(pipeline_id),
        read=one(Pipeline.from_api),
        body=_pipeline_body(spec, state_url),
        subject=f"pipeline {pipeline_id!r}",
        carries_sql=True,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS if spec.udfs else 0.0,
    )


def preview(query: str, *, udfs: Iterable[Udf] = (), enable_sinks: bool = False) -> Call[Pipeline]:
    """Run a query for a minute at most, to see its rows with :func:`output`.

    :param query: the SQL.
    :param udfs: functions that it uses.
    :param enable_sinks: whether its sinks are written to, default False.
    """
    functions = _udfs(udfs)
    return Call(
        method="POST",
        path="/pipelines/preview",
        read=one(Pipeline.from_api),
        body=filled(
            query=check_text(query, "query"), udfs=functions, enable_sinks=True if enable_sinks else None
        ),
        repeat=Repeat.UNSENT_ONLY,
        carries_sql=True,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS if functions else 0.0,
    )


def list_pipelines(*, limit: int | None = None, starting_after: str | None = None) -> Call[Page[Pipeline]]:
    """Ask for a page of the pipelines, newest first, previews left out.

    :param limit: pipelines on the page, 1 or more; None leaves it to the server (10).
    :param starting_after: id of the last pipeline of the page before.
    """
    return get("/pipelines", page(Pipeline.from_api), params=paging(limit, starting_after))


def get_pipeline(pipeline_id: str) -> Call[Pipeline]:
    """Ask for one pipeline."""
    return get(_pipeline_path(pipeline_id), one(Pipeline.from_api), subject=f"pipeline {pipeline_id!r}")


def patch_pipeline(
    pipeline_id: str,
    *,
    stop: StopMode | str | None = None,
    parallelism: int | None = None,
    checkpoint_interval: timedelta | None = None,
    env_vars: Mapping[str, str] | None = None,
    scheduler_config: Mapping[str, Any] | None = None,
) -> Call[Pipeline]:
    """Set what is wanted of a pipeline. The answer comes before anything happened; None leaves as it is.

    :param pipeline_id: which.
    :param stop: how to stop it; ``none`` clears an earlier request and resumes a stopped one.
    :param parallelism: 1 or more.
    :param checkpoint_interval: 1 second to 24 hours.
    :param env_vars: environment of its workers (0.16).
    :param scheduler_config: passed to the scheduler as it is (0.16).
    :raises ValueError: names the argument and what is allowed.
    """
    if stop is not None and stop not in list(StopMode):
        raise ValueError(f"stop must be one of {', '.join(StopMode)}, got {stop!r}")
    body = filled(
        stop=None if stop is None else str(StopMode(stop)),
        parallelism=None if parallelism is None else check_parallelism(parallelism),
        checkpoint_interval_micros=_micros(checkpoint_interval),
        env_vars=None if env_vars is None else check_text_map(env_vars, "env_vars"),
        scheduler_config=scheduler_config,
    )
    return Call(
        method="PATCH",
        path=_pipeline_path(pipeline_id),
        read=one(Pipeline.from_api),
        body=body,
        subject=f"pipeline {pipeline_id!r}",
    )


def restart_pipeline(pipeline_id: str, *, force: bool = False, ignore_state: bool = False) -> Call[Pipeline]:
    """Ask a running or failed pipeline to restart; a stopped or finished one stays as it is.

    :param pipeline_id: which.
    :param force: do not wait for a checkpoint, default False.
    :param ignore_state: begin without the state of the last checkpoint (0.16), default False.
    """
    return Call(
        method="POST",
        path=f"{_pipeline_path(pipeline_id)}/restart",
        read=one(Pipeline.from_api),
        # An empty object where nothing is asked: Arroyo refuses a call without a body.
        body=filled(force=True if force else None, ignore_state=True if ignore_state else None),
        repeat=Repeat.UNSENT_ONLY,
        subject=f"pipeline {pipeline_id!r}",
    )


def delete_pipeline(pipeline_id: str) -> Call[None]:
    """Delete a pipeline that is Stopped, Finished or Failed; others are refused."""
    return delete(_pipeline_path(pipeline_id), subject=f"pipeline {pipeline_id!r}")


# -- jobs ----------------------------------------------------------------------------------------------------------


def pipeline_jobs(pipeline_id: str) -> Call[tuple[Job, ...]]:
    """Ask for the jobs of a pipeline, newest first; in practice there is one."""
    return get(f"{_pipeline_path(pipeline_id)}/jobs", many(Job.from_api), subject=f"pipeline {pipeline_id!r}")


def list_jobs() -> Call[tuple[Job, ...]]:
    """Ask for every job of the server, finished and stopped ones included, previews not."""
    return get("/jobs", many(Job.from_api))


def job_errors(
    pipeline_id: str, job_id: str, *, limit: int | None = None, starting_after: str | None = None
) -> Call[Page[JobError]]:
    """Ask for a page of a job's errors, newest first.

    :param pipeline_id, job_id: of which.
    :param limit: errors on the page, 1 or more; None leaves it to the server.
    :param starting_after: id of the last error of the page before.
    """
    return _of_job(
        pipeline_id, job_id, "errors", page(JobError.from_api), params=paging(limit, starting_after)
    )


def checkpoints(pipeline_id: str, job_id: str) -> Call[tuple[Checkpoint, ...]]:
    """Ask for the checkpoints of a job, oldest first."""
    return _of_job(pipeline_id, job_id, "checkpoints", many(Checkpoint.from_api))


def operator_checkpoints(pipeline_id: str, job_id: str, epoch: int) -> Call[tuple[OperatorCheckpoint, ...]]:
    """Ask what each operator wrote into one checkpoint.

    :param pipeline_id, job_id: of which.
    :param epoch: the checkpoint.
    """
    what = f"checkpoints/{int(epoch)}/operator_checkpoint_groups"
    return _of_job(pipeline_id, job_id, what, many(OperatorCheckpoint.from_api))


def metrics(pipeline_id: str, job_id: str) -> Call[tuple[OperatorMetrics, ...]]:
    """Ask for the metrics of a job's operators over the last minutes."""
    return _of_job(pipeline_id, job_id, "operator_metric_groups", many(OperatorMetrics.from_api))


def output(pipeline_id: str, job_id: str) -> Call[tuple[OutputBatch, ...]]:
    """Ask for the output of a preview, from now on. The clients' ``stream_output`` reads it as it comes."""
    return _of_job(pipeline_id, job_id, "output", batches_in)


# -- parts of calls ------------------------------------------------------------------------------------------------


def _pipeline_path(pipeline_id: str) -> str:
    return f"/pipelines/{escaped(pipeline_id, 'pipeline_id')}"


def _of_job(
    pipeline_id: str,
    job_id: str,
    what: str,
    read: Callable[[Answer], T],
    *,
    params: Mapping[str, str] | None = None,
) -> Call[T]:
    path = f"{_pipeline_path(pipeline_id)}/jobs/{escaped(job_id, 'job_id')}/{what}"
    return get(
        path, read, params=params, subject=f"job {job_id!r} of pipeline {pipeline_id!r}, or its {what}"
    )


def _udfs(udfs: Iterable[Udf]) -> list[dict[str, str]] | None:
    return [udf.to_api() for udf in udfs] or None


def _micros(interval: timedelta | None) -> int | None:
    if interval is None:
        return None
    return check_checkpoint_interval(interval) // timedelta(microseconds=1)


def _pipeline_body(spec: PipelineSpec, state_url: str | None) -> dict[str, Any]:
    return filled(
        name=spec.name,
        query=spec.query,
        parallelism=check_parallelism(spec.parallelism),
        checkpoint_interval_micros=_micros(spec.checkpoint_interval),
        udfs=_udfs(spec.udfs),
        tags=dict(spec.tags) or None,
        env_vars=dict(spec.env_vars) or None,
        scheduler_config=spec.scheduler_config,
        state_url=state_url,
    )
