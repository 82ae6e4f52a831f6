"""How long a pipeline that should take checkpoints has finished none, determined by the checkpoint numbers.

The server's times only make this more precise, within the bounds known without them: a wrong clock causes no event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, JobState

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.details import Checkpoint

_TAKES_NONE = TERMINAL_STATES | {JobState.FAILING, JobState.FINISHING}

_READS_PER_AGE = 10
_LEAST_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class CheckpointAge:
    """The age of a pipeline's last checkpoint. Times are seconds since the epoch, by the watcher's clock.

    :param max_age_seconds: the maximum age.
    :param job_id: the job; None before one was seen.
    :param epoch: the last finished checkpoint, 0 for none; None before the first reading.
    :param finished_at_micros: when it finished, by the server's clock.
    :param since: since when none has finished; None if none is expected.
    :param read_at, tried_at: when the checkpoints were last read, and when the last try to read them began.
    :param may_be_older: whether the checkpoints may have stopped before the watch began.
    """

    max_age_seconds: float
    job_id: str | None = None
    epoch: int | None = None
    finished_at_micros: int | None = None
    since: float | None = None
    read_at: float | None = None
    tried_at: float | None = None
    may_be_older: bool = False

    @property
    def step_seconds(self) -> float:
        """Time between two readings."""
        return max(_LEAST_SECONDS, self.max_age_seconds / _READS_PER_AGE)

    def follow(self, job: Job, now: float) -> None:
        """Record the current job; a job that is stopping or has ended takes no checkpoints."""
        is_first = job.id != self.job_id
        if is_first:
            self.job_id, self.epoch, self.since = job.id, None, None
        if job.state in _TAKES_NONE or job.running_desired is False:
            self.since = None
        elif self.since is None:
            # A job that starts again shows when it ended, and no new start, until it runs.
            is_starting = job.finish_time_micros is not None
            self.since, self.read_at, self.tried_at = now, None, None
            self.may_be_older = is_first and not is_starting

    def due(self) -> float | None:
        """Return when the checkpoints must be read; None if none are expected."""
        if self.since is None:
            return None
        if self.tried_at is None:
            return self.since + self.step_seconds
        ends = self.since + self.max_age_seconds
        following = self.tried_at + self.step_seconds
        return min(following, ends) if ends > self.tried_at else following

    def take(
        self, job: Job, checkpoints: Sequence[Checkpoint], now: float, server_time: float | None
    ) -> bool:
        """Process the checkpoints, and return whether the last one is too old.

        :param job: the job.
        :param checkpoints: its checkpoints.
        :param now: when they were received, by the watcher's clock.
        :param server_time: when they were read, by the server's clock; None if unknown.
        """
        self.tried_at = now
        if self.since is None:
            return False
        last = max((one for one in checkpoints if one.is_finished), key=lambda one: one.epoch, default=None)
        epoch = 0 if last is None else last.epoch
        finished = None if last is None else last.finish_time_micros
        # Without the server's time, it is only known that the checkpoint finished since the last reading.
        age = 0.0 if server_time is None else server_time - (finished or 0) / 1e6
        if self.read_at is None and self.may_be_older:
            began = max(finished or 0, job.start_time_micros or 0, job.created_at_micros) / 1e6
            # One more reading confirms it, however wrong the clocks are.
            older = min((now if server_time is None else server_time) - began, self.max_age_seconds)
            self.since = min(self.since, now - max(0.0, older - self.step_seconds))
        elif finished is not None and (self.read_at is None or epoch != self.epoch):
            earliest = self.since if self.read_at is None else self.read_at
            self.since = now - min(max(0.0, age), max(0.0, now - earliest))
        self.epoch, self.finished_at_micros, self.read_at, self.may_be_older = epoch, finished, now, False
        return now - self.since >= self.max_age_seconds
