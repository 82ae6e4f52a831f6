"""The run facet ``arroyo_pipeline``: which pipeline a task deals with, and its last state."""

from __future__ import annotations

from typing import Any

from attrs import define
from openlineage.client.facet_v2 import RunFacet

from airflow_provider_arroyo.openlineage.facts import TaskFacts

FACET_NAME = "arroyo_pipeline"


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
