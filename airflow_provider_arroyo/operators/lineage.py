"""The methods that Airflow's OpenLineage provider calls on an operator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.operators.task import ArroyoTask

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.openlineage.facts import TaskFacts


class OpenLineageMixin(ArroyoTask):
    """Mixin for the operators that start, change, stop and delete pipelines.

    Without that provider, nothing calls these methods, and nothing of OpenLineage is imported.
    """

    _found_query: Callable[[], str] | None = None
    """Returns the SQL of a pipeline that this process found on the server."""
    _replaced: PipelineRef | None = None
    """The pipeline that a deploy replaced."""
    _deletes = False
    """Whether the task deletes its pipeline."""

    def _prepare_lineage(self) -> None:
        """Look up the connection in a resumed task, which may need it only for lineage.

        Airflow collects lineage in a separate process. That process shares the channel for look-ups with this one,
        and may be killed during one.
        """
        conf = sys.modules.get("airflow.providers.openlineage.conf")
        if conf is not None and not conf.is_disabled():
            # Code that needs the connection for more than lineage reports the error.
            with suppress(Exception):
                _ = self.hook.client

    def get_openlineage_facets_on_start(self) -> OperatorLineage | None:
        """Return the datasets and facets that are known before the task runs, from its SQL."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Return the datasets and facets of a task that succeeded, and emit the events of its pipeline."""
        return self._lineage(task_instance, asks_server=True)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage | None:
        """Return the datasets and facets of a task that failed; emit an event if its pipeline failed too."""
        return self._lineage(task_instance)

    def _lineage(self, task_instance: Any = None, *, asks_server: bool = False) -> OperatorLineage | None:
        from airflow_provider_arroyo.openlineage.report import lineage_of

        return lineage_of(self._openlineage_facts, task_instance, asks_server=asks_server)

    def _openlineage_facts(self) -> TaskFacts:
        from airflow_provider_arroyo.openlineage.facts import TaskFacts

        query, group = getattr(self, "query", None), getattr(self, "group", None)
        result = None if self._returned is None else self._returned()
        if self._found_query is not None:
            query = self._found_query()
        # Nothing is known of the server until the task has looked up its connection.
        hook: Any = vars(self).get("hook")
        is_known = hook is not None and "settings" in vars(hook)
        has_responded = is_known and (self._has_waited or hook.client.has_responded)
        return TaskFacts(
            query=query if isinstance(query, str) else None,
            pipeline=self._pipeline,
            replaced=self._replaced,
            result=result if isinstance(result, dict) else {},
            error=self._raised,
            group=group if isinstance(group, str) else None,
            deletes=self._deletes,
            server=hook.settings.shown_url if is_known else None,
            client=self._new_client if has_responded else None,
        )
