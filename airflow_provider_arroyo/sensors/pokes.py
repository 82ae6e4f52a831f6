"""What a rescheduled sensor remembers between pokes, if Airflow stores it (3.3 and later)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.enums import JobState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.client.models import Job
    from airflow_provider_arroyo.monitoring.plan import WaitPlan
    from airflow_provider_arroyo.monitoring.restarts import RestartMemory
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

_SEEN_KEY = "arroyo_seen"


class PokeMemory:
    """The memory of one try of a task; empty before Airflow 3.3 and in the first poke.

    :param context: Airflow's context of the current poke.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._try_number = context["ti"].try_number

    @property
    def pipeline_id(self) -> str | None:
        """The pipeline that an earlier poke saw."""
        return self._seen.get("pipeline_id")

    @property
    def pipeline_name(self) -> str | None:
        """Its name, as that poke knew it."""
        return self._seen.get("pipeline_name")

    def job(self, plan: WaitPlan) -> Job | None:
        """Return the job as an earlier poke saw it, if it belongs to the pipeline of this wait."""
        from airflow_provider_arroyo.client.models import Job
        from airflow_provider_arroyo.client.wire import from_json

        seen = self._seen
        if seen.get("pipeline_id") != plan.pipeline.pipeline_id:
            return None
        try:
            return from_json(Job, seen.get("job"))
        except ValueError:
            return None

    def restarts(self) -> RestartMemory | None:
        """Return what earlier pokes recorded about restarts."""
        from airflow_provider_arroyo.monitoring.restarts import RestartMemory

        return RestartMemory.read(self._seen.get("restarts"))

    def of_condition(self, plan: WaitPlan) -> Mapping[str, Any] | None:
        """Return what the condition of a wait remembers of what earlier pokes saw of its pipeline."""
        seen = self._seen
        is_same = _counts(plan) and seen.get("pipeline_id") == plan.pipeline.pipeline_id
        kept = seen.get("condition") if is_same else None
        return kept if isinstance(kept, Mapping) else None

    def keep(self, wait: PipelineWait, result: WaitResult, log: Any) -> None:
        """Store what this poke saw, and log what changed since the last one."""
        from airflow_provider_arroyo.client.wire import to_json

        job, pipeline = result.job, wait.plan.pipeline
        if self._store is None or job is None:
            return
        state, kept = f"{job.state}, run {job.run_id}", self._seen
        before, desired_before = kept.get("state"), (kept.get("job") or {}).get("running_desired")
        memory = None if wait.plan.max_restarts is None else wait.restart_memory()
        counted = dict(wait.finding.memory) if _counts(wait.plan) else None
        is_new = (before, desired_before) != (state, job.running_desired)
        if is_new or memory is not None or counted is not None:
            seen = {
                "pipeline_id": pipeline.pipeline_id,
                "pipeline_name": pipeline.name,
                "job": to_json(job),
                "state": state,
                "try_number": self._try_number,
                "restarts": None if memory is None else memory.to_dict(),
                "condition": counted,
            }
            try:
                self._store.set(_SEEN_KEY, seen)
            except Exception as err:  # noqa: BLE001  # whatever Airflow's API raises: no line is worth the task
                level = logging.DEBUG if memory is None else logging.WARNING
                log.log(level, "The result of this poll cannot be stored: %s", err)
                return
        # Changes during this poke are already logged.
        if before not in (None, state) and len(result.transitions) <= 1:
            log.info("%s → %s: %s", before, state, pipeline.short)

    @cached_property
    def _seen(self) -> Mapping[str, Any]:
        # Each question to the store is a request to Airflow's API server.
        seen: Any = None
        with suppress(Exception):  # whatever Airflow's API raises
            seen = self._store.get(_SEEN_KEY) if self._store is not None else None
        is_of_try = isinstance(seen, Mapping) and seen.get("try_number") == self._try_number
        return seen if is_of_try else {}


def _counts(plan: WaitPlan) -> bool:
    """Return whether a wait counts something across pokes."""
    return plan.checkpoint is not None and plan.checkpoint.new_checkpoints > 0


def may_reschedule(result: WaitResult) -> bool:
    """Return whether a rescheduled task, which remembers nothing, may leave a wait in its current state."""
    from airflow_provider_arroyo.monitoring.plan import is_wanted

    job = result.job
    is_holding = job is not None and is_wanted(job.state, result.target_states) and job.running_desired
    if job is not None and job.state == JobState.STOPPED:
        is_holding = False  # a resume was requested, so it is about to leave that state
    return result.unreachable_seconds is None and not result.is_unsettled and not is_holding
