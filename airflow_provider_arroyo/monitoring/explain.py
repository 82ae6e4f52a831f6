"""Turns a wait's result into an error for people: which pipeline, what happened, why, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoPipelineError, Disposition
from airflow_provider_arroyo.monitoring.condition import Detail
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis, Kind
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import Outcome, WaitResult
from airflow_provider_arroyo.monitoring.timeouts import END_FIRST, last_seen, timeout
from airflow_provider_arroyo.text import duration, in_run, run_number, shorten, utc_time

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import JobError

SHOWN_ERRORS = 5

_CAUSES = frozenset({Kind.BROKER_UNREACHABLE, Kind.FILE_MISSING, Kind.SQL_REFUSED})
_DIAGNOSED = {
    Outcome.FAILED: _CAUSES,
    Outcome.FLAPPING: _CAUSES,
    Outcome.STOPPED: frozenset({Kind.PAUSED}),
    Outcome.TIMED_OUT: _CAUSES | {Kind.NO_CONTROLLER, Kind.NOT_SCHEDULED, Kind.NO_CHECKPOINT, Kind.LAGGING},
}
"""The kinds of diagnosis that say more than the outcome itself."""

_STEADY_SECONDS = 600.0
"""After this many seconds without a restart, restarts are not the reason that a pipeline does not work."""


def explain(
    result: WaitResult,
    pipeline: PipelineRef,
    errors: Sequence[JobError] = (),
    diagnosis: Diagnosis | None = None,
    *,
    advice: str | None = None,
) -> ArroyoError:
    """Return the error that says how a wait ended.

    :param result: a result that is over and not ``REACHED``.
    :param pipeline: the pipeline.
    :param errors: the job's last errors, newest first, if they could be read.
    :param diagnosis: what is wrong with the pipeline, if known; it is shown if it says more than the outcome.
    :param advice: what to do next, if the caller knows better; default None.
    :returns: an :class:`.ArroyoPipelineError`; for ``ERROR`` the error of the poll itself.
    """
    if result.outcome is Outcome.ERROR and result.error is not None:
        return result.error
    cause = _cause(result, errors)
    what, usual_advice = _what(result, pipeline)
    job = result.job
    # The cause comes first: it matters more than what was wanted and for how long.
    lead = [f"{pipeline.label} {cause}.", what.replace(pipeline.label, "It", 1)] if cause else [what]
    lines = [*lead, *_why(result, errors)]
    if result.error is not None and result.outcome in (Outcome.UNREACHABLE, Outcome.TIMED_OUT):
        lines.append(f"The last poll failed: {result.error}")
    said = _DIAGNOSED.get(result.outcome, frozenset())
    if result.lacks_checkpoint:
        said -= {Kind.NO_CHECKPOINT}  # the error already says so
    named = diagnosis if diagnosis is not None and diagnosis.kind in said else None
    if named is not None:
        # For a failure, the first line already named the state.
        summary = "" if result.outcome is Outcome.FAILED else f"{named.summary} "
        lines.append(f"Diagnosis ({named.kind.value}): {summary}{named.advice}")
    # The usual advice for a failure, to fix its cause, adds nothing to a diagnosis that names the cause.
    if advice is not None or named is None or result.outcome is not Outcome.FAILED:
        lines.append(advice or usual_advice)
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
        diagnosis=None if named is None else named.kind.value,
    )


def _cause(result: WaitResult, errors: Sequence[JobError]) -> str | None:
    """Return why a pipeline does not work, if known, in words that follow its name."""
    if result.outcome not in (Outcome.TIMED_OUT, Outcome.FLAPPING) or result.is_outage:
        return None
    why = f": {errors[0].line}" if errors else ""
    if result.job is None or result.jobless_seconds is not None or result.job.is_terminal:
        return None
    if result.details_error is not None and (result.lacks_checkpoint or result.advice):
        error = shorten(str(result.details_error)).rstrip(".")
        return f"may be healthy, but its {result.detail} cannot be read: {error}"
    # A restart long ago, in a wait of days, is not the reason now.
    is_flapping = result.outcome is Outcome.FLAPPING or result.state_seconds < _STEADY_SECONDS
    # A single restart without an error may have been requested.
    if result.restarts > (0 if errors else 1) and is_flapping:
        return f"keeps failing and starting again{why}"
    if result.lacks_checkpoint and result.open_epoch is not None:
        return f"does not finish its checkpoint {result.open_epoch}{why}"
    if errors and (result.lacks_checkpoint or result.job.state == JobState.RECOVERING):
        return f"keeps recovering from errors{why}"
    return None


def _why(result: WaitResult, errors: Sequence[JobError]) -> list[str]:
    lines: list[str] = []
    if result.advice and result.seen:
        lines.append(f"It {result.seen}.")
    reason = result.job.failure if result.job else None
    if reason and reason.error:
        lines.append(reason.line)
        errors = [error for error in errors if not error.repeats(reason.error)]
    if result.restarts:
        lines.append(f"It restarted {_times(result.restarts)} in {duration(result.waited_seconds)}.")
    if result.outcome is Outcome.FLAPPING and result.restart_window is not None:
        window = duration(result.restart_window.total_seconds())
        # The wait ends when the limit is exceeded, so no more restarts are counted than that.
        lines[-1] = f"It restarted {_times(result.restarts_in_window)} within {window} (restart_window)."
    # A pipeline that retries again and again writes the same error each time.
    shown = Counter(error.line for error in errors)
    if shown:
        lines.append("The job's last errors, newest first:")
        for text, count in list(shown.items())[:SHOWN_ERRORS]:
            lines.append(f"  {text} ({count} times)" if count > 1 else f"  {text}")
    elif result.outcome is Outcome.FAILED and (reason is None or reason.domain in (None, "internal")):
        lines.append("Arroyo's API gives no further cause; check the log of its workers.")
    return lines


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _what(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what happened, and what to do about it."""
    job, label, wanted = result.job, pipeline.label, result.wanted
    verb = "have" if result.advice else "become"
    in_sentence, argument = pipeline.inline, "id" if pipeline.pipeline_id else "name"
    is_foreign = result.error is not None and result.error.disposition is Disposition.OUTAGE
    unreachable = duration(result.unreachable_seconds or 0.0)
    match result.outcome:
        case Outcome.STOPPED if result.advice:
            return (
                f"{label} is Stopped; {wanted} was wanted, and nobody has requested a resume.",
                "Resume it, then try again.",
            )
        case Outcome.NO_CHECKPOINT if result.advice or result.detail is Detail.METRICS:
            lacks = "measures nothing" if result.detail is Detail.METRICS else "takes no checkpoints"
            return (
                f"{label} is Finishing; {wanted} was wanted: one of its sources has ended, and from then on Arroyo "
                f"{lacks}.",
                "Wait for Finished instead, or submit it with sources that do not end.",
            )
        case Outcome.FAILED:
            state = job.state if job else JobState.FAILED
            run = f" {in_run(job.run_id)}" if job else ""
            still = "still " if result.is_unchanged else ""
            return f"{label} is {still}{state}{run}; {wanted} was wanted.", "Fix the cause."
        case Outcome.FINISHED:
            again = "Submit it again." if result.advice else "Wait for Finished instead, or submit it again."
            return (
                f"{label} is Finished; {wanted} was wanted, and a finished pipeline never runs again.",
                f"Its sources are bounded. {again}",
            )
        case Outcome.STOPPED if result.is_unchanged:
            return (
                f"{label} was resumed, and stopped again externally before it ran; {wanted} was wanted.",
                "Find out who stopped it. A new try of this task resumes it.",
            )
        case Outcome.STOPPED:
            who = f"by {result.stopped_by}" if result.stopped_by else "externally"
            return (
                f"{label} was stopped {who}; {wanted} was wanted.",
                "A new try of this task starts it again.",
            )
        case Outcome.WITHDRAWN:
            return (
                f"{label} was asked to run again while this task waited for its stop; {last_seen(job)}.",
                "Find out who withdrew the stop. A new try of this task requests it again.",
            )
        case Outcome.FLAPPING:
            state = f"; it is {job.state} ({run_number(job.run_id)})" if job else ""
            return (
                f"{label} restarted more often than max_restarts allows{state}. {wanted} was wanted.",
                "Fix the cause. The pipeline keeps restarting until it is stopped.",
            )
        case Outcome.NO_CHECKPOINT if result.awaits_run and JobState.RUNNING in result.target_states:
            return (
                f"{label} is Finishing; a new run was wanted: one of its sources has ended, and from then on Arroyo "
                "ignores restarts and new settings.",
                END_FIRST,
            )
        case Outcome.NO_CHECKPOINT if JobState.RUNNING in result.target_states:
            return (
                f"{label} is Finishing, and no checkpoint finished in its run: one of its sources has ended, and "
                "from then on Arroyo takes no checkpoints.",
                "Set until_checkpoint=False to accept this.",
            )
        case Outcome.NO_CHECKPOINT:
            return (
                f"{label} is Finishing: one of its sources has ended, and from then on Arroyo takes no checkpoints "
                "and obeys only a stop with mode 'immediate'.",
                "Set if_finishing='immediate' to request that, or wait until its other sources end.",
            )
        case Outcome.DELETED:
            seen = f"; {last_seen(job)}" if job else ""
            return (
                f"{label} was deleted externally{seen}.",
                "A new try of the task that submits it creates it again."
                if JobState.RUNNING in result.target_states
                else "Nothing of it is running any more, and its checkpoints are gone from Arroyo.",
            )
        case Outcome.MISSING:
            return (
                f"There is no {pipeline.described} on this Arroyo.",
                f"Check the {argument}, and that arroyo_conn_id leads to the right server.",
            )
        case Outcome.UNREACHABLE if not result.has_responded and is_foreign:
            return (
                f"This address does not look like Arroyo: for {unreachable}, no response came from Arroyo itself. "
                f"This says nothing about {in_sentence}.",
                "Check the connection's host, port and base_path.",
            )
        case Outcome.UNREACHABLE if result.is_own_failure:
            return (
                f"Every poll failed for {unreachable}, although Arroyo responds. This says nothing about "
                f"{in_sentence}; {last_seen(job)}.",
                "Check the server's log. A new try continues with the same pipeline.",
            )
        case Outcome.UNREACHABLE:
            since = f", since {utc_time(result.unreachable_since)}" if result.unreachable_since else ""
            return (
                f"Arroyo has been unreachable for {unreachable}{since}. This says nothing about {in_sentence}; "
                f"{last_seen(job)}.",
                "Check the server and the connection. A new try continues with the same pipeline.",
            )
        case Outcome.ERROR:
            return (
                f"The wait for {in_sentence} to {verb} {wanted} failed; {last_seen(job)}.",
                "A retry starts the wait again.",
            )
        case _:
            return timeout(result, pipeline)
