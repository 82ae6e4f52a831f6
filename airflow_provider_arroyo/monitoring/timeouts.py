"""What an error says about a wait that timed out: what was last seen, the most likely cause, and what to do."""

from __future__ import annotations

from airflow_provider_arroyo.client.enums import AT_WORK
from airflow_provider_arroyo.client.models import Job, JobState
from airflow_provider_arroyo.monitoring.messages import run_of
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.text import duration, run_number, utc_time

_STOP_REQUESTED = "A stop was requested, so it is about to stop. Find out who requested it."
END_FIRST = "Wait until it has finished, or stop it with mode='immediate'; then submit it again."


def last_seen(job: Job | None) -> str:
    """Return the last state that was seen, in words that end a sentence."""
    if job is None:
        return "its state was never seen"
    return f"last seen {job.state} ({run_of(job)})"


def timeout(result: WaitResult, pipeline: PipelineRef) -> tuple[str, str]:
    """Return what happened in a wait that timed out, and what to do about it."""
    label, job, wanted = pipeline.label, result.job, result.wanted
    waited = f"{duration(result.waited_seconds)} ({result.deadline_argument})"
    not_so = f"did not {'have' if result.advice else 'become'} {wanted} within {waited}"
    if result.is_outage:
        since = f" since {utc_time(result.unreachable_since)}" if result.unreachable_since else ""
        is_own = result.is_own_failure
        what = "every poll has failed" if is_own else "Arroyo has been unreachable"
        return (
            f"{label} {not_so}: {what}{since}; {last_seen(job)}.",
            "Check the server's log." if is_own else "Check the server and the connection.",
        )
    if result.is_missing:
        argument = "id" if pipeline.pipeline_id else "name"
        return (
            f"There is no {pipeline.described} after {waited}; {wanted} was wanted.",
            result.elsewhere or f"Check the {argument}, and that arroyo_conn_id leads to the right server.",
        )
    if job is None:
        return (f"{label} still has no job after {waited}.", "Check Arroyo's controller.")
    if result.jobless_seconds is not None:
        return (
            f"{label} {not_so}: it has had no job for {duration(result.jobless_seconds)}; {last_seen(job)}.",
            "Check the pipeline in Arroyo's console; if it cannot be recovered, delete it and submit it again.",
        )
    # A rescheduled sensor remembers nothing, so it does not know for how long.
    state = (
        f"has been {job.state} for {duration(result.state_seconds)}"
        if result.state_seconds
        else f"is {job.state}"
    )
    what = f"{label} {not_so}: it {state} ({run_number(job.run_id)})."
    return (what, _delayed_by(result, job))


def _delayed_by(result: WaitResult, job: Job) -> str:
    """Return the most likely cause of a timeout, and what to do about it."""
    argument, wanted = result.deadline_argument, result.target_states
    if result.awaits_run and job.state == JobState.FINISHING and JobState.RUNNING in wanted:
        return f"In that state, Arroyo ignores restarts and new settings. {END_FIRST}"
    if result.advice and job.state in AT_WORK and job.running_desired:
        return f"{result.advice}, or allow more time ({argument})."
    if result.advice and job.state in AT_WORK and job.running_desired is False:
        return _STOP_REQUESTED
    if job.state == JobState.FINISHING and JobState.STOPPED in wanted and job.running_desired is False:
        return (
            "A stop was requested, and one of its sources has ended: from then on Arroyo obeys only a stop with mode "
            f"'immediate'. Use that, or allow more time ({argument})."
        )
    is_stop = JobState.STOPPED in wanted and JobState.RUNNING not in wanted
    if result.is_unchanged and is_stop and job.state in AT_WORK and job.running_desired:
        return "A stop was requested, but then withdrawn. Find out who resumed it, then stop it again."
    if result.is_unchanged and not job.is_terminal:
        return (
            "Nothing has happened since the change was requested. Check Arroyo's controller, which carries out "
            "what the API accepts."
        )
    is_running, runs_wanted = job.state in AT_WORK, JobState.RUNNING in wanted
    if is_running and job.running_desired is None:
        return "Arroyo's responses do not say whether a stop was requested. Check any gateway in between."
    if is_running and runs_wanted and not job.running_desired:
        return _STOP_REQUESTED
    if is_running and runs_wanted and result.lacks_checkpoint:
        return (
            "until_checkpoint=True waits for a checkpoint that began in its run and has finished. Check its sources "
            f"and sinks, or allow more time than its checkpoint interval ({argument})."
        )
    if job.state == JobState.STOPPED and job.running_desired:
        return "A resume was requested; check Arroyo's controller."
    if job.state in wanted or (is_running and runs_wanted):
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
    if is_running:
        return f"It is still running. Allow more time ({argument}), or check that its sources are bounded."
    if job.state == JobState.STOPPED:
        return "No resume was requested. Resume it."
    if job.state == JobState.RESTARTING:
        return (
            "Arroyo waits for its final checkpoint, in vain if another one was in progress when the restart was "
            f"requested. Allow more time ({argument}), or restart it with force=True, which does without."
        )
    if job.state in (JobState.RESCALING, JobState.CHECKPOINT_STOPPING):
        return (
            "Arroyo waits for its final checkpoint. Check its sources and sinks, allow more time "
            f"({argument}), or stop it with mode='immediate', which does without."
        )
    return f"Check Arroyo's controller and workers, or allow more time ({argument})."
