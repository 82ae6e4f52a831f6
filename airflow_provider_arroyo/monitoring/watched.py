"""Whether a pipeline is still the one that a task watched, so that only that one is ever stopped for it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The run that a task watched.

    :param label: what the log calls the pipeline.
    :param job: the job as it was last seen; None if it never was.
    """

    pipeline_id: str
    label: str
    job: Job | None


def how_to_stop(watched: Watched) -> str:
    """Return what a person can do about a pipeline that goes on."""
    return (
        f"{watched.label} goes on; stop it with ArroyoStopPipelineOperator(pipeline_id={watched.pipeline_id!r}) "
        "or in Arroyo's console"
    )


def refusal(job: Job | None, watched: Watched) -> str | None:
    """Return why a pipeline must not be stopped, judged by how it is now; None if it may be."""
    if job is None or job.state in TERMINAL_STATES:
        return "it does not run any more"
    if not job.running_desired:
        return "it was asked to stop already"
    if watched.job is None:
        return "this task never saw it run"
    began_since = (job.id, job.run_id, watched.job.run_id) == (watched.job.id, 1, 0)
    # Run 0 is a job that was not scheduled yet, and run 1 the same one a moment later.
    if (job.id, job.run_id) != (watched.job.id, watched.job.run_id) and not began_since:
        return (
            f"it is at run {job.run_id} of {job.id} now, and this task watched run {watched.job.run_id} "
            f"of {watched.job.id}"
        )
    return None
