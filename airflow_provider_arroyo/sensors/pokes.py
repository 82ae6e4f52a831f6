"""What a rescheduled sensor remembers from poke to poke, where Airflow keeps it for the task: from 3.3 on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.monitoring.restarts import RestartMemory
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

_SEEN_KEY = "arroyo_seen"


class PokeMemory:
    """The memory of one try of a task; empty before Airflow 3.3, and in the first poke.

    :param context: Airflow's, of the present poke.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._try_number = context["ti"].try_number

    @property
    def pipeline_id(self) -> str | None:
        """The pipeline that an earlier poke saw."""
        return self._seen().get("pipeline_id")

    def restarts(self) -> RestartMemory | None:
        """Return what earlier pokes saw of restarts."""
        from airflow_provider_arroyo.monitoring.restarts import RestartMemory

        return RestartMemory.read(self._seen().get("restarts"))

    def keep(self, wait: PipelineWait, result: WaitResult, log: Any) -> None:
        """Keep what this poke saw, and log what changed since the last one."""
        job, pipeline = result.job, wait.plan.pipeline
        if self._store is None or job is None:
            return
        state, before = f"{job.state}, run {job.run_id}", self._seen().get("state")
        memory = None if wait.plan.max_restarts is None else wait.restart_memory()
        if before != state or memory is not None:
            seen = {
                "pipeline_id": pipeline.pipeline_id,
                "state": state,
                "try_number": self._try_number,
                "restarts": None if memory is None else memory.to_dict(),
            }
            try:
                self._store.set(_SEEN_KEY, seen)
            except Exception as err:  # noqa: BLE001  # whatever Airflow's API raises: no line is worth the task
                level = logging.DEBUG if memory is None else logging.WARNING
                log.log(level, "What this poll saw is not remembered: %s", err)
                return
        # Changes during this poke are logged already.
        if before not in (None, state) and len(result.transitions) <= 1:
            log.info("%s → %s: %s", before, state, pipeline.short)

    def _seen(self) -> Mapping[str, Any]:
        seen: Any = None
        with suppress(Exception):  # whatever Airflow's API raises
            seen = self._store.get(_SEEN_KEY) if self._store is not None else None
        is_of_try = isinstance(seen, Mapping) and seen.get("try_number") == self._try_number
        return seen if is_of_try else {}
