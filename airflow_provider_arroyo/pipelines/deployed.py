"""Finds the pipelines of a deployment on the server, and tells them apart from others of the same name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, Pipeline
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError, ArroyoOwnershipError
from airflow_provider_arroyo.pipelines.compare import compare
from airflow_provider_arroyo.pipelines.deploy_plan import Generation
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.owned import OwnedPipelines, from_before, which_namespace_to_set
from airflow_provider_arroyo.pipelines.ownership import (
    Deployment,
    Namespace,
    OwnershipLabel,
    UnreadableLabelError,
)
from airflow_provider_arroyo.pipelines.spec import PipelineSpec

_LISTINGS = 3
"""How often the pipelines are listed, if one is deleted in the meantime."""

UNOWNED = 0
"""The number of a pipeline without a label that a deployment took over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    pipeline: Pipeline
    label: OwnershipLabel | None


class Deployed:
    """Finds the pipelines of one deployment.

    :param deployment: the deployment.
    :param namespace: of this Airflow.
    :param adopt_unowned: whether to take over a pipeline of that name without a label, with the same SQL.
    :param settles: whether duplicates that two deploys created at once are removed, default True; otherwise nothing
        is changed.
    :param log: gets a line for each removed duplicate.
    """

    def __init__(
        self,
        deployment: Deployment,
        namespace: Namespace,
        *,
        adopt_unowned: bool = False,
        settles: bool = True,
        log: Any,
    ) -> None:
        self._deployment = deployment
        self._namespace = namespace
        self._adopt_unowned = adopt_unowned
        self._settles = settles
        self._log = log

    def find(
        self, client: ArroyoClient, existing: Existing, spec: PipelineSpec | None = None
    ) -> list[Generation]:
        """Return the deployment's pipelines with their jobs, the highest generation first.

        On 0.15, two deploys can create the same generation at once, and a request may come in late or be sent twice.
        Then the older pipeline is kept and the younger one deleted.

        :param spec: the wanted pipeline, before anything is changed: if the deployment has no pipeline, one of that
            name may be taken over, or stand in the way.
        :raises ArroyoOwnershipError: if a pipeline of that name, not of this deployment, stands in the way. It is
            not touched.
        """
        for _ in range(_LISTINGS):
            found, others, is_complete = self._list(client, existing)
            if is_complete:
                break
        return found if found or spec is None else self._among_others(client, others, spec)

    def _list(
        self, client: ArroyoClient, existing: Existing
    ) -> tuple[list[Generation], list[_Labelled], bool]:
        """Return the deployment's pipelines, the others of its name, and whether none was deleted meanwhile.

        A deleted one may have been replaced by another deploy, and its successor is not in the list.
        """
        mine: dict[int, list[tuple[Pipeline, OwnershipLabel]]] = defaultdict(list)
        others: list[_Labelled] = []
        for pipeline in sorted(
            client.iter_pipelines(name=self._deployment.name), key=lambda one: one.created_at_micros
        ):
            one = self._labelled(pipeline)
            if one.label is not None and one.label.deployment == self._deployment:
                mine[one.label.generation].append((pipeline, one.label))
            else:
                others.append(one)
        found = []
        for number in sorted(mine, reverse=True):
            kept, label = mine[number][0]
            if self._settles:
                OwnedPipelines(client, label, existing, log=self._log).settle(mine[number])
            with suppress(ArroyoNotFoundError):
                found.append(Generation(number=number, pipeline=kept, job=client.get_job(kept.id)))
        return found, others, len(found) == len(mine)

    def _labelled(self, pipeline: Pipeline) -> _Labelled:
        try:
            return _Labelled(pipeline=pipeline, label=OwnershipLabel.of(pipeline))
        except UnreadableLabelError as err:
            raise ArroyoOwnershipError(
                f"{pipeline.label} may belong to {self._deployment}, "
                f"but {err}. Nothing was changed. Use the version of this package that created it, or delete that "
                "pipeline.",
                owner=str(err.owner) if err.owner else None,
            ) from err

    def _among_others(
        self, client: ArroyoClient, others: Sequence[_Labelled], spec: PipelineSpec
    ) -> list[Generation]:
        """Return the pipeline to take over, if any; empty if the others do not stand in the way."""
        unowned = []
        for one in others:
            owner = one.label.owner if one.label else None
            if isinstance(owner, Deployment) and owner.group != self._deployment.group:
                continue
            if isinstance(owner, Deployment) and self._namespace.is_explicit:
                if self._namespace.was_before(owner.namespace):
                    self._log.warning("%s", from_before(one.pipeline, "deployment", owner.namespace))
                continue
            try:
                job = client.get_job(one.pipeline.id)
            except ArroyoNotFoundError:
                continue
            if owner is None and self._adopt_unowned and not compare(spec, one.pipeline).definition:
                unowned.append(Generation(number=UNOWNED, pipeline=one.pipeline, job=job))
            elif isinstance(owner, Deployment) or job is None or job.state not in TERMINAL_STATES:
                raise self._in_the_way(one, job)
        alive = [one for one in unowned if one.job is None or one.job.state not in TERMINAL_STATES]
        if len(alive) > 1:
            raise ArroyoOwnershipError(
                f"{len(alive)} pipelines without an ownership label are named {spec.name!r} and run the wanted "
                f"SQL: {', '.join(one.pipeline.id for one in alive)}. Nothing was changed. Stop and delete all but "
                "one."
            )
        return alive or unowned[-1:]

    def _in_the_way(self, one: _Labelled, job: Job | None) -> ArroyoOwnershipError:
        state = job.state if job else "without a job"
        what = f"{one.pipeline.label} is {state}"
        if one.label is None:
            why = "carries no ownership label"
            advice = (
                "adopt_unowned=True takes it over if it has the same SQL and UDFs. Otherwise stop and delete it, or "
                "choose another pipeline_name."
            )
            if self._adopt_unowned:
                why += ", and its SQL or UDFs differ from the wanted ones"
                advice = "Stop and delete it, or choose another pipeline_name."
        elif one.label.deployment is not None:
            why = f"belongs to {one.label.owner}"
            advice = which_namespace_to_set(one.label.task.namespace)
        else:
            why = f"belongs to {one.label.owner}"
            advice = "Stop and delete it, or choose another pipeline_name: two would do the same work."
        return ArroyoOwnershipError(
            f"{what}, and {why}; this is {self._deployment}. Nothing was changed. {advice}",
            owner=str(one.label.owner) if one.label else None,
        )
