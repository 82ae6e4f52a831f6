"""An Airflow in miniature: workers that run tries, triggerers that run waits, and a task's state in between.

It does to a task what Airflow 3.3 does: arguments and events cross JSON, the resumed half runs on a fresh
operator, a trigger that is cleared or taken over is cancelled and has its ``on_kill`` called, late.
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

from airflow_provider_arroyo.hooks import letting_go
from airflow_provider_arroyo.hooks.errors import ArroyoTaskFailed
from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger
from tests.tasks.harness import FakeTaskInstance

from .mortals import Killed, mortal

T = TypeVar("T")

MakeOperator = Callable[[], Any]


@contextmanager
def states_of_tasks() -> Iterator[None]:
    """Let triggers ask a fake task instance, where they would ask Airflow, for the state of their task."""

    async def answer(told: ToldTaskInstance) -> tuple[str | None, dict[str, Any]]:
        state = told.now.state
        await asyncio.sleep(0)
        return state, told.now.xcoms.get(letting_go.WAIT_XCOM_KEY, {})

    with mock.patch.object(letting_go, "_state_and_note_async", answer):
        yield


class ToldTaskInstance:
    """What a trigger is told of its task instance when it begins, and keeps, whatever becomes of the task.

    :param ti: the task instance.
    """

    def __init__(self, ti: FakeTaskInstance) -> None:
        self.now = ti
        """Where Airflow would be asked."""
        self.dag_id, self.task_id, self.run_id = ti.dag_id, ti.task_id, ti.run_id
        self.map_index, self.try_number = ti.map_index, ti.try_number


class Triggerer:
    """One event loop in a thread, on which waits run."""

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
        """Begin some work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def start(self, trigger: ArroyoPipelineTrigger) -> Running:
        """Begin a trigger's wait."""
        return Running(self, trigger)


class Running:
    """A trigger at work.

    :param triggerer: where.
    :param trigger: which.
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
        """Wait for its event, and return whether it came in time."""
        with suppress(TimeoutError):
            self.payloads.result(within_seconds)
        return self.payloads.done()

    def cancel(self) -> None:
        """Cancel it, as Airflow does when it is moved, taken over or not wanted any more; return when it is out."""

        async def cancelled() -> None:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=10)

        self._triggerer.run(cancelled()).result(20)

    def kill(self) -> None:
        """Cancel it and call its ``on_kill``, as Airflow does for a user's action, and also by mistake."""
        self.cancel()
        self._triggerer.run(self._trigger.on_kill()).result(30)


@dataclass
class Deferred:
    """A task that waits in a triggerer."""

    arguments: dict[str, Any]
    method: str
    ti: FakeTaskInstance
    told: ToldTaskInstance
    log: logging.Logger

    def trigger(self) -> ArroyoPipelineTrigger:
        """Return the trigger, as a triggerer rebuilds it from what is stored."""
        trigger = quiet(ArroyoPipelineTrigger(**json.loads(json.dumps(self.arguments))), self.log)
        trigger.task_instance = self.told
        assert isinstance(trigger, ArroyoPipelineTrigger)
        return trigger


@dataclass
class Green:
    """A task that succeeded."""

    result: dict[str, Any]
    state: ClassVar[str] = "success"


@dataclass
class Red:
    """A try that failed, and how.

    :param error: what it raised; :class:`Killed` where it was killed.
    """

    error: BaseException

    @property
    def is_for_good(self) -> bool:
        """Whether Airflow would not retry it, so that a person has to clear it."""
        return isinstance(self.error, ArroyoTaskFailed)

    @property
    def state(self) -> str:
        """The state that Airflow then gives to the task."""
        return "failed" if self.is_for_good else "up_for_retry"


def quiet(thing: Any, log: logging.Logger) -> Any:
    """Give an operator or a trigger another logger, and return it."""
    # Airflow keeps an operator's logger under one name and a trigger's under the other.
    thing._log = thing._cached_logger = log
    return thing


class Worker:
    """Runs the two halves of a try.

    :param make: makes the operator anew.
    :param ti: the task instance.
    :param log: gets what the operators and triggers say.
    """

    def __init__(self, make: MakeOperator, ti: FakeTaskInstance, log: logging.Logger) -> None:
        self._make = make
        self._ti = ti
        self._log = log
        self.operator: Any = None
        """The operator of the half that ran last."""

    def begin(self, *, calls: int | None = None, after: bool = False) -> Green | Red | Deferred:
        """Run ``execute``.

        :param calls: after how many calls it is killed; None: never.
        :param after: whether it is killed when the last one was answered.
        """
        try:
            return self._run(lambda operator: operator.execute({"ti": self._ti}), calls, after)
        except TaskDeferred as deferred:
            _, arguments = deferred.trigger.serialize()
            return Deferred(
                arguments=json.loads(json.dumps(arguments)),
                method=deferred.method_name,
                ti=self._ti,
                told=ToldTaskInstance(self._ti),
                log=self._log,
            )

    def resume(
        self, deferred: Deferred, payload: Any, *, calls: int | None = None, after: bool = False
    ) -> Green | Red | Deferred:
        """Run the half that follows a trigger's event."""
        event = json.loads(json.dumps(payload))
        return self._run(
            lambda operator: getattr(operator, deferred.method)({"ti": self._ti}, event=event), calls, after
        )

    def _run(self, work: Callable[[Any], Any], calls: int | None, after: bool) -> Green | Red:
        operator = self.operator = quiet(self._make(), self._log)
        try:
            with mortal(calls, after=after):
                return Green(work(operator))
        except TaskDeferred:
            raise
        except Killed as err:
            return Red(err)
        except Exception as err:  # noqa: BLE001  # whatever it is, it is looked at
            self._log.error("%s: %s", type(err).__name__, err)
            return Red(err)
