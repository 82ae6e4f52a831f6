"""The proof of life: a finished checkpoint that began in the awaited run.

``Running`` proves little: a Kafka source that cannot reach its broker is ``Running`` for 30 seconds at a time, and
its first checkpoint begins but never finishes. A checkpoint finishes only after every operator has passed its
barrier.

Epochs, not clocks, tell which run a checkpoint belongs to: Arroyo renews a job's ``start_time`` only when the job is
created, resumed or restarted after a failure. Checkpoints that had finished when a run was first seen are older, and
so are those that had been written, but not committed by the sinks: after a failure, the next run commits them. Before
a first run, there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue

SETTLES_SECONDS = 0.5
"""How long a state without new checkpoints must last, in seconds, until none can follow. If all sources end,
``Finished`` follows ``Finishing`` within milliseconds, and the metadata of a checkpoint in progress is written
up to 200 ms later.
"""

WRITTEN = "WritingMetadata"
"""The last phase of a checkpoint before the sinks commit."""

_LEAST_SECONDS = 1.0
_MOST_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class ProofOfLife(JsonValue):
    """What is known about the checkpoints of one run.

    :param after_epoch: the highest epoch that had been written when the run was first seen; None if unknown.
    :param epoch: the finished checkpoint that is the proof; None without one.
    :param open_epoch: the last checkpoint, if it has not finished.
    :param is_final: whether the checkpoints were read when no more could follow.
    """

    after_epoch: int | None = None
    epoch: int | None = None
    open_epoch: int | None = None
    is_final: bool = False

    @classmethod
    def of_run(cls, job: Job) -> Self:
        """Return the initial knowledge about a run that has just begun."""
        return cls(after_epoch=0 if job.run_id <= 1 else None)

    def take(self, checkpoints: Sequence[Checkpoint], *, is_final: bool) -> bool:
        """Process the checkpoints; return whether they prove it now.

        :param checkpoints: the checkpoints as read.
        :param is_final: whether no more can follow.
        """
        finished = max((one.epoch for one in checkpoints if one.is_finished), default=0)
        last = max(checkpoints, key=lambda one: one.epoch, default=None)
        self.open_epoch = None if last is None or last.is_finished else last.epoch
        self.is_final = is_final
        if self.after_epoch is None:
            written = (one.epoch for one in checkpoints if any(span.event == WRITTEN for span in one.events))
            self.after_epoch = max((finished, *written))
        elif finished > self.after_epoch:
            self.epoch = finished
        return self.epoch is not None


def pause_seconds(waited_seconds: float) -> float:
    """Return how long to wait before the checkpoints are read again, in seconds: less and less often, so that long
    waits for rare checkpoints cost little.

    :param waited_seconds: how long the wait for them has lasted.
    """
    return min(max(waited_seconds / 10, _LEAST_SECONDS), _MOST_SECONDS)
