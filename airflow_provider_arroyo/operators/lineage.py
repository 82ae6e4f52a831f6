"""The methods that Airflow's OpenLineage provider calls on an operator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.openlineage.facts import TaskFacts


class OpenLineageMixin:
    """Mixin for the operators that start, change, stop and delete pipelines.

    Without that provider, nothing calls these methods, and nothing of OpenLineage is imported.
    """

    _returned: Any = None
    """The task's result, as soon as it has one."""
    _found_query: Callable[[], str] | None = None
    """Returns the SQL of a pipeline that this process found on the server."""
    _replaced: PipelineRef | None = None
    """The pipeline that a deploy replaced."""

    def _keep_result(self, result: Any) -> None:
        self._returned = result

    def _prepare_lineage(self) -> None:
        """Look up the connection in a resumed task, which may need it only for lineage.

        Airflow collects lineage in a separate process. That process shares the channel for look-ups with this one,
        and may be killed during one.
        """
        conf = sys.modules.get("airflow.providers.openlineage.conf")
        task: Any = self
        if conf is not None and not conf.is_disabled():
            # Code that needs the connection for more than lineage reports the error.
            with suppress(Exception):
                _ = task.hook.client

    def get_openlineage_facets_on_start(self) -> OperatorLineage | None:
        """Return the datasets and facets that are known before the task runs, from its SQL."""
        from airflow_provider_arroyo.openlineage.report import started

        return started(self._openlineage_facts)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage | None:
        """Return the datasets and facets of a task that succeeded, and emit the events of its pipeline."""
        from airflow_provider_arroyo.openlineage.report import completed

        return completed(self._openlineage_facts, task_instance)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage | None:
        """Return the datasets and facets of a task that failed; emit an event if its pipeline failed too."""
        from airflow_provider_arroyo.openlineage.report import failed

        return failed(self._openlineage_facts, task_instance)

    def _openlineage_facts(self) -> TaskFacts:
        from airflow_provider_arroyo.openlineage.facts import TaskFacts

        task: Any = self
        query, group = getattr(task, "query", None), getattr(task, "group", None)
        if self._found_query is not None:
            query = self._found_query()
        # Nothing is known of the server until the task has looked up its connection.
        hook = vars(task).get("hook")
        is_known = hook is not None and "settings" in vars(hook)
        has_responded = is_known and (task._has_waited or hook.client.has_responded)
        return TaskFacts(
            query=query if isinstance(query, str) else None,
            pipeline=task._pipeline,
            replaced=self._replaced,
            result=self._returned if isinstance(self._returned, dict) else {},
            error=task._raised,
            group=group if isinstance(group, str) else None,
            server=hook.settings.shown_url if is_known else None,
            client=task._new_client if has_responded else None,
        )
