"""Conditions of a wait other than a state: what they have in common, and the one for a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from airflow_provider_arroyo.client.enums import CheckpointType, JobState
from airflow_provider_arroyo.client.wire import JsonValue, from_json
from airflow_provider_arroyo.exceptions import ArroyoUnsupportedError
from airflow_provider_arroyo.monitoring.checkpoints import TAKES_NONE, highest_epoch
from airflow_provider_arroyo.text import duration, shorten, utc_time

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import Checkpoint
    from airflow_provider_arroyo.client.models import Job

T = TypeVar("T")


class Detail(StrEnum):
    """What is read about a job besides its state, as messages name it."""

    CHECKPOINTS = "checkpoints"
    METRICS = "metrics"


class Reading(NamedTuple):
    """Details of a job, as read once.

    :param value: as the client returns it, or as the condition converts it.
    :param server_time: when it was read, by the server's clock, seconds since the epoch; None if unknown.
    """

    value: Any
    server_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(JsonValue):
    """What a wait knows about its condition.

    :param facts: what is added to the task's result, JSON values; None until the condition is true.
    :param seen: what was last read, in words that follow "It" or a pipeline's name; None before the first reading.
    :param news: what has changed, for the log; None if nothing has.
    :param memory: what the condition remembers between readings, JSON values.
    :param is_unsettled: whether the condition seems true by this reading, so that the next one may prove it.
    """

    facts: Mapping[str, Any] | None = None
    seen: str | None = None
    news: str | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    is_unsettled: bool = False

    def recall(self, kind: type[T]) -> T | None:
        """Return the memory as a dataclass; None if there is none, or another version wrote it."""
        try:
            return from_json(kind, self.memory)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(JsonValue, ABC):
    """The base class of the conditions. They are frozen, and cross processes as JSON in a :class:`.WaitPlan`."""

    detail: ClassVar[Detail]
    """Which details are read for it."""
    ended_in: ClassVar[frozenset[str]]
    """The states in which it can no longer become true, unless a request changes the state."""
    read_in: ClassVar[frozenset[str] | None] = None
    """The states in which the details can be read; None: any, and once more after the pipeline has ended."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """The goal, in words that follow "waiting for" or "the goal was"."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to check if it does not become true in time: a sentence without its full stop."""

    def is_read_in(self, job: Job) -> bool:
        """Return whether the details can be read in the job's state."""
        return self.read_in is None or job.state in self.read_in

    def has_ended(self, job: Job) -> bool:
        """Return whether the condition can no longer become true, unless a request changes the job's state."""
        is_resuming = job.state == JobState.STOPPED and bool(job.running_desired)
        return job.state in self.ended_in and not is_resuming

    @abstractmethod
    def check(self, before: Finding, job: Job, reading: Reading, now: float) -> Finding:
        """Return the finding after a reading.

        :param before: the finding before it.
        :param job: the job when the reading was requested.
        :param reading: what was read.
        :param now: when it was received, seconds since the epoch by the waiter's clock.
        :raises ArroyoError: if the condition can never become true on this server or pipeline; ends the wait.
        """


_DATE_SECONDS = 1.0
"""By how much the server's clock may be ahead of the time in its responses, which have whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count(JsonValue):
    """How many checkpoints have finished since the wait began. Arroyo drops old ones from its list.

    :param job_id: the job.
    :param epoch: checkpoints up to this epoch are counted, or existed before.
    :param new: how many qualifying checkpoints have finished since the wait began.
    """

    job_id: str
    epoch: int
    new: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCondition(Condition):
    """The conditions that a finished checkpoint must meet.

    A finished checkpoint covers everything that its sources had read when it began. Its times are Arroyo's. Its age
    is measured in whole seconds by the server's clock, as the responses report it; otherwise by the waiter's clock.

    :param max_age: how long ago it may have finished at most; then none counts once the pipeline has failed. Default
        None, any time.
    :param began_after_micros: when it must have begun at the earliest, microseconds since the epoch; default None.
    :param min_epoch: its epoch at least, default None.
    :param checkpoint_type: its type (Arroyo 0.16), default None, any.
    :param new_checkpoints: how many such checkpoints must finish during the wait, default 0: an existing one is
        enough.
    :param counts_since: when the wait began, seconds since the epoch by the waiter's clock, if that was in another
        process that left no memory; default None.
    """

    max_age: timedelta | None = None
    began_after_micros: int | None = None
    min_epoch: int | None = None
    checkpoint_type: CheckpointType | None = None
    new_checkpoints: int = 0
    counts_since: float | None = None

    detail: ClassVar[Detail] = Detail.CHECKPOINTS
    ended_in: ClassVar[frozenset[str]] = TAKES_NONE

    @property
    def goal(self) -> str:
        """The goal, in words."""
        kind = f"{self.checkpoint_type} " if self.checkpoint_type else ""
        what = f"a {kind}checkpoint" if self.max_age is not None else f"a finished {kind}checkpoint"
        if self.new_checkpoints:
            s = "s" if self.new_checkpoints > 1 else ""
            what = f"{self.new_checkpoints} new {kind}checkpoint{s}"
        limits = []
        if self.min_epoch is not None:
            limits.append(f"of epoch {self.min_epoch} or later")
        if self.began_after_micros is not None:
            limits.append(f"begun after {_time(self.began_after_micros)}")
        if self.max_age is not None:
            limits.append(f"finished within the last {duration(self.max_age.total_seconds())}")
        return " ".join((what, ", ".join(limits))).rstrip()

    @property
    def advice(self) -> str:
        """What to check if none finishes in time."""
        return "Check its sources and sinks, and its checkpoint interval"

    def check(self, before: Finding, job: Job, reading: Reading, now: float) -> Finding:
        """Return the finding after the checkpoints were read, see :meth:`.Condition.check`."""
        finished = sorted((one for one in reading.value if one.is_finished), key=lambda one: one.epoch)
        if self.checkpoint_type and job.is_from_0_15:
            raise ArroyoUnsupportedError.of(["checkpoint_type"])
        server_now = now if reading.server_time is None else reading.server_time
        qualified = [one for one in finished if self._qualifies(one, server_now)]
        # When the wait began, by the server's clock.
        since = None if self.counts_since is None else server_now - (now - self.counts_since)
        count = self._count(before, job, finished, qualified, since)
        # An age is asked for to know whether data flows, and there it does not.
        has_failed = self.max_age is not None and job.state in (JobState.FAILING, JobState.FAILED)
        is_enough = qualified and count.new >= self.new_checkpoints and not has_failed
        found = qualified[-1] if is_enough else None
        return Finding(
            facts=None if found is None else {"checkpoint": _facts(found)},
            seen=self._seen(finished, count, server_now),
            memory=count.to_dict(),
        )

    def _qualifies(self, checkpoint: Checkpoint, server_now: float) -> bool:
        age_seconds = server_now - _finished_at(checkpoint)
        return (
            self.checkpoint_type in (None, checkpoint.checkpoint_type)
            and checkpoint.epoch >= (self.min_epoch or 0)
            and checkpoint.start_time_micros >= (self.began_after_micros or 0)
            and (self.max_age is None or age_seconds <= self.max_age.total_seconds())
        )

    def _count(
        self,
        before: Finding,
        job: Job,
        finished: Sequence[Checkpoint],
        qualified: Sequence[Checkpoint],
        since: float | None,
    ) -> _Count:
        if (known := before.recall(_Count)) is None:
            old = finished
            if since is not None:
                old = [one for one in finished if _finished_at(one) <= since + _DATE_SECONDS]
            known = _Count(job_id=job.id, epoch=highest_epoch(old))
        elif known.job_id != job.id:
            # Epochs start again with a job that replaced the other one.
            known = _Count(job_id=job.id, epoch=0, new=known.new)
        new = len({one.epoch for one in qualified if one.epoch > known.epoch})
        return _Count(job_id=job.id, epoch=max(known.epoch, highest_epoch(finished)), new=known.new + new)

    def _seen(self, finished: Sequence[Checkpoint], count: _Count, server_now: float) -> str:
        if not finished:
            return "has no finished checkpoint"
        last = finished[-1]
        kind = f"{shorten(last.checkpoint_type, 20)}, " if last.checkpoint_type else ""
        ago = duration(server_now - _finished_at(last))
        seen = f"finished its last checkpoint, {last.epoch}, {ago} ago ({kind}begun {_time(last.start_time_micros)})"
        return f"{seen}, {count.new} of {self.new_checkpoints} new" if self.new_checkpoints else seen


def _facts(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "epoch": checkpoint.epoch,
        "type": checkpoint.checkpoint_type,
        "start_time_micros": checkpoint.start_time_micros,
        "finish_time_micros": checkpoint.finish_time_micros,
    }


def _finished_at(checkpoint: Checkpoint) -> float:
    return (checkpoint.finish_time_micros or 0) / 1e6


def _time(micros: int) -> str:
    return utc_time(micros / 1e6)
