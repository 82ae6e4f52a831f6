"""The pipelines of a deployment as a deploy finds them, and conflicts with other deploys of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.enums import AT_WORK, TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.exceptions import ArroyoDeployError, ArroyoNotFoundError, ArroyoOwnershipError
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.pipelines.compare import compare
from airflow_provider_arroyo.pipelines.deploy_plan import Generation
from airflow_provider_arroyo.pipelines.deploy_progress import DeployOptions, DeployProgress, required
from airflow_provider_arroyo.pipelines.existing import Existing, is_down
from airflow_provider_arroyo.pipelines.owned import (
    Labelled,
    OwnedPipelines,
    from_before,
    may_belong_to,
    which_namespace_to_set,
)
from airflow_provider_arroyo.pipelines.ownership import Namespace, OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.text import shorten

DEFAULT_INTERVAL_SECONDS = 10.0
"""The checkpoint interval of a pipeline that was given none."""

FRESH_INTERVALS, FRESH_SECONDS = 3, 10.0
"""A running pipeline is healthy if its last checkpoint finished within this many intervals plus this many seconds."""

RETIRE_SECONDS = 60.0
"""How long the last step, after the proof, may take beyond the deadline, in seconds."""

_LONG_RUN_SECONDS = 60.0
"""A run that lasts longer would have finished checkpoints. Away from its Kafka broker, one ends after 30 seconds."""

_MOST_RUNS = 21
"""How many runs a job has before it is Failed, if each fails soon, by Arroyo's default of ``allowed-restarts``."""

_LISTINGS = 3
"""How often the pipelines are listed, if one is deleted in the meantime."""


class Generations:
    """Finds the pipelines of one deployment, and gives way to other deploys of it.

    :param client_until: returns a client whose requests end at a given time, in seconds since the epoch.
    :param label: of this deploy.
    :param namespace: of this Airflow.
    :param options: how to deploy.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        client_until: Callable[[float], ArroyoClient],
        label: OwnershipLabel,
        namespace: Namespace,
        options: DeployOptions,
        clock: Callable[[], float],
    ) -> None:
        self._client_until = client_until
        self._deployment = required(label.deployment)
        self._label = label
        self._namespace = namespace
        self._options = options
        self._clock = clock

    # -- what the server has -----------------------------------------------------------------------------------

    def find(self, client: ArroyoClient, spec: PipelineSpec | None = None) -> list[Generation]:
        """Return the deployment's pipelines with their jobs, the highest generation first.

        On 0.15, two deploys can create the same generation at once, and a request may come in late or be sent twice.
        Then the older pipeline is kept and the younger one deleted, except in a dry run.

        :param client: sends the requests; its log gets a line for each removed duplicate.
        :param spec: the wanted pipeline, before anything is changed: if the deployment has no pipeline, one of that
            name may be taken over; and one may stand in the way.
        :raises ArroyoOwnershipError: if a pipeline of that name, not of this deployment, stands in the way. It is
            not touched.
        """
        for _ in range(_LISTINGS):
            found, others, is_complete = self._list(client)
            if is_complete:
                break
        if spec is None:
            return found
        if not found:
            return self._among_others(client, others, spec)
        self._check_beside(client, found[0], others)
        return found

    def _list(
        self, client: ArroyoClient
    ) -> tuple[list[Generation], list[tuple[Pipeline, OwnershipLabel | None]], bool]:
        """Return the deployment's pipelines, the others of its name, and whether none was deleted meanwhile.

        A deleted one may have been replaced by another deploy, and its successor is not in the list.
        """
        mine: dict[int, list[Labelled]] = defaultdict(list)
        others: list[tuple[Pipeline, OwnershipLabel | None]] = []
        for pipeline in sorted(
            client.iter_pipelines(name=self._deployment.name), key=lambda one: one.created_at_micros
        ):
            try:
                label = OwnershipLabel.of(pipeline)
            except UnreadableLabelError as err:
                raise may_belong_to(self._deployment, pipeline, err) from err
            if label is not None and label.deployment is not None and label.deployment.name != pipeline.name:
                # On 0.15, a copy made by hand has the label of the pipeline that was copied.
                label = None
            if label is not None and label.deployment == self._deployment:
                mine[label.generation].append((pipeline, label))
            else:
                others.append((pipeline, label))
        found = []
        for number in sorted(mine, reverse=True):
            kept, label = mine[number][0]
            if not self._options.dry_run:
                OwnedPipelines(client, label).settle(mine[number])
            with suppress(ArroyoNotFoundError):
                found.append(Generation(number=number, pipeline=kept, job=client.get_job(kept.id)))
        return found, others, len(found) == len(mine)

    def _among_others(
        self,
        client: ArroyoClient,
        others: Sequence[tuple[Pipeline, OwnershipLabel | None]],
        spec: PipelineSpec,
    ) -> list[Generation]:
        """Return the pipeline to take over, if any; empty if the others do not stand in the way."""
        unowned = []
        for pipeline, label in others:
            theirs = label.deployment if label else None
            if theirs is not None and theirs.group != self._deployment.group:
                continue
            if theirs is not None and self._namespace.is_explicit:
                if self._namespace.was_before(theirs.namespace):
                    client.log.warning("%s", from_before(pipeline, "deployment", theirs.namespace))
                continue
            try:
                job = client.get_job(pipeline.id)
            except ArroyoNotFoundError:
                continue
            is_alive = job is None or job.state not in TERMINAL_STATES
            if label is None and self._options.adopt_unowned and not compare(spec, pipeline).definition:
                unowned.append((is_alive, Generation(number=0, pipeline=pipeline, job=job)))
            elif theirs is not None or is_alive:
                raise self._in_the_way(pipeline, label, job)
        alive = [one for is_alive, one in unowned if is_alive]
        if len(alive) > 1:
            raise ArroyoOwnershipError(
                f"{len(alive)} pipelines without an ownership label are named {spec.name!r} and run the wanted "
                f"SQL: {', '.join(one.pipeline.id for one in alive)}. Nothing was changed. Stop and delete all but "
                "one."
            )
        return alive or [one for _, one in unowned[-1:]]

    def _check_beside(
        self,
        client: ArroyoClient,
        current: Generation,
        others: Sequence[tuple[Pipeline, OwnershipLabel | None]],
    ) -> None:
        """Check that no pipeline without a label runs under the deployment's name: both would write.

        Pipelines of other owners may have the same name.
        """
        for pipeline in (one for one, label in others if label is None):
            with suppress(ArroyoNotFoundError):
                job = client.get_job(pipeline.id)
                if job is None or is_down(job):
                    continue
                raise ArroyoOwnershipError(
                    f"{pipeline.label} is {job.state}, and carries no ownership label; {self._deployment} has "
                    f"{current}, and both would write. Nothing was changed. Stop {pipeline.id}. If it is the wanted "
                    f"one, stop and delete {current.pipeline.id} instead, and set adopt_unowned=True, which takes "
                    "over a pipeline with the same SQL and UDFs."
                )

    def _in_the_way(
        self, pipeline: Pipeline, label: OwnershipLabel | None, job: Job | None
    ) -> ArroyoOwnershipError:
        why = f"belongs to {label.owner}" if label else "carries no ownership label"
        advice = "Stop and delete it, or choose another pipeline_name."
        if label is None and self._options.adopt_unowned:
            why += ", and its SQL or UDFs differ from the wanted ones"
        elif label is None:
            advice = (
                "adopt_unowned=True takes it over if it has the same SQL and UDFs. Otherwise stop and delete it, or "
                "choose another pipeline_name."
            )
        elif label.deployment is None:
            advice = "Stop and delete it, or choose another pipeline_name: two would do the same work."
        else:
            advice = which_namespace_to_set(label.task.namespace)
        return ArroyoOwnershipError(
            f"{pipeline.label} is {job.state if job else 'without a job'}, and {why}; this is {self._deployment}. "
            f"Nothing was changed. {advice}",
            owner=str(label.owner) if label else None,
        )

    def to_plan(self, spec: PipelineSpec, deadline: float) -> list[Generation]:
        """Return all generations; for the highest, with whether it finished checkpoints, if that matters.

        :param spec: the wanted pipeline.
        :param deadline: for the requests, seconds since the epoch.
        """
        client = self._client_until(deadline)
        found = self.find(client, spec)
        current = found[0] if found else None
        if current is None or current.job is None:
            return found
        has_restarted = current.job.state == JobState.RUNNING and current.job.run_id > 1
        if len(found) > 1 or (has_restarted and self._options.until_checkpoint):
            response = client.send(endpoints.list_checkpoints(current.pipeline.id, current.job.id))
            checkpoints, date = tuple(response.value), response.server_date
            server_time = None if date is None else date.timestamp()
            finished = [one.finish_time_micros for one in checkpoints if one.finish_time_micros is not None]
            is_fresh = None
            if has_restarted and server_time is not None:
                # A pipeline that keeps restarting is Running in between, but its checkpoints never finish.
                age = server_time - max(finished, default=0) / 1e6
                is_fresh = age <= FRESH_INTERVALS * interval_seconds(current.pipeline) + FRESH_SECONDS
            has_checkpoint = bool(finished) or (
                may_have_unlisted_checkpoints(current.pipeline, current.job, checkpoints, server_time)
                and not any(_lists_after_its_end(client, one) for one in found[1:])
            )
            found[0] = replace(current, has_checkpoint=has_checkpoint, is_fresh=is_fresh)
        return found

    # -- other deploys of the same deployment ------------------------------------------------------------------

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
        return label.task == self._label.task and label.try_number <= self._label.try_number

    def give_way(self, progress: DeployProgress, number: int, pipeline: PipelineRef) -> None:
        """Check that no other deploy has come first; a pipeline that this one started is stopped then.

        Repeated for as long as a create may still come in late. A duplicate is removed, and so is a late create of a
        deploy that is rolled back.

        :param progress: the progress of this deploy.
        :param number, pipeline: the generation that is to stay, and its pipeline.
        :raises ArroyoDeployError: if another deploy has created a higher generation, or this one first.
        """
        # A late create may come in after the deadline.
        client = self._client_until(max(progress.deadline, self._clock() + RETIRE_SECONDS))
        existing = Existing(client)

        is_rollback = progress.failure is not None

        def check() -> None:
            for one in self.find(client):
                if one.number < number + is_rollback or one.pipeline.id == pipeline.pipeline_id:
                    continue
                if is_rollback and self.is_mine(one, progress):
                    existing.remove(one.pipeline.id)
                    continue
                if progress.starts and one.number > number:
                    existing.stop(pipeline.pipeline_id)
                raise self.lost(str(one))

        late_until = progress.late_until or 0.0
        existing.retry_until(check, max(0.0, late_until - self._clock()))

    def lost(self, what: str, more: str = "") -> ArroyoDeployError:
        """Return the error of a deploy that lost to another one.

        :param what: what the other one has created, in words.
        :param more: further text; default empty.
        """
        return ArroyoDeployError(
            f"Another deploy of {shorten(self._deployment.name, 80)!r} has created {what} in the meantime. This "
            f"deploy does not touch it and changes nothing more.{more} A retry of this task makes a new plan.",
            is_lost_race=True,
        )


def may_have_unlisted_checkpoints(
    pipeline: Pipeline, job: Job, checkpoints: Sequence[Checkpoint], server_time: float | None
) -> bool:
    """Return whether a pipeline may have finished checkpoints although none is listed.

    With job-controller = "worker" (0.16), those of a run are listed only while it lasts. Other servers list all, but
    nothing tells which one it is. What fails soon, again and again, has none.

    :param pipeline: the pipeline.
    :param job: its job.
    :param checkpoints: those that are listed, none of them finished.
    :param server_time: when they were read, by the server's clock, seconds since the epoch; None if unknown.
    """
    if job.run_id == 0 or job.is_from_0_15:
        return False
    if checkpoints:
        # The epochs continue from run to run.
        return min(one.epoch for one in checkpoints) > 1
    if job.state in AT_WORK and job.run_id == 1:
        return False
    created, ended = job.created_at_micros / 1e6, (job.finish_time_micros or 0) / 1e6 or server_time
    if job.state == JobState.STOPPED:
        # Stopped before its first checkpoint was due, it has at most the state of a few seconds.
        return ended is None or ended - created > min(interval_seconds(pipeline), _LONG_RUN_SECONDS)
    began = (job.start_time_micros or job.created_at_micros) / 1e6
    since = began
    if job.state not in (JobState.FAILING, JobState.FAILED):
        # One that runs may have been resumed just now.
        since, ended = created, server_time
    if ended is None:
        return True
    # After a resume, or a restart of a failed one, it is unknown how many of the runs came before.
    runs = min(job.run_id, _MOST_RUNS) if began - created > _LONG_RUN_SECONDS else job.run_id
    return ended - since > runs * max(interval_seconds(pipeline), _LONG_RUN_SECONDS)


def _lists_after_its_end(client: ArroyoClient, one: Generation) -> bool:
    """Return whether Arroyo lists checkpoints of a pipeline that is down; then it lists all of every pipeline."""
    if one.job is None or not one.is_down:
        return False
    return any(True for _ in client.list_checkpoints(one.pipeline.id, one.job.id))


def interval_seconds(pipeline: Pipeline) -> float:
    """Return the checkpoint interval of a pipeline, in seconds."""
    micros = pipeline.checkpoint_interval_micros
    return DEFAULT_INTERVAL_SECONDS if micros is None else micros / 1e6
