"""The generations of a deployment as a deploy finds them, and conflicts with other deploys of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import JobState, Pipeline
from airflow_provider_arroyo.exceptions import ArroyoDeployError
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.pipelines.deploy_plan import Generation
from airflow_provider_arroyo.pipelines.deploy_progress import DeployProgress
from airflow_provider_arroyo.pipelines.deployed import Deployed
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.text import shorten

DEFAULT_INTERVAL_SECONDS = 10.0
"""The checkpoint interval of a pipeline that was given none."""

FRESH_INTERVALS, FRESH_SECONDS = 3, 10.0
"""A running pipeline is healthy if its last checkpoint finished within this many intervals plus this many seconds."""

RETIRE_SECONDS = 60.0
"""How long the last step, after the proof, may take beyond the deadline, in seconds."""


class Generations:
    """Finds the generations of a deployment, and gives way to other deploys of it.

    :param client_until: returns a client whose requests end at a given time, in seconds since the epoch.
    :param deployed: finds the deployment's pipelines.
    :param label: of this deploy.
    :param until_checkpoint: whether a running pipeline is healthy only with recent checkpoints.
    :param clock: seconds since the epoch.
    :param sleep, monotonic: wait for and measure seconds.
    """

    def __init__(
        self,
        client_until: Callable[[float], ArroyoClient],
        deployed: Deployed,
        label: OwnershipLabel,
        *,
        until_checkpoint: bool,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client_until = client_until
        self._deployed = deployed
        self._label = label
        self._until_checkpoint = until_checkpoint
        self._clock = clock
        self._sleep = sleep
        self._monotonic = monotonic

    def existing(self, client: ArroyoClient) -> Existing:
        """Return an :class:`.Existing` for the client."""
        return Existing(client, sleep=self._sleep, monotonic=self._monotonic)

    def all(self, client: ArroyoClient) -> list[Generation]:
        """Return all generations, the highest first."""
        return self._deployed.find(client, self.existing(client))

    def to_plan(self, spec: PipelineSpec, deadline: float) -> list[Generation]:
        """Return all generations; for the highest, with whether it finished checkpoints, if that matters.

        :param spec: the wanted pipeline.
        :param deadline: for the requests, seconds since the epoch.
        """
        client = self._client_until(deadline)
        found = self._deployed.find(client, self.existing(client), spec)
        current = found[0] if found else None
        if current is None or current.job is None:
            return found
        has_restarted = current.job.state == JobState.RUNNING and current.job.run_id > 1
        if len(found) > 1 or (has_restarted and self._until_checkpoint):
            response = client.send(endpoints.list_checkpoints(current.pipeline.id, current.job.id))
            finished = [
                one.finish_time_micros for one in response.value if one.finish_time_micros is not None
            ]
            is_fresh = None
            if has_restarted and response.server_date is not None:
                # A pipeline that keeps restarting is Running in between, but its checkpoints never finish.
                age = response.server_date.timestamp() - max(finished, default=0) / 1e6
                is_fresh = age <= FRESH_INTERVALS * interval_seconds(current.pipeline) + FRESH_SECONDS
            found[0] = replace(current, has_checkpoint=bool(finished), is_fresh=is_fresh)
        return found

    def is_mine(self, one: Generation, progress: DeployProgress) -> bool:
        """Return whether a pipeline is the deployed one, or this deploy or an earlier try of it created it.

        Its id does not tell: once this deploy has deleted its own, another deploy may create the same generation
        again.
        """
        label = OwnershipLabel.of(one.pipeline)
        if label is None:
            return False
        if label.request_id and label.request_id == progress.request_id:
            return True
        # A failed create may still have taken effect, and one of an earlier try may come in late.
        if label.task != self._label.task:
            return False
        return label.try_number <= self._label.try_number

    def check_newest(self, progress: DeployProgress) -> None:
        """Check that no other deploy has created a higher generation.

        :raises ArroyoDeployError: if one has.
        """
        for one in self.all(self._client_until(self._clock() + RETIRE_SECONDS)):
            if one.number > progress.generation:
                raise self.lost(str(one))

    def give_way(self, progress: DeployProgress, number: int, pipeline: PipelineRef) -> None:
        """Stop what was created or resumed, if another deploy has created a higher generation meanwhile.

        A late create of this deploy is removed instead.

        :param progress: the progress of this deploy.
        :param number, pipeline: the generation that was created or resumed.
        :raises ArroyoDeployError: if another deploy has.
        """
        # A late create may come in after the deadline.
        client = self._client_until(max(progress.deadline, self._clock() + RETIRE_SECONDS))
        existing = self.existing(client)

        def check() -> None:
            for one in self.all(client):
                if one.number <= number:
                    continue
                if progress.failure is not None and self.is_mine(one, progress):
                    existing.remove(one.pipeline.id)
                else:
                    existing.stop(pipeline.pipeline_id)
                    raise self.lost(str(one))

        existing.retry_until(check, self._late_seconds(progress))

    def remove_late(self, progress: DeployProgress, pipeline: PipelineRef) -> None:
        """Remove duplicates of the new pipeline, from a create that came in late or was sent twice.

        :param progress: the progress of this deploy.
        :param pipeline: the new pipeline.
        :raises ArroyoDeployError: if another one is older, so that this one was removed.
        """
        client = self._client_until(self._clock() + RETIRE_SECONDS)

        def check() -> None:
            for one in self.all(client):
                if one.number == progress.generation and one.pipeline.id != pipeline.pipeline_id:
                    raise self.lost(str(one))

        self.existing(client).retry_until(check, self._late_seconds(progress))

    def lost(self, what: str, more: str = "") -> ArroyoDeployError:
        """Return the error of a deploy that lost to another one.

        :param what: what the other one has created, in words.
        :param more: further text; default empty.
        """
        name = shorten(self._label.deployment.name if self._label.deployment else "", 80)
        return ArroyoDeployError(
            f"Another deploy of {name!r} has created {what} in the meantime. This deploy does not touch it and "
            f"changes nothing more.{more} A retry of this task makes a new plan.",
            is_lost_race=True,
        )

    def _late_seconds(self, progress: DeployProgress) -> float:
        return 0.0 if progress.late_until is None else max(0.0, progress.late_until - self._clock())


def interval_seconds(pipeline: Pipeline) -> float:
    """Return the checkpoint interval of a pipeline, in seconds."""
    micros = pipeline.checkpoint_interval_micros
    return DEFAULT_INTERVAL_SECONDS if micros is None else micros / 1e6
