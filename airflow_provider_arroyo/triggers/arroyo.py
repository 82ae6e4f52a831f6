"""The triggers: the part of a task's wait that runs in the triggerer. Re-exports the event trigger, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_arroyo.client.checks import check_duration, check_integer
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.text import duration
from airflow_provider_arroyo.triggers.events import ArroyoPipelineEventTrigger
from airflow_provider_arroyo.triggers.progress import keep_interval, keep_progress, latest_progress
from airflow_provider_arroyo.triggers.supervisor import push_xcoms

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.monitoring.event import WaitEvent
    from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
    from airflow_provider_arroyo.monitoring.result import WaitResult
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

__all__ = ["ArroyoPipelineEventTrigger", "ArroyoPipelineTrigger"]

TRIGGER_VERSION = 1
"""Raise this if an older version would misread a trigger's arguments or plan; not for a new optional one."""

TRIGGER_PATH = "airflow_provider_arroyo.triggers.arroyo.ArroyoPipelineTrigger"

_ARGUMENTS = (
    *("arroyo_conn_id", "plan", "poll_interval", "progress", "stop_on_kill", "resume_context", "server"),
    *("hold", "name_rule", "end_from_trigger", "push_result", "version"),
)


class ArroyoPipelineTrigger(BaseTrigger):
    """Polls a pipeline until its wait is over, then fires one event with the result.

    An event that would resume the task too soon after its deferral is held until then. The pipeline is not polled
    again meanwhile.

    The trigger polls at once, then at the interval. All triggers of a triggerer on the same connection share their
    polls. Nothing changes in Arroyo when the trigger is cancelled, moved to another triggerer or restarted: it
    keeps its absolute deadline. A wait with ``restart_window``, and one of an hour or more that counts something, or
    that is for what must last ten minutes or more, continues where it was; any other, where it was at its deferral.

    :param arroyo_conn_id: id of the Airflow connection; secrets stay in it.
    :param plan: the goal of the wait, from :meth:`.WaitPlan.to_dict`.
    :param poll_interval: seconds between polls, default 0.1.
    :param progress: what the worker saw before it deferred, as JSON; default None.
    :param stop_on_kill: how to stop the pipeline if the task ends while it waits here (Airflow 3.3 and later call a
        trigger's ``on_kill``); default None leaves it running.
    :param resume_context: JSON values that the event returns to the task; default None.
    :param server: the address of the server that the worker used; contains no secret. If the connection leads to
        another server now, that is an error. Default empty: any server.
    :param hold: when the task deferred, and how long an early event is held, from :class:`.Hold`; default None does
        not hold it.
    :param name_rule: for a wait by name, the rest of the rule that decides which pipeline is meant, see
        :func:`.resolve_name`; default None.
    :param end_from_trigger: whether a successful wait ends its task here, without a worker; default False resumes the
        task.
    :param push_result: whether the task's result is then stored as its XCom, default True.
    :param version: version of the arguments' format; default the current one.
    :param unknown: arguments of a later version; they are kept when the trigger is serialized, and otherwise ignored.
    """

    def __init__(
        self,
        *,
        arroyo_conn_id: str,
        plan: Mapping[str, Any] | None,
        poll_interval: float = 0.1,
        progress: Mapping[str, Any] | None = None,
        stop_on_kill: str | None = None,
        resume_context: Mapping[str, Any] | None = None,
        server: str = "",
        hold: Mapping[str, Any] | None = None,
        name_rule: Mapping[str, Any] | None = None,
        end_from_trigger: bool = False,
        push_result: bool = True,
        version: int = TRIGGER_VERSION,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's is untyped
        self.arroyo_conn_id = arroyo_conn_id
        self.plan = plan
        self.poll_interval = check_duration(poll_interval, "poll_interval", positive=True).total_seconds()
        self.progress = progress
        self.stop_on_kill = stop_on_kill
        self.resume_context = resume_context
        self.server = server
        self.hold = hold
        self.name_rule = name_rule
        self.end_from_trigger = end_from_trigger
        self.push_result = push_result
        self.version = check_integer(version, "version")
        self.unknown = unknown
        self._wait: PipelineWait | None = None
        self._to_show: Mapping[str, Any] = {}
        """The XComs of the pipeline that was found, until they are stored."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the data that rebuilds this trigger in another process. Airflow stores it in plain text."""
        return TRIGGER_PATH, {**self.unknown, **{name: getattr(self, name) for name in _ARGUMENTS}}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield exactly one event."""
        clock = SteadyClock()
        started_at = clock()
        try:
            event = await self._ended(clock)
        except Exception:
            # This resumes the task, too.
            await self._hold_event(started_at, clock)
            raise
        if await self._ends_task(event):
            # Not held: the task does not resume.
            yield TaskSuccessEvent()
            return
        await self._hold_event(started_at, clock)
        yield TriggerEvent(event.to_dict())  # type: ignore[no-untyped-call]  # Airflow's is untyped

    async def _ended(self, clock: SteadyClock) -> WaitEvent:
        """Wait, and return the result."""
        # Importing here would block all other triggers of the triggerer, longest for an HTTP library.
        await asyncio.to_thread(_import_polling)
        from airflow_provider_arroyo.monitoring.event import WaitEvent
        from airflow_provider_arroyo.monitoring.outcome import Outcome
        from airflow_provider_arroyo.monitoring.plan import PipelineRef, UnreadablePlanError
        from airflow_provider_arroyo.monitoring.result import WaitResult

        try:
            plan = self._read_plan()
        except UnreadablePlanError as err:
            pipeline = PipelineRef(pipeline_id="")
            result = WaitResult(outcome=Outcome.ERROR, error=ArroyoError(str(err)))
        else:
            result = await self._poll(plan, clock)
            pipeline = plan.pipeline if self._wait is None else self._wait.plan.pipeline
        resume_context = self.resume_context or {}
        return WaitEvent(pipeline=pipeline, result=result, resume_context=resume_context, server=self.server)

    def _read_plan(self) -> WaitPlan:
        from airflow_provider_arroyo.monitoring.plan import UnreadablePlanError, WaitPlan

        if self.version > TRIGGER_VERSION:
            raise UnreadablePlanError(
                f"they have version {self.version}, but this package reads up to {TRIGGER_VERSION}"
            )
        return WaitPlan.from_dict(self.plan)

    async def _ends_task(self, event: WaitEvent) -> bool:
        """Return whether the task ends here; if so, store its XComs."""
        from airflow_provider_arroyo.links import RESULT_XCOM_KEY, TRANSITIONS_XCOM_KEY
        from airflow_provider_arroyo.monitoring.messages import done
        from airflow_provider_arroyo.monitoring.outcome import Outcome
        from airflow_provider_arroyo.monitoring.result import result_values

        result, pipeline, ti = event.result, event.pipeline, self.task_instance
        # In `airflow dags test`, a trigger has no task instance.
        if not self.end_from_trigger or result.outcome is not Outcome.REACHED or ti is None:
            return False
        if pipeline.name is None:
            return False  # it was created during the wait: the worker looks up its name for the result
        transitions = [one.to_dict() for one in result.transitions]
        xcoms: dict[str, Any] = {**self._to_show, TRANSITIONS_XCOM_KEY: transitions}
        if self.push_result:
            xcoms[RESULT_XCOM_KEY] = result_values(pipeline, result.job, **result.facts)
        try:
            await push_xcoms(ti, xcoms)
        except Exception as err:  # noqa: BLE001  # Airflow's backend for XComs may raise anything; a worker tries again
            self.log.warning("The result cannot be stored from the triggerer, so the task resumes: %r", err)
            return False
        self.log.info("%s", done(pipeline, result.job, **result.facts))
        return True

    async def _hold_event(self, started_at: float, clock: SteadyClock) -> None:
        """Sleep until the task may resume."""
        from airflow_provider_arroyo.monitoring.event import Hold

        try:
            hold = Hold.from_dict(self.hold)
        except ValueError:
            return  # none, or of another version
        left = hold.left(started_at=started_at, now=clock())
        if left > 0:
            self.log.info("The task resumes in %s (deferral_hold)", duration(left))
            await asyncio.sleep(left)

    async def _poll(self, plan: WaitPlan, clock: SteadyClock) -> WaitResult:
        from airflow_provider_arroyo.monitoring.outcome import Outcome
        from airflow_provider_arroyo.monitoring.result import WaitResult
        from airflow_provider_arroyo.monitoring.wait import PipelineWait
        from airflow_provider_arroyo.polling.names import resolve_ref
        from airflow_provider_arroyo.polling.shared import shared_poller

        wait = self._wait = PipelineWait(plan, now=clock(), progress=self.progress)
        ti, interval, keeping = self.task_instance, keep_interval(wait), None
        if ti is not None and interval is not None:
            progress = await latest_progress(ti, self.progress, self.log)
            wait = self._wait = PipelineWait(plan, now=clock(), progress=progress)
            keeping = asyncio.ensure_future(keep_progress(ti, wait, clock, interval, self.log))
        is_named = self.name_rule is not None or not plan.pipeline.pipeline_id
        resolve = partial(resolve_ref, name=str(plan.pipeline.name), rule=self.name_rule or {})
        try:
            async with shared_poller((self.arroyo_conn_id, self.server), self._connect) as poller:
                return await poller.watch(
                    wait,
                    interval_seconds=self.poll_interval,
                    clock=clock,
                    log=self.log,
                    resolve=resolve if is_named else None,
                    on_found=self._show_found,
                )
        except ArroyoError as err:
            # The connection is unusable; the worker raises the error.
            return WaitResult(outcome=Outcome.ERROR, error=err)
        finally:
            if keeping is not None:
                keeping.cancel()

    async def _show_found(self, pipeline: PipelineRef) -> None:
        """Show the pipeline that was found; if Airflow fails, it is shown when the task ends."""
        from airflow_provider_arroyo.links import pipeline_xcoms

        if self.task_instance is None:
            return
        self._to_show = pipeline_xcoms(pipeline)
        try:
            await push_xcoms(self.task_instance, self._to_show)
            self._to_show = {}
        except Exception as err:  # noqa: BLE001  # Airflow's backend for XComs may raise anything
            self.log.debug("The pipeline's XComs cannot be stored yet: %r", err)

    async def on_kill(self) -> None:
        """Stop the pipeline, if wanted, when its task was ended during the wait; log what was done.

        Airflow also calls this when another triggerer took over the wait, and after a clear; both stop nothing.
        """
        from airflow_provider_arroyo.client.enums import StopMode
        from airflow_provider_arroyo.monitoring.wait import PipelineWait
        from airflow_provider_arroyo.on_kill import WatchedRun
        from airflow_provider_arroyo.triggers.on_kill import stop_on_kill_async

        if self.task_instance is None:
            return
        try:
            now = SteadyClock()()
            wait = self._wait or PipelineWait(self._read_plan(), now=now, progress=self.progress)
            mode = StopMode(self.stop_on_kill) if self.stop_on_kill else None
        except ValueError as err:
            # Another version of this package wrote the arguments.
            self.log.warning("This wait was killed, and nothing was stopped: %s", err)
            return
        watched, ti = WatchedRun.of(wait), self.task_instance
        await stop_on_kill_async(self._connect, watched, mode, ti=ti, log=self.log)

    async def _connect(self) -> ArroyoClient:
        from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

        return await ArroyoHook(arroyo_conn_id=self.arroyo_conn_id).get_async_client(self.server)


def _import_polling() -> None:
    """Import the modules for a wait now, so that the event loop need not."""
    import airflow_provider_arroyo.hooks.arroyo
    import airflow_provider_arroyo.links
    import airflow_provider_arroyo.monitoring.event
    import airflow_provider_arroyo.polling.shared
    import airflow_provider_arroyo.triggers.on_kill  # noqa: F401  # imported for its effect
