"""The trigger: the part of a task's wait that runs in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.event import WaitEvent
from airflow_provider_arroyo.monitoring.plan import UnreadablePlanError, WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

TRIGGER_PATH = "airflow_provider_arroyo.triggers.pipelines.ArroyoPipelineTrigger"


class ArroyoPipelineTrigger(BaseTrigger):
    """Watches a pipeline until its wait is over, then fires one event that says how it ended.

    It looks at once, then at the interval; all triggers of a triggerer that use the same connection and
    interval share their looks. It never changes anything in Arroyo when it is cancelled, moved to another
    triggerer or restarted: its arguments hold an absolute deadline, and it goes on where it was.

    :param arroyo_conn_id: the connection; secrets stay in it.
    :param plan: what is waited for, from :meth:`.WaitPlan.to_dict`.
    :param poll_interval: seconds between looks, default 0.1.
    :param label: what the log calls the pipeline.
    :param progress: what the worker saw before it deferred, from :meth:`.PipelineWait.progress`.
    :param on_kill_mode: how to stop the pipeline if the task is ended while it waits here (Airflow 3.3 and
        later tell a trigger); default None leaves it running.
    :param carry: JSON values that the event brings back to the task.
    :param server: the address that the connection led the worker to, no secret. Those who were led elsewhere,
        before it was edited, do not share their looks with these.
    :param unknown: arguments of a later version; kept, so that they survive, and otherwise ignored.
    """

    def __init__(
        self,
        *,
        arroyo_conn_id: str,
        plan: Mapping[str, Any] | None,
        poll_interval: float = 0.1,
        label: str = "",
        progress: Mapping[str, Any] | None = None,
        on_kill_mode: str | None = None,
        carry: Mapping[str, Any] | None = None,
        server: str = "",
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is untyped
        self.arroyo_conn_id = arroyo_conn_id
        self.plan = plan
        self.poll_interval = poll_interval
        self.label = label
        self.progress = progress
        self.on_kill_mode = on_kill_mode
        self.carry = carry
        self.server = server
        self._wait: PipelineWait | None = None
        self.unknown = unknown

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what rebuilds this trigger in another process. It is stored in plain text."""
        return TRIGGER_PATH, {
            **self.unknown,
            "arroyo_conn_id": self.arroyo_conn_id,
            "plan": dict(self.plan) if self.plan else None,
            "poll_interval": self.poll_interval,
            "label": self.label,
            "progress": dict(self.progress) if self.progress else None,
            "on_kill_mode": self.on_kill_mode,
            "carry": dict(self.carry) if self.carry else None,
            "server": self.server,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        event = WaitEvent(
            pipeline_id=str((self.plan or {}).get("pipeline_id", "")),
            verdict=await self._verdict(),
            carry=self.carry or {},
        )
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]  # Airflow's is untyped

    async def on_kill(self) -> None:
        """See to the pipeline when the task was ended while it waited here, and say what becomes of it.

        Airflow calls this also when another triggerer took the wait over, and after a clear; neither stops
        anything.
        """
        from airflow_provider_arroyo.arroyo.models import StopMode
        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
        from airflow_provider_arroyo.hooks.letting_go import let_go_async
        from airflow_provider_arroyo.monitoring.watched import Watched

        if self.task_instance is None:
            return
        try:
            wait = self._wait or self._begin(WaitPlan.from_dict(self.plan))
        except UnreadablePlanError as err:
            self.log.warning("This wait was ended before it began, and nothing was stopped: %s", err)
            return
        await let_go_async(
            connect=ArroyoHook(arroyo_conn_id=self.arroyo_conn_id).get_async_conn,
            watched=Watched(pipeline_id=wait.plan.pipeline_id, label=wait.label, job=wait.job),
            mode=StopMode(self.on_kill_mode) if self.on_kill_mode else None,
            ti=self.task_instance,
            log=self.log,
        )

    def _begin(self, plan: WaitPlan) -> PipelineWait:
        from airflow_provider_arroyo.hooks.clock import SteadyClock
        from airflow_provider_arroyo.monitoring.wait import PipelineWait

        return PipelineWait(plan, now=SteadyClock()(), label=self.label, progress=self.progress)

    async def _verdict(self) -> Verdict:
        # Loading an HTTP library takes long enough to hold up every other trigger of the triggerer.
        await asyncio.to_thread(_load_client)

        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
        from airflow_provider_arroyo.hooks.clock import SteadyClock
        from airflow_provider_arroyo.monitoring.feed import shared_feed
        from airflow_provider_arroyo.monitoring.notes import log_notes

        try:
            plan = WaitPlan.from_dict(self.plan)
        except UnreadablePlanError as err:
            return Verdict(outcome=Outcome.ERROR, error=ArroyoError(str(err)))
        clock = SteadyClock()
        wait = self._wait = self._begin(plan)
        hook = ArroyoHook(arroyo_conn_id=self.arroyo_conn_id)
        try:
            async with shared_feed(
                key=(self.arroyo_conn_id, self.server),
                interval_seconds=self.poll_interval,
                connect=hook.get_async_conn,
                clock=clock,
            ) as feed:
                return await feed.watch(
                    wait,
                    interval_seconds=self.poll_interval,
                    on_notes=lambda notes: log_notes(self.log, notes),
                )
        except ArroyoError as err:
            # The connection leads nowhere; the worker raises it.
            return Verdict(outcome=Outcome.ERROR, error=err)


def _load_client() -> None:
    """Import what a wait needs, so that no import is left for the event loop."""
    import airflow_provider_arroyo.arroyo.async_client
    import airflow_provider_arroyo.hooks.arroyo
    import airflow_provider_arroyo.monitoring.feed  # noqa: F401  # loaded for its effect
