"""The base class of the operators that submit and deploy a pipeline: what they want it to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_arroyo.client.checks import (
    check_checkpoint_interval,
    check_duration,
    check_json_object,
    check_max_restarts,
    check_parallelism,
    check_string_map,
)
from airflow_provider_arroyo.client.names import check_name
from airflow_provider_arroyo.operators.arguments import (
    as_string,
    as_string_map,
    check_early,
    optional,
)
from airflow_provider_arroyo.operators.base import ArroyoWaitingOperator
from airflow_provider_arroyo.operators.query import ArroyoQueryOperator, rendered_query
from airflow_provider_arroyo.pipelines.tags import check_tags

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.monitoring.event import WaitEvent
    from airflow_provider_arroyo.pipelines.spec import PipelineSpec


class ArroyoSpecOperator(ArroyoQueryOperator, ArroyoWaitingOperator):
    """The base class of the operators that create pipelines.

    A field that cannot be rendered fails ``execute``, not the rendering. Airflow renders a deferred task again before
    it resumes it, and by then a file or Variable may be gone that is not needed any more: the pipeline exists.
    """

    template_fields: Sequence[str] = ("pipeline_name", "query", "parallelism", "tags", "env_vars")
    template_fields_renderers: ClassVar[dict[str, str]] = {"query": "sql", "tags": "json", "env_vars": "json"}
    _check_name: ClassVar[Callable[..., str]] = staticmethod(check_name)
    state_url: str | None = None
    _render_error: Exception | None = None
    """Why the first of the fields that cannot be rendered cannot be; None if all were."""

    def __init__(
        self,
        *,
        pipeline_name: str,
        parallelism: int | str,
        checkpoint_interval: timedelta | float | None,
        tags: Mapping[str, str] | None,
        env_vars: Mapping[str, str] | None,
        scheduler_config: Mapping[str, Any] | None,
        stable_for: timedelta | float,
        max_restarts: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline_name = check_early(self._check_name, pipeline_name, "pipeline_name")
        self.parallelism = check_early(check_parallelism, parallelism, "parallelism")
        self.checkpoint_interval = optional(check_checkpoint_interval)(
            checkpoint_interval, "checkpoint_interval"
        )
        check_early(check_tags, tags or {}, "tags")
        self.tags = tags
        check_early(check_string_map, env_vars or {}, "env_vars")
        self.env_vars = env_vars
        check_json_object(scheduler_config or {}, "scheduler_config")
        self.scheduler_config = scheduler_config
        self.stable_for = check_duration(stable_for, "stable_for")
        self.max_restarts = check_max_restarts(max_restarts)

    def _render_field(
        self, field: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int]
    ) -> None:
        try:
            super()._render_field(field, context, jinja_env, seen_oids)
        except Exception as err:  # noqa: BLE001  # execute raises it
            self._render_error = self._render_error or err

    def _check_is_rendered(self) -> None:
        """Raise what kept a field from being rendered."""
        if self._render_error is not None:
            raise self._render_error

    def _spec(self) -> PipelineSpec:
        """Return what is wanted, from the rendered arguments.

        :raises ValueError: names the argument that is invalid.
        """
        from airflow_provider_arroyo.pipelines.spec import PipelineSpec

        try:
            self._check_is_rendered()
            return PipelineSpec(
                name=self._check_name(as_string(self.pipeline_name, "pipeline_name"), "pipeline_name"),
                query=rendered_query(self.query),
                parallelism=check_parallelism(self.parallelism),
                checkpoint_interval=self.checkpoint_interval,
                udfs=self._checked_udfs(),
                tags=check_tags(as_string_map(self.tags or {}, "tags")),
                env_vars=as_string_map(self.env_vars, "env_vars"),
                scheduler_config=self.scheduler_config,
                state_url=optional(as_string)(self.state_url, "state_url"),
            )
        except Exception:
            if getattr(self._context.get("ti"), "try_number", 1) > 1:
                # This one ends before it looks for anything.
                self.log.warning(
                    "An earlier try of this task may have started or stopped pipeline %r: check its state in Arroyo",
                    self.pipeline_name,
                )
            raise

    def _resume(self, event: Any) -> WaitEvent:
        if self._render_error is not None:
            self.log.warning(
                "An argument cannot be rendered any more. The task continues with what it began: %s",
                self._render_error,
            )
            # It is not the pipeline's; lineage can get that from Arroyo.
            self.query = None
        return super()._resume(event)
