"""From a wait's result to the error that a person reads: which pipeline, what happened, why, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_arroyo.client.models import Job, JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoPipelineError, Disposition
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import Outcome, WaitResult
from airflow_provider_arroyo.text import duration, shorten, utc_time

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import JobError

SHOWN_ERRORS = 5


def explain(result: WaitResult, pipeline: PipelineRef, errors: Sequence[JobError] = ()) -> ArroyoError:
    """Return the error that says how a wait ended.

    :param result: a result that is over and not ``REACHED``.
    :param pipeline: the pipeline.
    :param errors: the job's last errors, newest first, where they could be read.
    :returns: an :class:`.ArroyoPipelineError`; for ``ERROR`` the poll's own error.
    """
    if result.outcome is Outcome.ERROR and result.error is not None:
        return result.error
    what, advice = _what(result, pipeline)
    job = result.job
    lines = [what, *_why(result, errors)]
    if result.error is not None and result.outcome in (Outcome.UNREACHABLE, Outcome.TIMED_OUT):
        lines.append(f"The last poll failed: {result.error}")
    lines.append(advice)
    if pipeline.console_url and result.outcome not in (Outcome.MISSING, Outcome.DELETED):
        lines.append(f"Arroyo console: {pipeline.console_url}")
    return ArroyoPipelineError(
        "\n".join(lines),
        outcome=result.outcome.value,
        pipeline_id=pipeline.pipeline_id,
        pipeline_name=pipeline.name,
        job_id=job.id if job else None,
        state=str(job.state) if job else None,
        run_id=job.run_id if job else None,
        reason=job.failure.error if job and job.failure else None,
        domain=job.failure.domain if job and job.failure else None,
    )


def _is_foreign(error: ArroyoError | None) -> bool:
    return error is not None and error.disposition is Disposition.OUTAGE


def _last_seen(job: Job | None) -> str:
    if job is None:
        return "its state was never seen"
    asked = "" if job.running_desired or job.is_terminal else ", stop requested"
    return f"last seen {job.state} (run {job.run_id}{asked})"


def _why(result: WaitResult, errors: Sequence[JobError]) -> list[str]:
    lines: list[str] = []
    reason = result.job.failure if result.job else None
    if reason and reason.error:
        domain = f" (domain: {reason.domain})" if reason.domain else ""
        lines.append(f"Arroyo's reason{domain}: {shorten(reason.error, 1000)}")
    if result.restarts:
        times = "once" if result.restarts == 1 else f"{result.restarts} times"
        lines.append(f"It restarted {times} in {duration(result.waited_seconds)}.")
    shown = [
        (f"  {error.operator_id}: " if error.operator_id else "  ")
        + shorten(error.message)
        + (f": {shorten(error.details)}" if error.details else "")
        for error in errors[:SHOWN_ERRORS]
    ]
    if shown:
        lines += ["The job's last errors, newest first:", *shown]
    elif result.outcome is Outcome.FAILED and (reason is None or reason.domain in (None, "internal")):
        lines.append("Arroyo's API gives no further cause; check the log of its workers.")
    return lines


def _what(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what happened, and what to do about it."""
    job, label, wanted = result.job, pipeline.label, " or ".join(result.target_states)
    in_sentence = pipeline.inline
    match result.outcome:
        case Outcome.FAILED:
            state = job.state if job else JobState.FAILED
            run = f" in run {job.run_id}" if job else ""
            still = "still " if result.is_unchanged else ""
            return (
                f"{label} is {still}{state}{run}; {wanted} was wanted.",
                "Fix the cause, then clear this task.",
            )
        case Outcome.FINISHED:
            return (
                f"{label} is Finished; {wanted} was wanted, and a finished pipeline never runs again.",
                "Its sources are bounded. Wait for Finished instead, or submit it again.",
            )
        case Outcome.STOPPED if result.is_unchanged:
            return (
                f"{label} is still Stopped; {wanted} was wanted, and the request had no effect.",
                "Resume it instead: Arroyo does not restart a stopped pipeline.",
            )
        case Outcome.STOPPED:
            return (
                f"{label} was stopped externally; {wanted} was wanted.",
                "Clear this task to start it again.",
            )
        case Outcome.DELETED:
            return (
                f"{label} was deleted externally; {_last_seen(job)}.",
                "Clear the task that submits it, to create it again.",
            )
        case Outcome.MISSING:
            return (
                f"There is no pipeline {pipeline.pipeline_id!r} on this Arroyo.",
                "Check the id, and that arroyo_conn_id leads to the right server.",
            )
        case Outcome.UNREACHABLE if not result.has_responded and _is_foreign(result.error):
            return (
                f"This address does not look like Arroyo: for {duration(result.unreachable_seconds or 0.0)}, no "
                f"response came from Arroyo itself. This says nothing about {in_sentence}.",
                "Check the connection's host, port and base_path, then clear this task.",
            )
        case Outcome.UNREACHABLE:
            since = f", since {utc_time(result.unreachable_since)}" if result.unreachable_since else ""
            return (
                f"Arroyo has been unreachable for {duration(result.unreachable_seconds or 0.0)}{since}. This says "
                f"nothing about {in_sentence}; {_last_seen(job)}.",
                "Check the server and the connection, then clear this task: it continues with the same pipeline.",
            )
        case Outcome.ERROR:
            return (
                f"The wait for {in_sentence} to become {wanted} failed; {_last_seen(job)}.",
                "Clear this task.",
            )
        case _:
            return _timeout(result, label, wanted)


def _timeout(result: WaitResult, label: str, wanted: str) -> tuple[str, str]:
    job, waited = result.job, f"{duration(result.waited_seconds)} ({result.deadline_argument})"
    # A last poll that the deadline itself cut short is no outage.
    if result.unreachable_seconds is not None and (result.unreachable_seconds > 1 or job is None):
        since = f" since {utc_time(result.unreachable_since)}" if result.unreachable_since else ""
        return (
            f"{label} did not become {wanted} within {waited}: Arroyo has been unreachable{since}; "
            f"{_last_seen(job)}.",
            "Check the server and the connection.",
        )
    if job is None:
        return (f"{label} still has no job after {waited}.", "Check Arroyo's controller.")
    # A rescheduled sensor remembers nothing, so it does not know since when.
    state = (
        f"has been {job.state} for {duration(result.state_seconds)}"
        if result.state_seconds
        else f"is {job.state}"
    )
    what = f"{label} did not become {wanted} within {waited}: it {state} (run {job.run_id})."
    return (what, _delayed_by(result, job))


def _delayed_by(result: WaitResult, job: Job) -> str:
    """Return the likeliest cause of a timeout, and what to do about it."""
    argument, wanted = result.deadline_argument, result.target_states
    if result.is_unchanged and not job.is_terminal:
        return (
            "Nothing has happened since the change was requested. Check Arroyo's controller, which carries out "
            "what the API accepts."
        )
    if job.state in wanted and job.state == JobState.RUNNING and not job.running_desired:
        return "A stop was requested, so it is about to stop. Find out who requested it."
    if job.state in wanted:
        return (
            f"It has not stayed in that state for stable_for in one run. Allow more time ({argument}), or find out "
            "why it restarts."
        )
    if job.state == JobState.RUNNING and JobState.STOPPED in wanted:
        if job.running_desired:
            return (
                "No stop is requested: nobody requested one, or the request was withdrawn. Stop the pipeline, or "
                f"allow more time ({argument})."
            )
        return f"A stop was requested; check Arroyo's controller, or allow more time ({argument})."
    if job.state == JobState.RUNNING:
        return f"It is still running. Allow more time ({argument}), or check that its sources are bounded."
    if job.state == JobState.STOPPED and job.running_desired:
        return "A resume was requested; check Arroyo's controller."
    if job.state == JobState.STOPPED:
        return "No resume was requested. Resume it."
    return f"Check Arroyo's controller and workers, or allow more time ({argument})."
