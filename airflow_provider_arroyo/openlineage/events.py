"""The events of a pipeline itself, a streaming job with one run for each pipeline, and the facet of such a run."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.openlineage import conf
from airflow.providers.openlineage.plugins import macros
from airflow.providers.openlineage.plugins.listener import get_openlineage_listener
from attrs import define
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import RunFacet, error_message_run, job_type_job, parent_run

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.text import duration

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_arroyo.openlineage.facts import TaskFacts

_log = logging.getLogger(__name__)

EMIT_SECONDS = 3.0
"""How long all pipeline events of a task may take, in seconds; Airflow allows 10, including its own event."""

FACET_NAME = "arroyo_pipeline"

_BEGINS = (Action.CREATED, Action.REPLACED)


@define
class ArroyoPipelineRunFacet(RunFacet):  # type: ignore[misc]  # not checked with openlineage
    """Which pipeline a run deals with. Its schema is that of any run facet, which allows further fields.

    :param pipelineId, pipelineName, jobId, server, consoleUrl: the pipeline.
    :param runId: the number of its run.
    :param state: its last state.
    :param action: what the task did: ``created``, ``unchanged`` …
    :param group, generation: of a deployment.
    :param checkpointEpoch, checkpointFinishTimeMicros: the proven final checkpoint of a stop.
    """

    pipelineId: str | None = None
    pipelineName: str | None = None
    jobId: str | None = None
    runId: int | None = None
    state: str | None = None
    action: str | None = None
    group: str | None = None
    generation: int | None = None
    checkpointEpoch: int | None = None
    checkpointFinishTimeMicros: int | None = None
    server: str | None = None
    consoleUrl: str | None = None


def run_facet(facts: TaskFacts) -> ArroyoPipelineRunFacet | None:
    """Return the facet of a task; None if it knows no pipeline yet.

    :param facts: what the task knows.
    """
    # For a failed task, the error of its wait says the most.
    known: dict[str, Any] = {**getattr(getattr(facts.error, "error", None), "__dict__", {}), **facts.result}
    pipeline = facts.pipeline
    pipeline_id = known.get("pipeline_id") or (pipeline.pipeline_id if pipeline else None)
    if not pipeline_id:
        return None
    checkpoint = known.get("checkpoint") or {}
    return ArroyoPipelineRunFacet(
        pipelineId=pipeline_id,
        pipelineName=known.get("pipeline_name") or (pipeline.name if pipeline else None),
        jobId=known.get("job_id"),
        runId=known.get("run_id"),
        state=known.get("state"),
        action=known.get("action"),
        group=facts.group,
        generation=known.get("generation"),
        checkpointEpoch=checkpoint.get("epoch"),
        checkpointFinishTimeMicros=checkpoint.get("finish_time_micros"),
        server=facts.server,
        consoleUrl=known.get("console_url") or (pipeline.console_url if pipeline else None),
    )


def job_type() -> job_type_job.JobTypeJobFacet:
    """Return the facet that declares a pipeline to be a streaming job."""
    return job_type_job.JobTypeJobFacet(processingType="STREAMING", integration="ARROYO", jobType="JOB")


def pipeline_events(facts: TaskFacts, lineage: OperatorLineage, task_instance: Any) -> Iterator[RunEvent]:
    """Yield the events for what an ended task did to pipelines.

    ``START`` if it created one, ``RUNNING`` if it left one running, ``COMPLETE`` if one is stopped, finished or
    deleted, ``FAIL`` if one has failed. A stopped pipeline that is resumed is ``RUNNING`` again, in the same run.

    :param facts: what the task knows.
    :param lineage: of the task; the pipeline's is the same.
    :param task_instance: Airflow's task instance, the parent.
    """
    if facts.server is None or facts.result.get("dry_run"):
        return
    events = _Events(facts.server, task_instance)
    for one in facts.result.get("deleted") or ():
        yield events.make(RunState.COMPLETE, one["pipeline_id"], one["pipeline_name"])
    known = facts.result or getattr(getattr(facts.error, "error", None), "__dict__", {})
    pipeline_id, state = known.get("pipeline_id"), known.get("state")
    if facts.deletes and facts.result:
        # Whatever it was before, it is over now.
        state = JobState.STOPPED
    if not pipeline_id or not state or known.get("missing"):
        return
    if facts.replaced is not None:
        yield events.make(RunState.COMPLETE, facts.replaced.pipeline_id, facts.replaced.name)
    for kind in _kinds(known, state):
        reason = known.get("failure_reason") or known.get("reason")
        yield events.make(
            kind, pipeline_id, known.get("pipeline_name"), lineage, reason if kind is RunState.FAIL else None
        )


def _kinds(known: Any, state: str) -> Iterator[RunState]:
    begins = known.get("action") in _BEGINS
    if begins:
        yield RunState.START
    if state in (JobState.FAILED, JobState.FAILING):
        yield RunState.FAIL
    elif state in TERMINAL_STATES:
        yield RunState.COMPLETE
    elif not begins:
        yield RunState.RUNNING


class _Events:
    """Makes events about the pipelines of one server."""

    def __init__(self, server: str, task_instance: Any) -> None:
        namespace = macros.lineage_job_namespace()
        # The provider version of Airflow 3.0.6 has no such method; there, a root always belongs to this Airflow.
        root_namespace = getattr(macros, "lineage_root_job_namespace", lambda ti: namespace)
        self._server = server
        parts = urlsplit(server)
        self._namespace = f"arroyo://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._parent = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=macros.lineage_run_id(task_instance)),
            job=parent_run.Job(namespace=namespace, name=macros.lineage_job_name(task_instance)),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=macros.lineage_root_run_id(task_instance)),
                job=parent_run.RootJob(
                    namespace=root_namespace(task_instance),
                    name=macros.lineage_root_job_name(task_instance),
                ),
            ),
        )
        self._began = getattr(task_instance, "start_date", None) or datetime.now(UTC)

    def make(
        self,
        kind: RunState,
        pipeline_id: str,
        name: str | None,
        lineage: OperatorLineage | None = None,
        reason: str | None = None,
    ) -> RunEvent:
        """Return an event about a pipeline; without a lineage, about one of which nothing else is known."""
        which = ArroyoPipelineRunFacet(pipelineId=pipeline_id, pipelineName=name, server=self._server)
        known = lineage.run_facets if lineage else {FACET_NAME: which}
        run_facets = {"parent": self._parent, **known}
        # The task's error is not the pipeline's.
        run_facets.pop("errorMessage", None)
        if reason:
            run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                message=reason, programmingLanguage="SQL"
            )
        return RunEvent(
            eventType=kind,
            eventTime=(self._began if kind is RunState.START else datetime.now(UTC)).isoformat(),
            # The same for every task that deals with the pipeline.
            run=Run(
                runId=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._namespace}/pipelines/{pipeline_id}")),
                facets=run_facets,
            ),
            job=Job(
                namespace=self._namespace,
                name=name or pipeline_id,
                facets=lineage.job_facets if lineage else {"jobType": job_type()},
            ),
            inputs=lineage.inputs if lineage else [],
            outputs=lineage.outputs if lineage else [],
        )


def emit(events: Iterable[RunEvent]) -> None:
    """Emit events as Airflow emits its own, within :data:`EMIT_SECONDS`.

    After ``[openlineage] execution_timeout``, Airflow kills the process that collects a task's lineage, including its
    own event, which comes after these. So a backend that hangs must not use up that time here.

    :param events: the events.
    """
    listener = None if conf.is_disabled() else get_openlineage_listener()
    if listener is None:
        return
    made = list(events)
    ends_at, is_sent = time.monotonic() + EMIT_SECONDS, threading.Event()

    def send() -> None:
        try:
            for event in made:
                if time.monotonic() >= ends_at:
                    return
                listener.adapter.emit(event)
        finally:
            is_sent.set()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(send,), daemon=True, name="arroyo-openlineage").start()
    if not is_sent.wait(EMIT_SECONDS):
        _log.warning(
            "OpenLineage's backend has not accepted the events of pipelines within %s; the rest is skipped",
            duration(EMIT_SECONDS),
        )
