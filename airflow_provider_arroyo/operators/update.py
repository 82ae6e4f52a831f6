"""The operator that changes a pipeline's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_arroyo.client.checks import (
    check_checkpoint_interval,
    check_json_object,
    check_parallelism,
    check_string_map,
)
from airflow_provider_arroyo.operators.arguments import as_string_map, check_early, optional
from airflow_provider_arroyo.operators.change import ArroyoChangeOperator
from airflow_provider_arroyo.operators.existing import ArroyoExistingOperator
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow_provider_arroyo.pipelines.change import Change, Changed


class ArroyoUpdatePipelineOperator(ArroyoChangeOperator):
    """Change settings of a pipeline in one request that contains only what differs.

    A new parallelism, environment or scheduler config begins a new run, and the task waits for it; so does the first
    new checkpoint interval after a restart. A running pipeline must meet ``stable_for`` and ``until_checkpoint``. If
    it is stopped or failed, the settings apply from its next start. What Arroyo already has is not requested again,
    but a parallelism that it dropped is applied by a restart. On Airflow 3.3 and later, a retry waits for the run
    that its first try requested.

    :param pipeline_id: id of the pipeline. Give either this or ``pipeline_name``. Templated.
    :param pipeline_name: exact name of the pipeline, instead of its id: the one that is alive, or else the newest. If
        several are alive, the task fails and lists them. Templated.
    :param parallelism: number of subtasks of each operator, 1 or more; default None does not change it. Templated.
    :param checkpoint_interval: time between checkpoints, 1 second to 24 hours, a timedelta or seconds; default None
        does not change it.
    :param env_vars: environment variables of the pipeline's workers (Arroyo 0.16); replaces all of them; default None
        does not change them. Everyone who can read Arroyo's API sees them, so put no secrets here. Templated.
    :param scheduler_config: passed to Arroyo's scheduler unchanged (Arroyo 0.16); default None does not change it.
    :param until_checkpoint: whether a checkpoint of the new run must have finished, which proves that data flows;
        default False.
    :param stable_for: how long the pipeline must be ``Running`` in one run, default 2 seconds; a timedelta or
        seconds.
    :param max_restarts: how often it may restart by itself before the task fails; default None, any number until
        ``timeout``.
    :param timeout: how long the task may take, deferred or not, default 10 minutes; a timedelta or seconds.
    :param poll_interval: time between polls, default 0.1 seconds; a timedelta or seconds.
    :param defer_after: how long to wait in the worker before deferring, default 15 seconds; a timedelta or seconds.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param deferrable: whether to wait in the triggerer; default Airflow's ``[operators] default_deferrable``.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason``, ``action``
        (``updated`` or ``unchanged``) and ``changes`` (a list of ``{"argument", "difference"}``).
    :raises ValueError: if an argument is invalid, or there is nothing to change, before any request.
    :raises ArroyoFatalTaskError: if the pipeline has finished, or the server is too old for a setting.
    :raises ArroyoTaskError: if the pipeline is ``Finishing``, fails, is stopped externally or does not run again in
        time, or Arroyo accepts a change and does not make it.
    """

    template_fields: Sequence[str] = (*ArroyoExistingOperator.template_fields, "parallelism", "env_vars")
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "json"}
    ui_color = "#ffeccc"
    _step = "Updating a pipeline"

    def __init__(
        self,
        *,
        pipeline_id: str | None = None,
        pipeline_name: str | None = None,
        parallelism: int | str | None = None,
        checkpoint_interval: timedelta | float | None = None,
        env_vars: Mapping[str, str] | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        until_checkpoint: bool = False,
        stable_for: timedelta | float = timedelta(seconds=2),
        max_restarts: int | None = None,
        timeout: timedelta | float = timedelta(minutes=10),
        poll_interval: timedelta | float = 0.1,
        defer_after: timedelta | float = 15.0,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pipeline_id=pipeline_id,
            pipeline_name=pipeline_name,
            until_checkpoint=until_checkpoint,
            stable_for=stable_for,
            max_restarts=max_restarts,
            timeout=timeout,
            poll_interval=poll_interval,
            defer_after=defer_after,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        if all(value is None for value in (parallelism, checkpoint_interval, env_vars, scheduler_config)):
            raise ValueError(
                "nothing to update: give parallelism, checkpoint_interval, env_vars or scheduler_config"
            )
        self.parallelism = check_early(optional(check_parallelism), parallelism, "parallelism")
        self.checkpoint_interval = optional(check_checkpoint_interval)(
            checkpoint_interval, "checkpoint_interval"
        )
        self.env_vars = check_early(optional(check_string_map), env_vars, "env_vars")
        self.scheduler_config = optional(check_json_object)(scheduler_config, "scheduler_config")

    def _settings(self) -> dict[str, Any]:
        """Return the wanted settings, from the rendered arguments."""
        return {
            "parallelism": optional(check_parallelism)(self.parallelism, "parallelism"),
            "checkpoint_interval": self.checkpoint_interval,
            "env_vars": optional(check_string_map)(as_string_map(self.env_vars, "env_vars"), "env_vars"),
            "scheduler_config": self.scheduler_config,
        }

    def _requested(self, known: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_arroyo.pipelines.change_notes import settings_hash

        # When a deferred task resumes, its DAG and what its templates render to may differ.
        with suppress(ValueError):
            if settings_hash(settings := self._settings()) == known.get("wanted"):
                return settings
        # The others are not kept, since they may contain secrets.
        seconds = known.get("checkpoint_seconds")
        return {
            "parallelism": known.get("parallelism"),
            "checkpoint_interval": None if seconds is None else timedelta(seconds=seconds),
        }

    def _request(self, change: Change) -> Changed:
        return change.update(self._settings())
