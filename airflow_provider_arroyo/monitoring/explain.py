"""Turns a wait's result into an error for people: which pipeline, what happened, why, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.enums import AT_WORK, JobState
from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoPipelineError, Disposition
from airflow_provider_arroyo.monitoring.checkpoints import WAY_OUT
from airflow_provider_arroyo.monitoring.condition import Detail
from airflow_provider_arroyo.monitoring.diagnosis import CAUSES, Diagnosis, Kind
from airflow_provider_arroyo.monitoring.messages import run_of
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.text import duration, in_run, run_number, shorten, utc_time

SHOWN_ERRORS = 5

_CAUSES = frozenset(kind for kind, *_ in CAUSES)
_DIAGNOSED = {
    Outcome.FAILED: _CAUSES,
    Outcome.FLAPPING: _CAUSES,
    Outcome.STOPPED: frozenset({Kind.PAUSED}),
    Outcome.TIMED_OUT: _CAUSES | {Kind.NO_CONTROLLER, Kind.NOT_SCHEDULED, Kind.NO_CHECKPOINT, Kind.LAGGING},
}
"""The kinds of diagnosis that say more than the outcome itself."""

_END_FIRST = "Wait until it has finished, or stop it with mode='immediate'; then submit it again."

_STEADY_SECONDS = 600.0
"""After this many seconds without a restart, restarts are not the reason that a pipeline does not work."""


def explain(
    result: WaitResult,
    pipeline: PipelineRef,
    errors: Sequence[JobError] = (),
    diagnosis: Diagnosis | None = None,
    failure: FailureReason | None = None,
    *,
    advice: str | None = None,
) -> ArroyoError:
    """Return the error that says how a wait ended.

    :param result: a result that is over and not ``REACHED``.
    :param pipeline: the pipeline.
    :param errors: the job's last errors, newest first, if they could be read.
    :param diagnosis: what is wrong with the pipeline, if known; it is shown if it says more than the outcome.
    :param failure: the reason of its failure, if it was read again, without the secrets of the pipeline.
    :param advice: what to do next, if the caller knows better; default None.
    :returns: an :class:`.ArroyoPipelineError`; for ``ERROR`` the error of the poll itself.
    """
    if result.outcome is Outcome.ERROR and result.error is not None:
        return result.error
    if failure is not None and result.job is not None:
        result = replace(result, job=replace(result.job, failure=failure))
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
    job = result.job
    if result.outcome not in (Outcome.TIMED_OUT, Outcome.FLAPPING) or result.is_outage:
        return None
    if job is None or job.is_terminal or result.jobless_seconds is not None:
        return None
    why = f": {errors[0].line}" if errors else ""
    if result.details_error is not None and (result.lacks_checkpoint or result.has_condition):
        error = shorten(str(result.details_error)).rstrip(".")
        return f"may be healthy, but its {result.detail} cannot be read: {error}"
    # A restart long ago, in a wait of days, is not the reason now.
    is_flapping = result.outcome is Outcome.FLAPPING or result.state_seconds < _STEADY_SECONDS
    # A single restart without an error may have been requested.
    if result.restarts > (0 if errors else 1) and is_flapping:
        return f"keeps failing and starting again{why}"
    if result.lacks_checkpoint and result.open_epoch is not None:
        return f"does not finish its checkpoint {result.open_epoch}{why}"
    if errors and (result.lacks_checkpoint or job.state == JobState.RECOVERING):
        return f"keeps recovering from errors{why}"
    return None


def _why(result: WaitResult, errors: Sequence[JobError]) -> list[str]:
    lines = [f"It {result.seen}."] if result.has_condition and result.seen else []
    reason = result.job.failure if result.job else None
    if reason and reason.error:
        lines.append(reason.line)
        errors = [error for error in errors if not error.repeats(reason.error)]
    count, within = result.restarts, f"in {duration(result.restarts_seconds or result.waited_seconds)}"
    if result.outcome is Outcome.FLAPPING and result.restart_window is not None:
        # The wait ends when the limit is exceeded, so no more restarts are counted than that.
        count = result.restarts_in_window
        within = f"within {duration(result.restart_window.total_seconds())} (restart_window)"
    if count:
        lines.append(f"It restarted {'once' if count == 1 else f'{count} times'} {within}.")
    # A pipeline that retries again and again writes the same error each time.
    shown = Counter(error.line for error in errors)
    if shown:
        lines.append("The job's last errors, newest first:")
        for text, count in list(shown.items())[:SHOWN_ERRORS]:
            lines.append(f"  {text} ({count} times)" if count > 1 else f"  {text}")
    elif result.outcome is Outcome.FAILED and (reason is None or reason.domain in (None, "internal")):
        lines.append("Arroyo's API gives no further cause; check the log of its workers.")
    return lines


# -- what happened, and what to do about it -----------------------------------------------------------------------


def _what(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what happened, and what to do about it."""
    job, label, wanted = result.job, pipeline.label, result.wanted
    match result.outcome:
        case Outcome.FAILED:
            state = job.state if job else JobState.FAILED
            run = f" {in_run(job.run_id)}" if job else ""
            still = "still " if result.is_unchanged else ""
            return f"{label} is {still}{state}{run}; the goal was {wanted}.", "Fix the cause."
        case Outcome.FINISHED:
            again = "Wait for Finished instead, or submit it again."
            if result.has_condition:
                again = "Submit it again."
            what = f"{label} is Finished; the goal was {wanted}, and a finished pipeline never runs again."
            return what, f"Its sources are bounded. {again}"
        case Outcome.STOPPED if result.has_condition:
            return (
                f"{label} is Stopped; the goal was {wanted}, and nobody has requested a resume.",
                "Resume it, then try again.",
            )
        case Outcome.STOPPED if result.is_unchanged:
            return (
                f"{label} was resumed, and stopped again externally before it ran; the goal was {wanted}.",
                "Find out who stopped it. A new try of this task resumes it.",
            )
        case Outcome.STOPPED:
            who = f"by {result.stopped_by}" if result.stopped_by else "externally"
            return (
                f"{label} was stopped {who}; the goal was {wanted}.",
                "A new try of this task starts it again.",
            )
        case Outcome.WITHDRAWN if result.is_unchanged and len(result.transitions) <= 1:
            return (
                f"{label} was asked to run again while this task waited for its stop, or the responses are old: none "
                f"of them showed the stop; {_last_seen(job)}.",
                "Find out who withdrew the stop, and whether a gateway caches Arroyo's API. A new try of this task "
                "requests the stop again.",
            )
        case Outcome.WITHDRAWN:
            return (
                f"{label} was asked to run again while this task waited for its stop; {_last_seen(job)}.",
                "Find out who withdrew the stop. A new try of this task requests it again.",
            )
        case Outcome.FLAPPING:
            state = f"; it is {job.state} ({run_number(job.run_id)})" if job else ""
            return (
                f"{label} restarted more often than max_restarts allows{state}. The goal was {wanted}.",
                "Fix the cause. The pipeline keeps restarting until it is stopped.",
            )
        case Outcome.NO_CHECKPOINT:
            return _finishing(result, pipeline)
        case Outcome.DELETED:
            seen = f"; {_last_seen(job)}" if job else ""
            advice = "Nothing of it is running any more, and its checkpoints are gone from Arroyo."
            if JobState.RUNNING in result.target_states:
                advice = "A new try of the task that submits it creates it again."
            return f"{label} was deleted externally{seen}.", advice
        case Outcome.MISSING:
            return f"There is no {pipeline.described} on this Arroyo.", _check_reference(pipeline)
        case Outcome.UNREACHABLE:
            return _unreachable(result, pipeline)
        case Outcome.ERROR:
            return (
                f"The wait for {pipeline.inline} to {_verb(result)} {wanted} failed; {_last_seen(job)}.",
                "A retry starts the wait again.",
            )
        case _:
            return _timeout(result, pipeline)


def _finishing(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what ``Finishing`` makes impossible, and what to do about it."""
    lacks = "takes no checkpoints"
    if result.has_condition:
        what = f"is Finishing; the goal was {result.wanted}"
        advice = "Wait for Finished instead, or submit it with sources that do not end."
        lacks = "measures nothing" if result.detail is Detail.METRICS else lacks
    elif JobState.RUNNING not in result.target_states:
        what, lacks = "is Finishing", f"{lacks} and obeys only a stop with mode 'immediate'"
        advice = "Set if_finishing='immediate' to request that, or wait until its other sources end."
    elif result.awaits_run:
        what, lacks = "is Finishing; a new run was wanted", "ignores restarts and new settings"
        advice = _END_FIRST
    else:
        what = "is Finishing, and no checkpoint finished in its run"
        advice = "Set until_checkpoint=False to accept this."
    why = f"one of its sources has ended, and from then on Arroyo {lacks}"
    return f"{pipeline.label} {what}: {why}.", advice


def _unreachable(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return that no poll has succeeded for too long, and what to check."""
    seconds = duration(result.unreachable_seconds or 0.0)
    nothing = f"This says nothing about {pipeline.inline}"
    if not result.has_responded and result.error and result.error.disposition is Disposition.OUTAGE:
        return (
            f"This address does not look like Arroyo: for {seconds}, no response came from Arroyo itself. {nothing}.",
            "Check the connection's host, port and base_path.",
        )
    what = f"Arroyo has been unreachable for {seconds}{_since(result, ', ')}"
    if result.is_own_failure:
        what = f"Every poll failed for {seconds}, although Arroyo responds"
    what = f"{what}. {nothing}; {_last_seen(result.job)}."
    return what, f"{_check_server(result)} A new try continues with the same pipeline."


def _timeout(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what happened in a wait that timed out, and what to do about it."""
    label, job, wanted = pipeline.label, result.job, result.wanted
    waited = f"{duration(result.waited_seconds)} ({result.deadline_argument})"
    not_so = f"did not {_verb(result)} {wanted} within {waited}"
    if result.is_outage:
        what = "every poll has failed" if result.is_own_failure else "Arroyo has been unreachable"
        return f"{label} {not_so}: {what}{_since(result)}; {_last_seen(job)}.", _check_server(result)
    if result.is_missing:
        what = f"There is no {pipeline.described} after {waited}; the goal was {wanted}."
        return what, result.elsewhere or _check_reference(pipeline)
    if job is None:
        return f"{label} still has no job after {waited}.", "Check Arroyo's controller."
    if result.jobless_seconds is not None:
        return (
            f"{label} {not_so}: it has had no job for {duration(result.jobless_seconds)}; {_last_seen(job)}.",
            "Check the pipeline in Arroyo's console; if it cannot be recovered, delete it and submit it again.",
        )
    # A rescheduled sensor remembers nothing, so it does not know for how long.
    state = f"is {job.state}"
    if result.state_seconds:
        state = f"has been {job.state} for {duration(result.state_seconds)}"
    return f"{label} {not_so}: it {state} ({run_number(job.run_id)}).", _delayed_by(result, job)


def _delayed_by(result: WaitResult, job: Job) -> str:
    """Return the most likely cause of a timeout, and what to do about it."""
    wanted, more_time = result.target_states, f"allow more time ({result.deadline_argument})"
    runs_wanted, stop_wanted = JobState.RUNNING in wanted, JobState.STOPPED in wanted
    if job.state == JobState.FINISHING and result.awaits_run and runs_wanted:
        return f"In that state, Arroyo ignores restarts and new settings. {_END_FIRST}"
    if job.state == JobState.FINISHING and stop_wanted and job.running_desired is False:
        return (
            "A stop was requested, and one of its sources has ended: from then on Arroyo obeys only a stop with mode "
            f"'immediate'. Use that, or {more_time}."
        )
    if result.is_unchanged:
        return (
            "Nothing has happened since the change was requested. Check Arroyo's controller, which carries out "
            "what the API accepts."
        )
    is_at_work, is_stopping = job.state in AT_WORK, job.running_desired is False and not job.is_terminal
    if job.state == JobState.CHECKPOINT_STOPPING and result.has_condition:
        is_stopping = result.detail is not Detail.CHECKPOINTS  # the final checkpoint may be the wanted one
    if is_stopping and (runs_wanted or result.has_condition) and (is_at_work or not stop_wanted):
        return "A stop was requested, so it is about to stop. Find out who requested it."
    if is_at_work:
        if job.running_desired is None:
            return "Arroyo's responses do not say whether a stop was requested. Check any gateway in between."
        if result.has_condition:
            return f"{result.advice}, or {more_time}."
        if runs_wanted and result.lacks_checkpoint:
            return (
                "until_checkpoint=True waits for a checkpoint that began in its run and has finished. Check its "
                "sources and sinks, or allow more time than its checkpoint interval "
                f"({result.deadline_argument})."
            )
    if job.state == JobState.STOPPED and job.running_desired:
        return "A resume was requested; check Arroyo's controller."
    if job.state in wanted or (job.state in AT_WORK and runs_wanted):
        return (
            "It has not stayed in that state for stable_for in one run. "
            f"{more_time.capitalize()}, or find out why it restarts."
        )
    if job.state == JobState.RUNNING and stop_wanted:
        if job.running_desired:
            return (
                "No stop is requested: nobody requested one, or the request was withdrawn. Stop the pipeline, or "
                f"{more_time}."
            )
        return f"A stop was requested; check Arroyo's controller, or {more_time}."
    if job.state in AT_WORK:
        return f"It is still running. {more_time.capitalize()}, or check that its sources are bounded."
    if job.state == JobState.STOPPED:
        return "No resume was requested. Resume it."
    if job.state in WAY_OUT:
        way_out = WAY_OUT[JobState(job.state)]
        return (
            f"Arroyo waits for its final checkpoint. Check its sources and sinks, or {more_time}. {way_out}"
        )
    return f"Check Arroyo's controller and workers, or {more_time}."


# -- repeated phrases -----------------------------------------------------------------------------------------------


def _last_seen(job: Job | None) -> str:
    """Return the last state that was seen, in words that end a sentence."""
    return "its state was never seen" if job is None else f"last seen {job.state} ({run_of(job)})"


def _verb(result: WaitResult) -> str:
    """Return the verb before what was wanted: a pipeline has a metric, and becomes a state."""
    return "have" if result.has_condition else "become"


def _since(result: WaitResult, comma: str = " ") -> str:
    return f"{comma}since {utc_time(result.unreachable_since)}" if result.unreachable_since else ""


def _check_server(result: WaitResult) -> str:
    return "Check the server's log." if result.is_own_failure else "Check the server and the connection."


def _check_reference(pipeline: PipelineRef) -> str:
    argument = "id" if pipeline.pipeline_id else "name"
    return f"Check the {argument}, and that arroyo_conn_id leads to the right server."
