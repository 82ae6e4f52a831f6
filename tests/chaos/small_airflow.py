"""A small Airflow: workers that run tries, triggerers that run waits, and the state of the task instance.

It treats a task as Airflow 3.3 does: arguments and events are converted to JSON and back, the resumed half runs on a
new operator, and a trigger whose task was cleared, or that another triggerer took over, is cancelled, and its
``on_kill`` is called later.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar
from unittest import mock

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError
from airflow_provider_arroyo.on_kill import WAIT_XCOM_KEY
from airflow_provider_arroyo.triggers import on_kill
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from tests.support import KilledError
from tests.tasks.harness import FakeTaskInstance

from .crashing_client import crash_at

T = TypeVar("T")

MakeOperator = Callable[[], Any]


@contextmanager
def fake_task_states() -> Iterator[None]:
    """Make triggers read the state of their task from a fake task instance instead of Airflow."""

    async def ask_fake(ti: SeenTaskInstance) -> tuple[str | None, dict[str, Any]]:
        state = ti.now.state
        await asyncio.sleep(0)
        return state, ti.now.xcoms.get(WAIT_XCOM_KEY, {})

    with mock.patch.object(on_kill, "_ask_airflow", ask_fake):
        yield


class SeenTaskInstance:
    """A task instance as a trigger gets it at its start and keeps it, even if the task has a later try.

    :param ti: the task instance.
    """

    def __init__(self, ti: FakeTaskInstance) -> None:
        self.now = ti
        """The current task instance in Airflow."""
        self.dag_id, self.task_id, self.run_id = ti.dag_id, ti.task_id, ti.run_id
        self.map_index, self.try_number = ti.map_index, ti.try_number


class Triggerer:
    """An event loop in a thread, which runs triggers."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start(self, trigger: ArroyoPipelineTrigger) -> Running:
        """Start a trigger."""
        return Running(self, trigger)


class Running:
    """A trigger that runs.

    :param triggerer: where it runs.
    :param trigger: the trigger.
    """

    def __init__(self, triggerer: Triggerer, trigger: ArroyoPipelineTrigger) -> None:
        self._triggerer = triggerer
        self._trigger = trigger
        self._task: asyncio.Task[list[Any]] | None = None
        self.payloads: Future[list[Any]] = triggerer.run(self._work())

    async def _work(self) -> list[Any]:
        self._task = asyncio.current_task()
        return [event.payload async for event in self._trigger.run()]

    def has_fired(self, *, within_seconds: float) -> bool:
        """Wait for its event for that long, and return whether it has fired."""
        with suppress(TimeoutError):
            self.payloads.result(within_seconds)
        return self.payloads.done()

    def cancel(self) -> None:
        """Cancel it, as Airflow does when the trigger moves or its task no longer waits, and wait for its end."""

        async def cancelled() -> None:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=10)

        self._triggerer.run(cancelled()).result(20)

    def kill(self) -> None:
        """Cancel it and call its ``on_kill``, as Airflow does after a user's action, or if a trigger only moves."""
        self.cancel()
        self._triggerer.run(self._trigger.on_kill()).result(30)


@dataclass
class Deferred:
    """A try that waits in a triggerer."""

    arguments: dict[str, Any]
    method: str
    ti: FakeTaskInstance
    seen: SeenTaskInstance
    log: logging.Logger

    def trigger(self) -> ArroyoPipelineTrigger:
        """Return the trigger as a triggerer rebuilds it from Airflow's database."""
        trigger = log_to(ArroyoPipelineTrigger(**json.loads(json.dumps(self.arguments))), self.log)
        trigger.task_instance = self.seen
        assert isinstance(trigger, ArroyoPipelineTrigger)
        return trigger


@dataclass
class Succeeded:
    """A try that succeeded."""

    result: dict[str, Any]
    state: ClassVar[str] = "success"


@dataclass
class Failed:
    """A try that failed.

    :param error: what it raised; :class:`KilledError` where it was killed.
    """

    error: BaseException

    @property
    def is_fatal(self) -> bool:
        """Whether Airflow would not retry it, so that a user has to clear it."""
        return isinstance(self.error, ArroyoFatalTaskError)

    @property
    def state(self) -> str:
        """The state that the task then has in Airflow."""
        return "failed" if self.is_fatal else "up_for_retry"


def log_to(thing: Any, log: logging.Logger) -> Any:
    """Set the logger of an operator or a trigger, and return the operator or trigger."""
    # Airflow keeps an operator's logger under one name and a trigger's under the other.
    thing._log = thing._cached_logger = log
    return thing


class Worker:
    """Runs the two halves of a try.

    :param make: returns a new operator.
    :param ti: the task instance.
    :param log: gets the log lines of operators and triggers.
    """

    def __init__(self, make: MakeOperator, ti: FakeTaskInstance, log: logging.Logger) -> None:
        self._make = make
        self._ti = ti
        self._log = log
        self.operator: Any = None
        """The operator of the half that ran last."""

    def begin(
        self, *, crash_at_request: int | None = None, after_response: bool = False
    ) -> Succeeded | Failed | Deferred:
        """Run ``execute``.

        :param crash_at_request, after_response: as for :func:`.crash_at`.
        """
        try:
            return self._run(
                lambda operator: operator.execute({"ti": self._ti}), crash_at_request, after_response
            )
        except TaskDeferred as deferred:
            _, arguments = deferred.trigger.serialize()
            return Deferred(
                arguments=json.loads(json.dumps(arguments)),
                method=deferred.method_name,
                ti=self._ti,
                seen=SeenTaskInstance(self._ti),
                log=self._log,
            )

    def resume(
        self,
        deferred: Deferred,
        payload: Any,
        *,
        crash_at_request: int | None = None,
        after_response: bool = False,
    ) -> Succeeded | Failed | Deferred:
        """Run the half that follows the event of the trigger."""
        event = json.loads(json.dumps(payload))
        return self._run(
            lambda operator: getattr(operator, deferred.method)({"ti": self._ti}, event=event),
            crash_at_request,
            after_response,
        )

    def _run(
        self, work: Callable[[Any], Any], crash_at_request: int | None, after_response: bool
    ) -> Succeeded | Failed:
        operator = self.operator = log_to(self._make(), self._log)
        try:
            with crash_at(crash_at_request, after_response=after_response):
                return Succeeded(work(operator))
        except TaskDeferred:
            raise
        except KilledError as err:
            return Failed(err)
        except Exception as err:  # noqa: BLE001  # the scenario counts every error
            self._log.error("%s: %s", type(err).__name__, err)
            return Failed(err)
