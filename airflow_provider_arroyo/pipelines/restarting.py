"""Frees a restart in which Arroyo is stuck.

A restart begins with a final checkpoint. If another checkpoint is in progress at that moment, Arroyo never begins the
final one (the sources of 0.15 and 0.16 say so): the pipeline stays in ``Restarting``, where it still processes data
but takes no more checkpoints. Only a forced restart or a stop ends that. The forced restart continues from the
checkpoint that was in progress, which has finished by then.
"""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import CheckpointType, JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.pipelines.stopping import for_checkpoints

_STUCK_SECONDS = 10.0
"""How long ``Restarting`` may last without a checkpoint in progress, in seconds: tasks end soon after the last."""


class StuckRestart:
    """Notices that Arroyo is stuck in ``Restarting``, and forces the restart.

    :param client: sends the requests; its log gets a warning when a restart is forced.
    :param pipeline_id: id of the pipeline.
    """

    def __init__(self, client: ArroyoClient, pipeline_id: str) -> None:
        self._client = client
        self._pipeline_id = pipeline_id
        self._idle_since: float | None = None
        self._idle_after: tuple[str, int, int] | None = None
        """The job, the run and the last checkpoint since which none is in progress."""
        self._is_forced = False

    def poll(self, job: Job) -> bool:
        """Process a poll; force the restart if it is certain that Arroyo is stuck.

        :param job: the job now.
        :returns: whether more polls are needed to tell.
        """
        if job.state != JobState.RESTARTING or not job.running_desired or self._is_forced:
            self._idle_since = None
            return False
        with suppress(ArroyoError):
            checkpoints = for_checkpoints(self._client).list_checkpoints(self._pipeline_id, job.id)
            last = max(checkpoints, key=lambda one: one.epoch, default=None)
            if last is not None and last.checkpoint_type == CheckpointType.STOPPING:
                return False  # the final one; 0.15 does not tell the type
            if last is None or not last.is_finished:
                self._idle_since = None
                return True
            after = (job.id, job.run_id, last.epoch)
            if self._idle_since is None or after != self._idle_after:
                # After an outage, it may be another restart.
                self._idle_since, self._idle_after = self._client.clock(), after
            elif self._client.clock() - self._idle_since >= _STUCK_SECONDS:
                self._force(job)
        return not self._is_forced

    def _force(self, job: Job) -> None:
        # If the response is lost, it may have taken effect.
        self._idle_since = None
        self._client.restart_pipeline(self._pipeline_id, force=True)
        self._is_forced = True
        self._client.log.warning(
            "%s, and no checkpoint is in progress: Arroyo is stuck, since one was in progress when the restart was "
            "requested. The restart is forced, and continues from that checkpoint: %s (run %s)",
            job.state,
            self._pipeline_id,
            job.run_id,
        )
