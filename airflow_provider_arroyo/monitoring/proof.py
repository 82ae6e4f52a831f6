"""The proof of life: a finished checkpoint that began in the run that is waited for.

``Running`` proves little: a Kafka source whose broker is away is ``Running`` for 30 seconds at a time, and its first
checkpoint begins and never finishes. A checkpoint finishes only after every operator has passed its barrier.

Epochs tell which run a checkpoint belongs to, no clock does: Arroyo renews a job's ``start_time`` only when it is
created or resumed. What was finished when a run was first seen came before it; a first run has no before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue

SETTLES_SECONDS = 0.5
"""How long a state in which no checkpoint begins must last before it is sure that none comes: where all sources end,
``Finished`` follows ``Finishing`` within milliseconds, and a checkpoint that was under way has its metadata written
up to 200 ms later."""

_LEAST_SECONDS = 1.0
_MOST_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class ProofOfLife(JsonValue):
    """What is known of the checkpoints of one run.

    :param after_epoch: the highest epoch that was finished when the run was first seen; None while that is not known.
    :param epoch: the finished checkpoint that proves it; None without one.
    :param open_epoch: the last checkpoint, if it has not finished.
    :param is_final: whether they were read when none could come any more.
    """

    after_epoch: int | None = None
    epoch: int | None = None
    open_epoch: int | None = None
    is_final: bool = False

    @classmethod
    def of_run(cls, job: Job) -> Self:
        """Return what is known of a run that was just seen to begin."""
        return cls(after_epoch=0 if job.run_id <= 1 else None)

    def take(self, checkpoints: Sequence[Checkpoint], *, is_final: bool) -> bool:
        """Take the checkpoints as they were read; return whether they prove it now.

        :param is_final: whether none can come any more.
        """
        finished = max((one.epoch for one in checkpoints if one.is_finished), default=0)
        last = max(checkpoints, key=lambda one: one.epoch, default=None)
        self.open_epoch = None if last is None or last.is_finished else last.epoch
        self.is_final = is_final
        if self.after_epoch is None:
            self.after_epoch = finished
        elif finished > self.after_epoch:
            self.epoch = finished
        return self.epoch is not None


def pause_seconds(waited_seconds: float) -> float:
    """Return how long to wait before the checkpoints are read again: less and less often, so that long waits for
    rare checkpoints cost little.

    :param waited_seconds: how long they have been waited for.
    """
    return min(max(waited_seconds / 10, _LEAST_SECONDS), _MOST_SECONDS)
