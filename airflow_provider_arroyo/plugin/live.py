"""What a pipeline's own page asks for every two seconds: its state in a sentence, what is wrong, and the charts.

Pure functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import FailureReason, Job, Pipeline, PipelineGraph, PipelineNode
from airflow_provider_arroyo.monitoring.diagnosis import Evidence, diagnose
from airflow_provider_arroyo.plugin.readings import Part, Readings, checkpoint_to_json, error_to_json
from airflow_provider_arroyo.plugin.snapshot import MAX_PIPELINES, Row
from airflow_provider_arroyo.text import shorten

_AT_WORK = frozenset(
    {
        JobState.RUNNING,
        JobState.FINISHING,
        JobState.CHECKPOINT_STOPPING,
        JobState.STOPPING,
        JobState.RESCALING,
    }
)
"""The states in which something is measured. Arroyo keeps the last values of a run that has ended."""

_NOW_SECONDS = 30.0
"""How old the last measurement may be to count as current, in seconds."""

_WAYS = {"in": "reading", "out": "writing"}
NOT_LISTED = "The pipelines of this Arroyo have not been listed yet."
_FLAPPING_SECONDS = 300.0
_FLAPPING_RUNS = 3
"""This many new runs within this many seconds are not due to a requested rescale or restart."""

_SENTENCES = {
    JobState.CREATED: "Waiting for Arroyo's controller to pick it up.",
    JobState.COMPILING: "Compiling.",
    JobState.SCHEDULING: "Starting run {run}.",
    JobState.RUNNING: "Running (run {run}){rates}.",
    JobState.RESCALING: "Restarting with a different parallelism.",
    JobState.RESTARTING: "Restarting.",
    JobState.RECOVERING: "Recovering from a failure: the next run continues from the last checkpoint.",
    JobState.CHECKPOINT_STOPPING: "Taking a final checkpoint, then stopping.",
    JobState.STOPPING: "Stopping.",
    JobState.FINISHING: "Finishing: one of its sources has ended, and it takes no more checkpoints.",
    JobState.FAILING: "Failing in run {run}.",
    JobState.STOPPED: "Stopped in run {run}. Resuming it continues from the last checkpoint.",
    JobState.FINISHED: "Finished: its sources have ended.",
    JobState.FAILED: "Failed in run {run}. Restarting it continues from the last checkpoint.",
}


def absent(pipeline_id: str, *, known: int | None) -> str:
    """Return why there is no such pipeline.

    :param pipeline_id: its id.
    :param known: how many pipelines of the server are known; None if the list was never read.
    """
    if known is None:
        return NOT_LISTED
    name = repr(shorten(pipeline_id, 80))
    if known >= MAX_PIPELINES:
        return (
            f"There is no pipeline {name} among the {MAX_PIPELINES:,} that these pages read from this Arroyo."
        )
    why = "it was deleted, is a preview, cannot be read, or belongs to another connection"
    return f"There is no pipeline {name} on this Arroyo: {why}."


def live(row: Row, *, now: float, server_time: float) -> dict[str, Any]:
    """Return what is known about a pipeline now.

    :param row: the pipeline, with what was read about it.
    :param now: seconds since the epoch.
    :param server_time: the time by the server's clock, seconds since the epoch.
    """
    job, readings = row.job, row.readings
    if readings is None or job is None or readings.job_id != job.id:
        readings = Readings(job_id="")
    nodes = _nodes_now(job, readings, server_time)
    return {
        "sentence": _sentence(row, readings, is_measured=bool(nodes)),
        "diagnosis": _diagnosis(row, readings, now, server_time),
        "missing": [f"{part.capitalize()}: {problem}" for part, problem in readings.problems],
        "changes": [list(change) for change in row.changes],
        "nodes": nodes,
        "rates": readings.measured.to_json() if readings.measured else None,
        "checkpoints": [
            checkpoint_to_json(one, readings.sizes.get(one.epoch)) for one in readings.checkpoints or ()
        ],
        "errors": [error_to_json(error) for error in readings.errors],
    }


def _nodes_now(job: Job | None, readings: Readings, server_time: float) -> list[dict[str, Any]]:
    measured = readings.measured
    if job is None or job.state not in _AT_WORK or measured is None or not measured.at:
        return []
    return list(measured.nodes) if server_time - measured.at[-1] < _NOW_SECONDS else []


def _sentence(row: Row, readings: Readings, *, is_measured: bool) -> str:
    job = row.job
    if job is None:
        return "No job yet, or Arroyo has not reported it yet."
    if job.running_desired is False and job.state in (JobState.RUNNING, JobState.FINISHING):
        return f"Running (run {job.run_id}); a stop was requested."
    if job.running_desired and job.state == JobState.STOPPED:
        return "Stopped; a resume was requested."
    if job.run_id == 0 and job.state in (JobState.STOPPED, JobState.FAILED):
        return f"{job.state} before its first run."
    rates = ""
    if is_measured and readings.measured:
        latest = readings.measured.latest()
        shown = {what: latest[way] for way, what in _WAYS.items() if latest[way] is not None}
        parts = [
            f"{what} {format(rate, ',.0f' if rate >= 10 else '.2g')} rows/s"
            for what, rate in shown.items()
            if rate
        ]
        if shown:
            rates = f": {' and '.join(parts) or 'no rows at the moment'}"
    known = _SENTENCES.get(job.state)  # type: ignore[call-overload]  # a newer server's state is a plain string
    if known is None:
        return f"In state {shorten(job.state, 80)} (run {job.run_id})."
    return str(known).format(run=job.run_id, rates=rates)


def _diagnosis(row: Row, readings: Readings, now: float, server_time: float) -> dict[str, Any] | None:
    """Return the diagnosis of a pipeline; None if too little is known."""
    job = row.job
    if job is None or not readings.job_id:
        return None
    checkpoints = readings.checkpoints
    is_told = checkpoints is not None and readings.parts[Part.CHECKPOINTS].problem is None
    if job.state == JobState.RUNNING and not is_told:
        # Otherwise the diagnosis would say that it takes no checkpoints.
        return None
    evidence = Evidence(
        pipeline=_described(row, readings.graph),
        # For a running pipeline, the age of its last checkpoint decides. It counts from when the checkpoints were
        # read: while Arroyo is unreachable, new ones cannot be seen.
        now=readings.checkpoints_at if job.state == JobState.RUNNING else server_time,
        jobs=_jobs_seen(row, job, now),
        checkpoints=checkpoints or (),
        errors=readings.errors,
        metrics=readings.measured.pressures if readings.measured and job.state in _AT_WORK else (),
    )
    try:
        found = diagnose(evidence)
    except OverflowError:
        # Invalid times.
        return None
    return {
        "kind": found.kind.value,
        "summary": found.summary,
        "details": list(found.details),
        "advice": found.advice,
        "is_fault": found.is_problem,
    }


def _described(row: Row, graph: PipelineGraph | None) -> Pipeline:
    """Return the part of a pipeline's description that a diagnosis needs."""
    interval = row.facts.interval_seconds
    if graph is None:
        # Without names: of the graph, the list knows only the parallelism.
        graph = PipelineGraph((PipelineNode(-1, parallelism=row.facts.parallelism or 0),))
    return Pipeline(
        id=row.pipeline_id,
        name=row.facts.name,
        query="",
        checkpoint_interval_micros=round(interval * 1e6) if interval else None,
        graph=graph,
    )


def _jobs_seen(row: Row, job: Job, now: float) -> tuple[Job, ...]:
    """Return the job as seen over the last minutes, oldest first; only its current state if it kept running."""
    runs = [run for at, _, run in row.changes if at > now - _FLAPPING_SECONDS]
    seen = [run for run in dict.fromkeys([*runs, job.run_id]) if run <= job.run_id]
    if len(seen) <= _FLAPPING_RUNS:
        seen = [job.run_id]
    # A diagnosis repeats only text that may be shown.
    failure = FailureReason(row.failure["text"], row.failure["domain"]) if row.failure else None
    return tuple(replace(job, run_id=run, failure=failure) for run in seen)
