"""Diagnoses a pipeline from what Arroyo's API reports: what is wrong, if anything, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint, JobError, OperatorMetrics
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.sql_secrets import redact_sql
from airflow_provider_arroyo.monitoring.checkpoints import LONG_SECONDS, WAY_OUT, last_finished, waits_seconds
from airflow_provider_arroyo.monitoring.metrics import backpressure
from airflow_provider_arroyo.monitoring.progress import SeenRun
from airflow_provider_arroyo.text import duration, in_run, run_number, shorten

_DEFAULT_INTERVAL_SECONDS = 10.0
_PICK_UP_SECONDS = 30.0
"""How long a new job may stay in Created, in seconds; the controller polls twice a second."""
_START_SECONDS = 60.0
"""How long scheduling a job may take, in seconds."""
_RECENT_SECONDS = 600.0
"""How old an error may be, in seconds, to explain the current state."""
_BACKPRESSURE = 0.8
"""How full an operator's queue must be (0 to 1) for it to slow down the operators before it."""


class Kind(StrEnum):
    """The kinds of condition that a pipeline can be in, each with what to do, and whether someone should act."""

    advice: str
    is_problem: bool

    def __new__(cls, name: str, advice: str = "", is_problem: bool = True) -> Self:
        """Return a kind with its advice."""
        kind = str.__new__(cls, name)
        kind._value_, kind.advice, kind.is_problem = name, advice, is_problem
        return kind

    HEALTHY = "healthy", "Nothing to do.", False
    STARTING = "starting", "Wait until its first checkpoint has finished; that proves that data flows.", False
    STOPPING = "stopping", "Wait; a stop mode of 'immediate' or 'force' ends it sooner.", False
    STOPPED = "stopped", "Resume it when it should run; without a checkpoint, it starts without state.", False
    PAUSED = "paused", "Find out who stopped it, and why; then resume it.", False
    FINISHING = (
        "finishing",
        "It takes no more checkpoints. Let it end, or stop it with mode 'immediate'.",
        False,
    )
    FINISHED = "finished", "Submit it again to run it once more.", False
    NO_JOB = "no_job", "Delete it and submit it again: its creation was interrupted halfway."
    SQL_REFUSED = (
        "sql_refused",
        "Change the SQL, or restore the tables and UDFs that it uses; then submit it again.",
    )
    NO_CONTROLLER = "no_controller", "Start Arroyo's controller, or check its log."
    NOT_SCHEDULED = (
        "not_scheduled",
        "Check the controller's log: it cannot start workers, or has no free slots for them.",
    )
    BROKER_UNREACHABLE = (
        "broker_unreachable",
        "Check address and login in the SQL, and that Arroyo's workers reach the broker.",
    )
    FILE_MISSING = (
        "file_missing",
        "Check the path, and that Arroyo's workers see the file or may read the bucket.",
    )
    RECOVERING = (
        "recovering",
        "Diagnose it again in a minute. If it is still recovering, check the log of Arroyo's workers.",
    )
    FLAPPING = "flapping", "Check the log of Arroyo's workers for what ends each run."
    NO_CHECKPOINT = "no_checkpoint", "Check its sources and sinks, and the log of Arroyo's workers."
    LAGGING = "lagging", "Raise the parallelism, or make that operator cheaper."
    FAILED = "failed", "Fix the cause, then restart it."
    UNKNOWN = "unknown", "Check any gateway between Airflow and Arroyo, and Arroyo's log."


CAUSES = (
    (
        Kind.BROKER_UNREACHABLE,
        "cannot reach its broker",
        re.compile(r"kafka (consumer|producer)|broker ?transport|bootstrap|brokers? (are|is) down", re.I),
    ),
    # Messages about SQL of the planner of 0.16, of that of 0.15, and of both.
    (
        Kind.SQL_REFUSED,
        "cannot be planned: Arroyo refuses its SQL",
        re.compile(r"failed to plan query|error during planning|\b(sql|schema) error:|invalid udf", re.I),
    ),
    (
        Kind.FILE_MISSING,
        "cannot find a file",
        re.compile(r"no such file or directory|file not found|object not found", re.I),
    ),
)
"""Known causes, what the pipeline then cannot do, and how Arroyo's messages name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What Arroyo reports about a pipeline.

    :param pipeline: the pipeline.
    :param now: the server's time, seconds since the epoch.
    :param jobs: its job, as polled several times, oldest first; empty if it has none.
    :param checkpoints: the job's checkpoints, oldest first.
    :param errors: the job's last errors, newest first.
    :param metrics: the metrics of its operators.
    :param refusals: the errors of Arroyo's planner for its SQL; empty if there are none, or the planner was not
        asked.
    :param unread: which parts cannot be read (``definition``, ``environment``, ``checkpoints``, ``errors`` or
        ``metrics``), and why.
    """

    pipeline: Pipeline
    now: float
    jobs: tuple[Job, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    errors: tuple[JobError, ...] = ()
    metrics: tuple[OperatorMetrics, ...] = ()
    refusals: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong with a pipeline, if anything.

    :param kind: its condition.
    :param summary: the condition in one sentence.
    :param details: the evidence, one line each.
    :param advice: what to do next.
    """

    kind: Kind
    summary: str
    details: tuple[str, ...] = ()
    advice: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether someone should act."""
        return self.kind.is_problem

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {line}" for line in self.details), self.advice])


def diagnose(evidence: Evidence) -> Diagnosis:
    """Return the condition of a pipeline, the evidence, and what to do.

    :param evidence: what Arroyo reports about it.
    """
    kind, summary, *details = _condition(evidence)
    unread = (f"Its {what} cannot be read: {shorten(why, 500)}" for what, why in evidence.unread.items())
    return Diagnosis(
        kind=kind,
        summary=summary,
        details=(*details, *_said(evidence, kind), *unread),
        advice=kind.advice,
    )


_Condition = tuple[Kind, str, *tuple[str, ...]]
"""A kind, the condition in one sentence, and the evidence, one line each."""


def _condition(e: Evidence) -> _Condition:
    if not e.jobs:
        if e.refusals:
            return Kind.SQL_REFUSED, "The pipeline has no job, and Arroyo refuses its SQL."
        return Kind.NO_JOB, "The pipeline has no job."
    job = e.jobs[-1]
    if (waits := waits_seconds(e.jobs, e.checkpoints, e.now)) > LONG_SECONDS:
        what = f"{job.state}, {run_number(job.run_id)}: it waits for its final checkpoint, for {duration(waits)} now."
        return Kind.NO_CHECKPOINT, what, WAY_OUT[JobState(job.state)]
    if (ended := _ended_or_ending(e, job)) is not None:
        return ended
    restarts = _restarts(e.jobs)
    cause = _cause(e)
    failed_at = max((one.created_at_micros for one in e.errors), default=0)
    # A checkpoint that began after the last error and has finished proves that data flowed again.
    is_proven = any(one.is_finished and one.start_time_micros > failed_at for one in e.checkpoints)
    if cause is not None and not is_proven:
        cannot = next(cannot for kind, cannot, _ in CAUSES if kind is cause)
        return cause, f"{job.state}, {run_number(job.run_id)}, but it {cannot}."
    if restarts > 1:
        seen = f"It began {restarts} new runs by itself while it was polled."
        return Kind.FLAPPING, f"{job.state}, {run_number(job.run_id)}: it keeps restarting.", seen
    if restarts or job.state == JobState.RECOVERING:
        return Kind.RECOVERING, f"{job.state}, {run_number(job.run_id)}: it is recovering from a failure."
    if job.state != JobState.RUNNING:
        return _on_its_way(e, job)
    return _running(e, job)


def _restarts(jobs: tuple[Job, ...]) -> int:
    """Return how many runs began by themselves during the polls."""
    run, restarts = SeenRun.of(jobs[0]), 0
    for job in jobs[1:]:
        run, more = run.follow(job)
        restarts += more
    return restarts


def _ended_or_ending(e: Evidence, job: Job) -> _Condition | None:
    """Return the condition of a pipeline that has ended or is about to end; None if it should keep running."""
    if job.state in (JobState.FAILED, JobState.FAILING):
        # Arroyo's reason for this failure takes precedence over the planner's errors for the SQL now.
        cause = _cause(e, is_failure=True) or (Kind.SQL_REFUSED if e.refusals else Kind.FAILED)
        return cause, f"{job.state} {in_run(job.run_id)}."
    if job.state == JobState.FINISHED:
        return Kind.FINISHED, "Finished: its sources have ended."
    if job.state == JobState.STOPPED:
        if job.running_desired:
            return Kind.STARTING, "Stopped, and asked to run again."
        return _stopped(e)
    if job.running_desired is False:
        return Kind.STOPPING, f"{job.state}, and asked to stop."
    if job.state == JobState.FINISHING:
        return Kind.FINISHING, "Finishing: at least one of its sources has ended, others are still running."
    return None


def _stopped(e: Evidence) -> _Condition:
    last = last_finished(e.checkpoints)
    if last is None and "checkpoints" in e.unread:
        return Kind.STOPPED, "Stopped, as requested."
    if last is None:
        return Kind.STOPPED, "Stopped, as requested; it has no checkpoint."
    return (
        Kind.PAUSED,
        f"Stopped, as requested; it continues from checkpoint {last.epoch} when it is resumed.",
    )


def _on_its_way(e: Evidence, job: Job) -> _Condition:
    age = e.now - job.created_at_micros / 1e6 if job.created_at_micros else 0.0
    if job.state == JobState.CREATED and age > _PICK_UP_SECONDS:
        return Kind.NO_CONTROLLER, f"Created {duration(age)} ago, but no controller has picked it up."
    if job.start_time_micros is None and age > _START_SECONDS:
        parallelism = e.pipeline.graph.parallelism
        why = ("Its parallelism is 0.",) if parallelism == 0 else ()
        return Kind.NOT_SCHEDULED, f"{job.state} for {duration(age)}, but it has never run.", *why
    return Kind.STARTING, f"{job.state}, {run_number(job.run_id)}."


def _running(e: Evidence, job: Job) -> _Condition:
    run = f"Running, run {job.run_id}"
    interval = (e.pipeline.checkpoint_interval_micros or 0) / 1e6 or _DEFAULT_INTERVAL_SECONDS
    limit = max(_START_SECONDS, 5 * interval)
    finished = [one.finish_time_micros for one in e.checkpoints if one.finish_time_micros is not None]
    began_micros = job.start_time_micros or job.created_at_micros
    began = began_micros / 1e6 if began_micros else e.now
    is_unread = "checkpoints" in e.unread
    last = max(finished) / 1e6 if finished else began
    # Restarts do not renew a start time, but every run takes checkpoints.
    if not is_unread and e.now - max(last, began) > limit:
        ago = f"its last checkpoint finished {duration(e.now - last)} ago"
        what = ago if finished else "it has no finished checkpoint"
        due = f"One is due every {duration(interval)}."
        return Kind.NO_CHECKPOINT, f"{run}, but {what}.", due
    if (slow := _slowest(e)) is not None:
        return Kind.LAGGING, f"{run}, but it cannot keep up.", slow
    if is_unread:
        return Kind.UNKNOWN, f"{run}; whether data flows cannot be determined."
    if not finished or last < began:
        return Kind.STARTING, f"{run}; its first checkpoint has not finished yet."
    return Kind.HEALTHY, f"{run}; its last checkpoint finished {duration(e.now - last)} ago."


def _slowest(e: Evidence) -> str | None:
    """Return the operator that slows down the others, by its latest backpressure; None if none does."""
    pressures = [(backpressure(node) or 0.0, node.node_id) for node in e.metrics]
    worst, node_id = max(pressures, default=(0.0, 0))
    if worst < _BACKPRESSURE:
        return None
    names = {node.node_id: node.label for node in e.pipeline.graph.nodes}
    return f"Backpressure at {shorten(names.get(node_id, f'node {node_id}'), 80)}: {worst:.0%}."


def _cause(e: Evidence, *, is_failure: bool = False) -> Kind | None:
    """Return the cause that Arroyo's messages name; None if it is not a known one."""
    failure = e.jobs[-1].failure
    texts = [failure.error] if failure else []
    since = float("-inf") if is_failure else e.now - _RECENT_SECONDS
    texts += [f"{one.message} {one.details}" for one in e.errors if one.created_at_micros / 1e6 > since]
    found = (kind for text in texts for kind, _, pattern in CAUSES if pattern.search(text))
    return next(found, None)


def _said(e: Evidence, kind: Kind) -> tuple[str, ...]:
    """Return Arroyo's own messages about a problem."""
    if not kind.is_problem:
        return ()
    lines = []
    if not e.jobs:
        return _refused(e)
    failure = e.jobs[-1].failure
    reason = failure.error if failure else ""
    if failure and reason:
        lines.append(failure.line)
    lines += [f"Error: {error.line}" for error in e.errors[:3] if not error.repeats(reason)]
    if kind is Kind.SQL_REFUSED:
        lines += _refused(e)
    if not lines and kind is Kind.FAILED:
        lines.append("Arroyo's API gives no cause; check the log of its workers.")
    return tuple(dict.fromkeys(lines))


def _refused(e: Evidence) -> tuple[str, ...]:
    """Return the planner's errors for the SQL."""
    return tuple(f"Arroyo refuses the SQL: {shorten(redact_sql(text), 300)}" for text in e.refusals[:3])
