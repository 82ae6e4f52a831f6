"""Submits a pipeline once: however often it is tried, and wherever a try was interrupted, there is one pipeline.

A POST whose response is lost may have created the pipeline, and a worker can die before it stores the id. So the
pipeline itself has an ownership label (``ownership.py``), and every try first looks for its own pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoOwnershipError
from airflow_provider_arroyo.pipelines.choices import Action, OnExisting
from airflow_provider_arroyo.pipelines.compare import Difference, compare
from airflow_provider_arroyo.pipelines.create import PipelineCreator, Submitted, naming
from airflow_provider_arroyo.pipelines.existing import is_down
from airflow_provider_arroyo.pipelines.ownership import Namespace, OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.tags import check_tags
from airflow_provider_arroyo.text import shorten

_NEWEST = 100
"""How many of the newest pipelines are searched for one that is being created."""


class Submission(PipelineCreator):
    """One submit, which any try of its task can run.

    Has the parameters of :class:`.PipelineCreator`, and:

    :param namespace: the owner's namespace.
    :param on_existing: what to do with a pipeline that an earlier try created, default adopt.
    :raises ValueError: if the user's tags collide with ours.
    """

    def __init__(
        self,
        client: ArroyoClient,
        spec: PipelineSpec,
        label: OwnershipLabel,
        *,
        namespace: Namespace,
        users_id: str | None = None,
        on_existing: OnExisting = OnExisting.ADOPT,
    ) -> None:
        check_tags(spec.tags)
        super().__init__(client, spec, label, users_id=users_id)
        self._namespace = namespace
        self._on_existing = on_existing
        self.is_pending = True
        """Whether :meth:`run` may still create the pipeline: even after an alarm interrupted it, since a request that
        was sent still takes effect.
        """
        self.has_created = False
        """Whether :meth:`run` ended with a pipeline that a request of this try created."""
        self.adopted: Pipeline | None = None
        """The pipeline of an earlier try, once it was found; None if one must be created."""

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that is known to exist although :meth:`run` failed; None if none is known."""
        return self.created or self.adopted

    def run(self) -> Submitted:
        """Find the pipeline or create it, and make sure that it is asked to run.

        :raises ArroyoOwnershipError: if the id belongs to another owner, if a label that may be ours cannot be read,
            or if ``on_existing`` or the running pipeline forbids continuing.
        :raises ArroyoUnsupportedError: if the server is too old for the wanted pipeline.
        :raises ArroyoQueryError: if Arroyo refuses the SQL.
        """
        try:
            submitted = self._run()
        except ArroyoError as err:
            self.is_pending = False
            if self.pipeline is None:
                raise
            raise naming(err, self.pipeline) from err.__cause__
        self.has_created = submitted.action in (Action.CREATED, Action.REPLACED)
        self.is_pending = False
        return submitted

    def _run(self) -> Submitted:
        if self._label.try_number > 1:
            # On any server: the earlier try may have used another id, or a server without PUT.
            if (found := self.owned.find_one()) is not None:
                return self._take(found)
            self.owned.check_other_namespaces(self._namespace)
        created = self.create(finds_first=True)
        return created if created.action is Action.CREATED else self._take(created.pipeline)

    def find_created(self, client: ArroyoClient) -> Pipeline | None:
        """Return the pipeline that a request of this submit created; None if there is none yet.

        Safe to call while :meth:`run` is running, or after it was interrupted.

        :param client: sends the request instead of the submit's own client.
        """
        for pipeline in client.list_pipelines(limit=_NEWEST):
            with suppress(UnreadableLabelError):
                label = OwnershipLabel.of(pipeline)
                if label is not None and label.request_id in self.request_ids:
                    return pipeline
        return None

    # -- an existing pipeline ----------------------------------------------------------------------------------

    def _take(self, pipeline: Pipeline) -> Submitted:
        self.adopted = pipeline
        job = self._client.get_job(pipeline.id)
        state = job.state if job else "without a job"
        if self._on_existing is OnExisting.FAIL:
            raise ArroyoOwnershipError(
                f"{pipeline.label} was created by an earlier try of this "
                f"task and is {state}. It was not touched, because of on_existing='fail'. Delete it, or use "
                "on_existing='adopt' or 'replace'.",
                owner=str(self._label.owner),
            )
        if job is not None and job.is_from_0_15:
            # Check this before a replace deletes anything.
            self.check_old_server()
        if self._on_existing is OnExisting.REPLACE:
            return self._replace(pipeline)
        differences = compare(self._spec, pipeline).definition
        if self._users_id not in (None, pipeline.id):
            wanted = Difference(argument="pipeline_id", found=pipeline.id, wanted=self._users_id)
            differences = (wanted, *differences)
        if differences:
            return self._replace_if_down(pipeline, job, differences)
        action, before = self._adopt(pipeline, job)
        self._client.log.info("%s, created by an earlier try: %s", state, shorten(pipeline.name, 80))
        return Submitted(pipeline=pipeline, action=action, before=before)

    def _adopt(self, pipeline: Pipeline, job: Job | None) -> tuple[Action, Job | None]:
        comparison = compare(self._spec, pipeline, job)
        action, before = self._existing.adopt(pipeline.id, job, patch=comparison.patch)
        is_applied = job is not None and job.state != JobState.FINISHED
        for difference in (*comparison.settings, *comparison.labels):
            is_changed = is_applied and difference in comparison.settings
            what = "changed" if is_changed else "not changed; on_existing='replace' would"
            self._client.log.warning(
                "%s of an earlier try: %s", shorten(pipeline.name, 80), f"{difference} ({what})"
            )
        return Action.ADOPTED if action is Action.UPDATED else action, before

    def _replace_if_down(
        self, pipeline: Pipeline, job: Job | None, differences: Sequence[Difference]
    ) -> Submitted:
        listed = "\n".join(str(one) for one in differences)
        job = self._existing.wait_while_going_down(pipeline.id, job)
        if job is None or is_down(job):
            self._client.log.warning(
                "Pipeline %s of an earlier try (id %s) is %s and differs from what is wanted now:\n%s",
                shorten(pipeline.name, 80),
                pipeline.id,
                job.state if job else "without a job",
                listed,
            )
            return self._replace(pipeline, may_stop=False)
        raise ArroyoOwnershipError(
            f"{pipeline.label}, which an earlier try of this task created, is "
            f"{job.state}; this try wants a different one instead, {shorten(self._spec.name, 80)!r}. Differences, "
            f"from that pipeline to this try:\n{listed}\nIt was not touched, and nothing was created. Use "
            "on_existing='replace' to replace it (its state is lost), or stop it and clear this task, or undo the "
            "change. The usual cause is an edited file, a Variable, or {{ ti.try_number }} in a template.",
            owner=str(self._label.owner),
        )

    def _replace(self, pipeline: Pipeline, *, may_stop: bool = True) -> Submitted:
        self.check_before_delete(pipeline.id)
        self._client.log.warning(
            "Replacing pipeline %s of an earlier try (id %s); its state is lost",
            shorten(pipeline.name, 80),
            pipeline.id,
        )
        self._existing.remove(pipeline.id, may_stop=may_stop)
        self.adopted = None
        created = self.create()
        if created.action is Action.CREATED:
            return replace(created, action=Action.REPLACED)
        raise ArroyoError(f"Pipeline {pipeline.id!r} was deleted and exists again: another try is running.")
