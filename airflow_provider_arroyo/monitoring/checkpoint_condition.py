"""The condition of a wait for a checkpoint: which checkpoint is enough.

A finished checkpoint covers everything that its sources had read when it began. Its times are Arroyo's. Its age is
measured in whole seconds by the server's clock, as the responses report it; otherwise by the waiter's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, CheckpointType, JobState
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.exceptions import ArroyoUnsupportedError
from airflow_provider_arroyo.monitoring.checkpoints import highest_epoch
from airflow_provider_arroyo.monitoring.condition import Condition, Detail, Finding, Reading
from airflow_provider_arroyo.text import duration, shorten, utc_time

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import Checkpoint
    from airflow_provider_arroyo.client.models import Job

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
    # Arroyo takes no checkpoints once one of several sources has ended.
    ended_in: ClassVar[frozenset[str]] = TERMINAL_STATES | {JobState.FAILING, JobState.FINISHING}

    @property
    def goal(self) -> str:
        """The goal, in words."""
        kind = f"{self.checkpoint_type} " if self.checkpoint_type else ""
        what = f"a finished {kind}checkpoint"
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
