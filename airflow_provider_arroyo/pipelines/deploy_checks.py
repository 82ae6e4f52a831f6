"""What a deploy checks before it changes anything: what would fail, and which state would be dropped."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import (
    ArroyoDeployError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.monitoring.checkpoints import last_finished
from airflow_provider_arroyo.pipelines.deploy_plan import DeployPlan, Generation, Step
from airflow_provider_arroyo.pipelines.deploy_progress import DeployOptions, required
from airflow_provider_arroyo.pipelines.existing import is_down
from airflow_provider_arroyo.pipelines.generations import may_have_unlisted_checkpoints
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel
from airflow_provider_arroyo.pipelines.renamed import with_same_sql
from airflow_provider_arroyo.pipelines.sources import sources_of
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.sql_errors import check_query
from airflow_provider_arroyo.text import duration, shorten

_SAME_SQL_SECONDS = 10.0
"""How long to look for another pipeline with the same SQL, in seconds."""


class DeployChecks:
    """Checks a deploy before it changes anything.

    :param client: sends the requests.
    :param label: of the deploy.
    :param options: how to deploy.
    :param log: gets the warnings, and what a replace drops.
    """

    def __init__(
        self, client: ArroyoClient, label: OwnershipLabel, options: DeployOptions, *, log: Any
    ) -> None:
        self._client = client
        self._label = label
        self._options = options
        self._log = log
        self._name = shorten(required(label.deployment).name, 80)

    def check(self, spec: PipelineSpec, plan: DeployPlan) -> None:
        """Find out what would fail; log what a replace drops, and where it begins.

        :param spec: the wanted pipeline.
        :param plan: how to get it.
        :raises ArroyoError: if the deploy would fail, or drop state that it must not drop.
        """
        try:
            self._check(spec, plan)
        except ArroyoError as err:
            # An earlier try may have been killed in the middle of a replace, without an error that says so.
            if (left := plan.left_behind(self._name)) is None:
                raise
            raise err.adding(left) from err.__cause__

    def _check(self, spec: PipelineSpec, plan: DeployPlan) -> None:
        job = plan.current.job if plan.current else None
        if job is not None and job.is_from_0_15 and spec.only_on_0_16:
            raise ArroyoUnsupportedError.of(spec.only_on_0_16)
        self._warn_of_other_dag(plan)
        if plan.current is None:
            self._warn_of_same_sql(spec)
        if Step.CREATE not in plan.steps:
            return
        if plan.old is not None or self._options.dry_run:
            # The create itself refuses bad SQL, but by then the old pipeline would be stopped.
            check_query(self._client, spec.query, spec.udfs)
        if plan.old is not None:
            self._check_state(spec, plan.old)

    def _warn_of_other_dag(self, plan: DeployPlan) -> None:
        """Warn if another DAG deployed the pipeline that is about to change: it may change it back."""
        label = OwnershipLabel.of(plan.current.pipeline) if plan.current and plan.changes else None
        if label is not None and label.task.dag_id != self._label.task.dag_id:
            self._log.warning(
                "%s was deployed by DAG %r, and this is DAG %r: if both go on to deploy that name, each undoes "
                "what the other did. Give each another group or pipeline_name",
                plan.current,
                shorten(label.task.dag_id, 80),
                shorten(self._label.task.dag_id, 80),
            )

    def _warn_of_same_sql(self, spec: PipelineSpec) -> None:
        """Warn if a running pipeline has the same SQL: the new one may be that pipeline, renamed."""
        client = self._client.with_short_limit(_SAME_SQL_SECONDS)
        try:
            others = [
                one
                for one in with_same_sql(client.iter_pipelines(), spec.query, self._label)
                if _runs(client, one.pipeline.id)
            ]
        except ArroyoError as err:
            # An unreadable list, for example, is no reason not to create this pipeline.
            self._log.info("Whether another pipeline has the same SQL cannot be determined: %s", err)
            return
        for one in others:
            self._log.warning(
                "%s has the same SQL as the new pipeline, which starts without its state: %s. If it was renamed, "
                "deploy it under its old name (pipeline_name), in its old group, or both write the same output",
                one,
                self._name,
            )

    def _check_state(self, spec: PipelineSpec, old: Generation) -> None:
        """Log which state a replace drops, and from where the new sources read.

        :raises ArroyoDeployError: if state must not be dropped.
        """
        # A finished pipeline never runs again, so its state is of no use.
        if old.job is not None and not old.has_finished:
            response = self._client.send(endpoints.list_checkpoints(old.pipeline.id, old.job.id))
            checkpoints, date = tuple(response.value), response.server_date
            server_time = None if date is None else date.timestamp()
            last, found = last_finished(checkpoints), ""
            if last is not None and last.finish_time_micros is not None:
                found = f"checkpoint {last.epoch}"
                if server_time is not None:
                    found = f"{found}, {duration(server_time - last.finish_time_micros / 1e6)} old"
            elif may_have_unlisted_checkpoints(old.pipeline, old.job, checkpoints, server_time):
                found = "if it has any: job-controller 'worker' lists the checkpoints of a run only while it lasts"
            if found:
                state = f"the state of generation {old.number} of {self._name} ({found})"
                if not self._options.allow_state_loss:
                    raise ArroyoDeployError(
                        f"This change replaces the pipeline and would drop {state}: Arroyo cannot carry state from "
                        "one SQL to another. Nothing was changed. Set allow_state_loss=True to accept that.",
                        is_fatal=True,
                    )
                self._log.warning("Drops %s: Arroyo cannot carry state from one SQL to another", state)
        sources = sources_of(spec.query)
        for source in sources:
            self._log.info("Source without state: %s", source)
        if not sources:
            self._log.info(
                "The SQL declares no source; connection tables read as they are defined: %s", self._name
            )


def _runs(client: ArroyoClient, pipeline_id: str) -> bool:
    with suppress(ArroyoNotFoundError):
        job = client.get_job(pipeline_id)
        return job is not None and not is_down(job)
    return False
