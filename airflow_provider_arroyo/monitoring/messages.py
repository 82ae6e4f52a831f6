"""The log lines of a wait: each change once, outages, rare heartbeats. Alike in every mode; the state comes first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.retry import POLL_RETRIES
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.condition import Finding
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.progress import Progress
from airflow_provider_arroyo.text import duration, run_number, shorten


class Message(NamedTuple):
    """One log line."""

    level: int
    text: str


def log_messages(log: Any, messages: Iterable[Message]) -> None:
    """Write messages to a logger.

    :param log: a logger with the standard ``log(level, text, *args)``, such as structlog's.
    :param messages: the messages.
    """
    for message in messages:
        log.log(message.level, "%s", message.text)


def done(pipeline: PipelineRef, job: Job | None, **more: Any) -> str:
    """Return the last line of a task that succeeded.

    :param pipeline, job, more: see :func:`.result_values`.
    """
    shown = [f"{key}: {_in_words(value)}" for key, value in more.items() if value]
    if job is not None:
        shown.insert(0, run_number(job.run_id))
    state = job.state if job is not None else "no job"
    return f"Done, {state}: {pipeline.short}" + (f" ({', '.join(shown)})" if shown else "")


def _in_words(value: Any) -> Any:
    """Return a value of a result as it is logged: ``epoch 3`` for a checkpoint, without the times in microseconds."""
    if not isinstance(value, Mapping):
        return value
    return " ".join(f"{key} {item}" for key, item in value.items() if not key.endswith("_micros"))


def unreadable(plan: WaitPlan, error: ArroyoError, seconds: float) -> ArroyoError:
    """Return the error for a condition whose details could not be read for too long."""
    return ArroyoError(
        f"The {plan.detail} of {plan.pipeline.inline} could not be read for {duration(seconds)} "
        f"(api_outage_tolerance), although Arroyo responds. The last try failed: {error}\n"
        "Check any gateway in between. A new try continues with the same pipeline."
    )


class Messages:
    """Collects the messages of one wait until they are taken.

    :param plan: the plan of the wait.
    :param is_watch: whether this is an endless watch, without a deadline that could be shown; default False.
    :param is_repeated: whether an earlier wait of the same task logged the first state, default False.
    """

    __slots__ = ("_first_level", "_is_repeated", "_is_watch", "_pending", "_plan")

    def __init__(self, plan: WaitPlan, *, is_watch: bool = False, is_repeated: bool = False) -> None:
        self._plan = plan
        self._is_watch = is_watch
        self._is_repeated = is_repeated
        self._first_level = logging.DEBUG if is_repeated else logging.INFO
        self._pending: tuple[Message, ...] = ()

    def take(self) -> list[Message]:
        """Return the messages since the last call."""
        taken, self._pending = self._pending, ()
        return list(taken)

    @property
    def _name(self) -> str:
        return self._plan.pipeline.short

    def _add(self, text: str, level: int = logging.INFO) -> None:
        self._pending += (Message(level, text),)

    def missing(self, now: float, missing_seconds: float | None = None, *, elsewhere: str = "") -> None:
        """The pipeline does not exist yet. Another Airflow may have one of that name, which is never used."""
        after = " yet" if missing_seconds is None else f" after {duration(missing_seconds)}"
        level = self._first_level if missing_seconds is None else logging.INFO
        if self._is_watch:
            after = elsewhere = ""  # it may have existed before
        if elsewhere and not self._is_repeated:
            level = logging.WARNING
        more = f". {elsewhere}" if elsewhere else ""
        self._add(f"No such pipeline{after}: {self._name}; {self._goal(now)}{more}", level)

    def found(self, plan: WaitPlan) -> None:
        """The pipeline was found by its name."""
        self._plan, pipeline = plan, plan.pipeline
        begin = "Watching" if self._is_watch else "Waiting"
        where = f"{self._name}, id {pipeline.pipeline_id}, {pipeline.console_url}"
        self._add(f"{begin} for {plan.goal}: {where}", self._first_level)

    def _goal(self, now: float) -> str:
        if self._is_watch:
            return f"watching for {self._plan.goal}"
        return f"waiting for {self._plan.goal}, {duration(self._plan.deadline - now)} left"

    def changed(self, before: Job | None, job: Job, state_seconds: float) -> None:
        """Another state, run or job was seen, or a stop was requested, or that request was withdrawn.

        :param before: the job in the last message; None if there was none.
        :param job: the job now.
        :param state_seconds: how long the state before was seen.
        """
        level, self._first_level = self._first_level, logging.INFO
        what, instead = str(job.state), ""
        if before is not None and (before.id, before.run_id, before.state) == (job.id, job.run_id, job.state):
            asked = "stop requested" if job.running_desired is False else "stop request withdrawn"
            if job.running_desired is None:
                asked = "unknown whether a stop is requested"
            self._add(f"{what}, {asked}: {self._name} ({run_number(job.run_id)})")
            return
        if before is not None:
            what = f"{before.state} → {job.state} after {duration(state_seconds)}"
            if before.id != job.id:
                instead = f", new job {job.id} instead of {before.id}"
            elif job.run_id < before.run_id:
                instead = f", back from run {before.run_id}"
        why = f". Reason: {shorten(job.failure.error)}" if job.failure else ""
        self._add(f"{what}: {self._name} ({run_of(job)}{instead}){why}", level)

    def no_job(self, before: Job) -> None:
        """The pipeline had a job, but has none any more."""
        self._add(f"No job any more: {self._name} (was {before.state}, {run_of(before)})")

    def proven(self, job: Job, epoch: int | None) -> None:
        """A checkpoint of the awaited run has finished."""
        self._add(f"Checkpoint {epoch} finished: {self._name} ({run_of(job)})")

    def found_out(self, job: Job, before: Finding, finding: Finding) -> None:
        """The details for the condition were read: for the first time, or they show a change."""
        if before.seen is None and finding.seen is not None:
            level = logging.DEBUG if self._is_repeated else logging.INFO
            if finding.facts is None:
                self._add(f"{job.state}: {self._name} {finding.seen}", level)
        elif finding.news is not None:
            self._add(f"{job.state}, {finding.news}: {self._name} {finding.seen}")

    def unreadable(self, error: ArroyoError) -> None:
        """The details of the job could not be read; later failures are not logged."""
        what = self._plan.detail.capitalize()
        self._add(f"{what} cannot be read, retrying: {self._name}: {shorten(str(error))}", logging.WARNING)

    def poll_failed(self, error: ArroyoError, retry: int, retry_in: float | None, *, is_known: bool) -> None:
        """A poll failed and is retried; a WARNING each time, unless the fault is already known, or in a watch."""
        when = "" if retry_in is None else f" in {retry_in:.1f} s"
        self._add(
            f"Poll failed, retry {retry} of {POLL_RETRIES}{when}: {self._name}: {shorten(str(error))}",
            logging.DEBUG if is_known or self._is_watch else logging.WARNING,
        )

    def unreachable(self, error: ArroyoError, seconds: float, limit_seconds: float) -> None:
        """Arroyo is unreachable; polls are retried until the limit, which is shorter before the first response."""
        is_shorter = limit_seconds < self._plan.outage_tolerance.total_seconds()
        why = "Arroyo has not responded yet" if is_shorter else "api_outage_tolerance"
        limit = "" if self._is_watch else f" for up to {duration(limit_seconds)} in total ({why})"
        what = "Arroyo responds, but every poll has failed" if error.is_own_failure else "Arroyo unreachable"
        self._add(f"{what} for {duration(seconds)}, retrying{limit}: {self._name}: {error}", logging.WARNING)

    def reachable_again(self, seconds: float, error: ArroyoError | None) -> None:
        """An outage is over.

        :param seconds: how long it lasted.
        :param error: the error of the last poll.
        """
        what = "Polls succeed again" if _is_own_failure(error) else "Arroyo reachable again"
        self._add(f"{what} after {duration(seconds)}: {self._name}")

    def still(self, progress: Progress, now: float) -> None:
        """The wait continues without a change."""
        goal, job = self._goal(now), progress.job
        # A few failures that were not logged as an outage may still pass.
        if progress.is_announced and progress.outage_since is not None:
            after = duration(now - progress.outage_since)
            what = "Polls still fail" if _is_own_failure(progress.last_error) else "Arroyo still unreachable"
            self._add(f"{what} after {after}: {self._name}; {goal}", logging.WARNING)
        elif progress.missing_since is not None:
            self.missing(now, now - progress.missing_since)
        elif job is None:
            self._add(f"No job yet: {self._name}; {goal}")
        else:
            since, state, was = progress.state_since, job.state, ""
            if progress.jobless_since is not None:
                since, state, was = progress.jobless_since, "no job", "was "
            seen = f"; it {progress.finding.seen}" if progress.finding.seen else ""
            after = f"{state} after {duration(now - since)}"
            self._add(f"Still {after}: {self._name} ({was}{run_of(job)}); {goal}{seen}")


def _is_own_failure(error: ArroyoError | None) -> bool:
    return error is not None and error.is_own_failure


def run_of(job: Job) -> str:
    """Return a job's run, and whether a stop was requested: ``run 3, stop requested``."""
    asked = ", stop requested" if job.running_desired is False and not job.is_terminal else ""
    return f"{run_number(job.run_id)}{asked}"
