"""Tells whether a job waits in vain for its final checkpoint, which a stop, a restart and a rescale begin with."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job, JobState

LONG_SECONDS = 120.0
"""How long a final checkpoint may take, in seconds, before something is likely to be wrong."""

WAY_OUT = {
    JobState.RESTARTING: "A restart with force=True ends that, and continues from its last finished checkpoint.",
    JobState.RESCALING: "Stop it with mode 'immediate', then resume it from its last finished checkpoint.",
    JobState.CHECKPOINT_STOPPING: "A stop with mode 'immediate' ends that.",
}
"""What ends the wait in each state that begins with it. Arroyo itself waits for ever."""


def waits_seconds(jobs: Sequence[Job], checkpoints: Sequence[Checkpoint], now: float) -> float:
    """Return for how long nothing has been heard of the final checkpoint; 0 if none is awaited.

    :param jobs: the job, as polled several times, oldest first.
    :param checkpoints: its checkpoints, read after that.
    :param now: the server's time, seconds since the epoch.
    """
    last = max(checkpoints, key=lambda one: one.epoch, default=None)
    state = jobs[-1].state
    if last is None or state not in WAY_OUT or any(job.state != state for job in jobs):
        return 0.0
    return now - (last.finish_time_micros or last.start_time_micros) / 1e6
