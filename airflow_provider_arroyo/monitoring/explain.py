"""From a verdict to the error that a person reads: which pipeline, what happened, why, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_arroyo.arroyo.models import Job, JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoPipelineError, shorten
from airflow_provider_arroyo.monitoring.notes import duration, moment
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.details import JobError

SHOWN_ERRORS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The pipeline that a message speaks of.

    :param pipeline_id: its id.
    :param name: its name; None where it is not known.
    :param console_url: its page in Arroyo's console.
    """

    pipeline_id: str
    name: str | None = None
    console_url: str | None = None

    @property
    def label(self) -> str:
        """What logs and errors call it."""
        if self.name is None:
            return f"Pipeline {self.pipeline_id}"
        return f"Pipeline {shorten(self.name, 80)!r} ({self.pipeline_id})"


def _state(job: Job | None) -> str:
    if job is None:
        return "no state was seen"
    asked = "" if job.running_desired or job.is_terminal else ", asked to stop"
    return f"last seen {job.state} (run {job.run_id}{asked})"


def _why(job: Job | None, verdict: Verdict, errors: Sequence[JobError]) -> list[str]:
    lines: list[str] = []
    reason = job.failure if job else None
    if reason and reason.error:
        domain = f" (domain: {reason.domain})" if reason.domain else ""
        lines.append(f"Arroyo's reason{domain}: {shorten(reason.error, 1000)}")
    if verdict.restarts:
        often = "once" if verdict.restarts == 1 else f"{verdict.restarts} times"
        lines.append(f"It restarted {often} in {duration(verdict.waited_seconds)}.")
    shown = [
        f"  {error.operator_id or 'no operator'}: {shorten(error.message)}"
        + (f": {shorten(error.details)}" if error.details else "")
        for error in errors[:SHOWN_ERRORS]
    ]
    if shown:
        lines.append("The job's last errors, newest first:")
        lines.extend(shown)
    elif verdict.outcome is Outcome.FAILED and (reason is None or reason.domain in (None, "internal")):
        lines.append("Arroyo's API gives no further cause; its workers' log has it.")
    return lines


def _what(verdict: Verdict, subject: Subject) -> tuple[str, str]:
    """Return what happened, and what to do about it."""
    job, label, wanted = verdict.job, subject.label, " or ".join(verdict.wanted)
    match verdict.outcome:
        case Outcome.FAILED:
            state = job.state if job else JobState.FAILED
            run = f" in run {job.run_id}" if job else ""
            still = "still " if verdict.unchanged else ""
            return (
                f"{label} is {still}{state}{run}, {wanted} was wanted.",
                "Mend the cause, then clear this task.",
            )
        case Outcome.FINISHED:
            return (
                f"{label} is Finished, {wanted} was wanted; a finished pipeline never runs again.",
                "Its sources have an end. Wait for Finished instead, or submit it anew.",
            )
        case Outcome.STOPPED if verdict.unchanged:
            return (
                f"{label} is still Stopped, {wanted} was wanted: what was asked of it had no effect.",
                "Resume it, since Arroyo does not restart what is stopped.",
            )
        case Outcome.STOPPED:
            return (
                f"{label} was stopped by somebody else while {wanted} was waited for.",
                "Clear this task to start it again.",
            )
        case Outcome.DELETED:
            return (
                f"{label} was deleted by somebody else; {_state(job)}.",
                "Clear the task that submits it to make it anew.",
            )
        case Outcome.MISSING:
            return (
                f"There is no pipeline {subject.pipeline_id!r} on this Arroyo.",
                "Check the id, and that arroyo_conn_id leads to the server that has it.",
            )
        case Outcome.UNREACHABLE:
            since = f" since {moment(verdict.unreachable_since)}" if verdict.unreachable_since else ""
            gone = duration(verdict.unreachable_seconds or 0.0)
            return (
                f"Arroyo has been unreachable for {gone}{since}; this says nothing about {label}: "
                f"{_state(job)}.",
                "Check the server and the connection, then clear this task; it takes up the same pipeline.",
            )
        case Outcome.ERROR:
            return (f"The wait for {label} to become {wanted} failed; {_state(job)}.", "Clear this task.")
        case _:
            return _timeout(verdict, label, wanted)


def _timeout(verdict: Verdict, label: str, wanted: str) -> tuple[str, str]:
    job, waited = verdict.job, f"{duration(verdict.waited_seconds)} ({verdict.limit})"
    # A last look that the deadline itself cut short is no outage.
    if verdict.unreachable_seconds is not None and verdict.unreachable_seconds > 1:
        since = f" since {moment(verdict.unreachable_since)}" if verdict.unreachable_since else ""
        return (
            f"{label} did not become {wanted} within {waited}: Arroyo has been unreachable{since}; "
            f"{_state(job)}.",
            "Check the server and the connection.",
        )
    if job is None:
        return (f"{label} has no job after {waited}.", "Look at Arroyo's controller.")
    stood = duration(verdict.stood_seconds)
    what = (
        f"{label} did not become {wanted} within {waited}: it has been {job.state} for {stood}, "
        f"run {job.run_id}."
    )
    return (what, _delayed_by(verdict, job))


def _delayed_by(verdict: Verdict, job: Job) -> str:
    """Return the likeliest cause of a wait that ran out of time, and what to do about it."""
    if verdict.unchanged and not job.is_terminal:
        return (
            "Nothing happened since it was asked to change. Look at Arroyo's controller: only it carries out "
            "what the API takes down."
        )
    if job.state in verdict.wanted and job.state == JobState.RUNNING and not job.running_desired:
        return "It was asked to stop, so that it is on its way down. Find out who stopped it."
    if job.state in verdict.wanted:
        return "It did not hold that state long enough in one run to count (stable_for)."
    if job.state == JobState.RUNNING and JobState.STOPPED in verdict.wanted:
        if job.running_desired:
            return "It is asked to run: nobody asked it to stop, or somebody took that back."
        return f"It was asked to stop; look at Arroyo's controller, or allow more time ({verdict.limit})."
    if job.state == JobState.RUNNING:
        return f"It runs on. Allow more time ({verdict.limit}), or check that its sources have an end."
    if job.state == JobState.STOPPED and job.running_desired:
        return "It was asked to run again; look at Arroyo's controller."
    if job.state == JobState.STOPPED:
        return "Nobody has asked it to run again. Resume it."
    return f"Look at Arroyo's controller and workers, or allow more time ({verdict.limit})."


def explain(verdict: Verdict, subject: Subject, errors: Sequence[JobError] = ()) -> ArroyoError:
    """Return the error that says how a wait ended.

    :param verdict: a verdict that is over and not ``REACHED``.
    :param subject: the pipeline.
    :param errors: the job's last errors, newest first, where they could be read.
    :return: an :class:`ArroyoPipelineError`; for ``ERROR`` the look's own error.
    """
    if verdict.outcome is Outcome.ERROR and verdict.error is not None:
        return verdict.error
    what, advice = _what(verdict, subject)
    job = verdict.job
    lines = [what, *_why(job, verdict, errors)]
    if verdict.error is not None and verdict.outcome in (Outcome.UNREACHABLE, Outcome.TIMED_OUT):
        lines.append(f"The last look failed: {verdict.error}")
    lines.append(advice)
    if subject.console_url and verdict.outcome not in (Outcome.MISSING, Outcome.DELETED):
        lines.append(f"Arroyo console: {subject.console_url}")
    return ArroyoPipelineError(
        "\n".join(lines),
        outcome=verdict.outcome.value,
        pipeline_id=subject.pipeline_id,
        name=subject.name,
        job_id=job.id if job else None,
        state=job.state if job else None,
        run_id=job.run_id if job else None,
        reason=job.failure.error if job and job.failure else None,
        domain=job.failure.domain if job and job.failure else None,
    )
