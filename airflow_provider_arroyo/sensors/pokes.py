"""What a rescheduled sensor remembers between pokes, if Airflow stores it (3.3 and later)."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.enums import JobState

if TYPE_CHECKING:
    from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
    from airflow_provider_arroyo.monitoring.progress import Progress
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

_SEEN_KEY = "arroyo_seen"


class PokeMemory:
    """The memory of one try of a task; empty before Airflow 3.3 and in the first poke.

    :param store: the task's state store; None before Airflow 3.3.
    :param ti: the task instance of the current poke.
    """

    def __init__(self, store: Any, ti: Any) -> None:
        self._store = store
        self._try_number = ti.try_number

    @property
    def pipeline(self) -> PipelineRef:
        """The pipeline that earlier pokes saw; without an id if they saw none."""
        return self._seen[0]

    def progress(self, plan: WaitPlan, now: float) -> Progress:
        """Return the memory of the last poke that stored it, as far as it concerns a wait that begins now."""
        from airflow_provider_arroyo.monitoring.condition import Finding
        from airflow_provider_arroyo.monitoring.progress import Progress

        pipeline, progress = self._seen
        if progress is None:
            return Progress.begin(plan, now)
        if pipeline.pipeline_id != plan.pipeline.pipeline_id:
            return replace(progress, job=None, finding=Finding())
        return progress

    def keep(self, wait: PipelineWait, result: WaitResult, log: Any) -> None:
        """Store what this poke saw, and log what changed since the last one."""
        plan, job = wait.plan, wait.progress.job
        if self._store is None or job is None:
            return
        before = None if self._seen[1] is None else self._seen[1].job
        is_changed = before is None or (before.state, before.run_id) != (job.state, job.run_id)
        is_new = is_changed or (before is not None and before.running_desired != job.running_desired)
        counts = plan.max_restarts is not None or (
            plan.checkpoint is not None and plan.checkpoint.new_checkpoints
        )
        if is_new or counts:
            seen = {"pipeline": plan.pipeline.to_dict(), "progress": wait.progress.to_dict()}
            try:
                self._store.set(_SEEN_KEY, {**seen, "try_number": self._try_number})
            except Exception as err:  # noqa: BLE001  # whatever Airflow's API raises: no line is worth the task
                level = logging.DEBUG if plan.max_restarts is None else logging.WARNING
                log.log(level, "The result of this poll cannot be stored: %s", err)
                return
        # Changes during this poke are already logged.
        if before is not None and is_changed and len(result.transitions) <= 1:
            states = before.state, before.run_id, job.state, job.run_id
            log.info("%s, run %s → %s, run %s: %s", *states, plan.pipeline.short)

    @cached_property
    def _seen(self) -> tuple[PipelineRef, Progress | None]:
        from airflow_provider_arroyo.monitoring.plan import PipelineRef
        from airflow_provider_arroyo.monitoring.progress import Progress

        # Each question to the store is a request to Airflow's API server, which may raise anything.
        with suppress(Exception):
            kept = self._store.get(_SEEN_KEY)
            if kept["try_number"] == self._try_number:
                return PipelineRef.from_dict(kept["pipeline"]), Progress.from_dict(kept["progress"])
        return PipelineRef(pipeline_id=""), None


def may_reschedule(wait: PipelineWait, result: WaitResult) -> bool:
    """Return whether a rescheduled task, which remembers nothing, may leave a wait in its current state.

    :param wait, result: the wait and its status.
    """
    from airflow_provider_arroyo.monitoring.plan import is_wanted

    job = result.job
    is_holding = job is not None and is_wanted(job.state, result.target_states) and job.running_desired
    if job is not None and job.state == JobState.STOPPED:
        is_holding = False  # a resume was requested, so it is about to leave that state
    return result.unreachable_seconds is None and not wait.is_unsettled() and not is_holding
