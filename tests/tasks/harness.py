"""Runs a task as Airflow would, in each of its modes, without a scheduler: real operators, trigger and HTTP.

A deferral crosses JSON twice, as it does on its way through Airflow's database: the trigger's arguments, and
its event. The resumed half runs on a fresh operator, as it does in a fresh process.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.0
    from airflow.exceptions import AirflowRescheduleException

from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger

SYNC = "sync"
DEFERRED = "deferred"
DEFERRED_LATE = "deferred late"
RESCHEDULE = "reschedule"


@dataclass
class FakeTaskInstance:
    """What the tasks use of Airflow's task instance."""

    dag_id: str = "a_dag"
    task_id: str = "a_task"
    run_id: str = "a_run"
    map_index: int = -1
    try_number: int = 1
    state: str | None = "running"
    xcoms: dict[str, Any] = field(default_factory=dict)
    first_reschedule_date: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        # Airflow returns what all the mapped instances pushed where no index is asked for.
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule_date

    def get_task_states(self, dag_id: str, run_ids: list[str], **question: Any) -> dict[str, Any]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        key = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        return {self.run_id: {key: self.state}}


def context(ti: FakeTaskInstance | None = None) -> Any:
    """Return what Airflow hands to a task, as far as our tasks look into it."""
    return {"ti": ti or FakeTaskInstance()}


@dataclass
class Ended:
    """How a task ended.

    :param result: what it returned; None where it raised.
    :param error: what it raised.
    :param lines: what it logged, level and text.
    :param deferrals: how often it deferred.
    :param pokes: how often a rescheduled sensor came back.
    """

    result: Any = None
    error: BaseException | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: int = 0
    pokes: int = 0

    def changes(self) -> list[str]:
        """Return the lines about changes of state, without the times in them."""
        return [
            _without_times(text)
            for _, text in self.lines
            if " -> " in text or " is " in text.split(" (run")[0]
        ]

    def warnings(self) -> list[str]:
        """Return the texts of the warnings."""
        return [text for level, text in self.lines if level == "WARNING"]


def _without_times(text: str) -> str:
    before, found, after = text.partition(" after ")
    return before + " (run" + after.partition(" (run")[2] if found and " (run" in after else text


class _Recorder(logging.Handler):
    def __init__(self, lines: list[tuple[str, str]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelname, record.getMessage()))


@contextmanager
def _recording(lines: list[tuple[str, str]]) -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.tasks")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = _Recorder(lines)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


async def fire(trigger: ArroyoPipelineTrigger) -> list[Any]:
    """Run a trigger to its end and return the payloads of its events."""
    return [event.payload async for event in trigger.run()]


def run_task(make: Callable[..., Any], mode: str, ti: FakeTaskInstance | None = None) -> Ended:
    """Run a task to its end in one of the modes.

    :param make: makes the operator, given the arguments that the mode sets.
    """
    ti = ti or FakeTaskInstance()
    ended = Ended(xcoms=ti.xcoms)
    with _recording(ended.lines) as log:
        try:
            if mode == RESCHEDULE:
                ended.result = _rescheduled(make, ti, log, ended)
            elif mode == SYNC:
                ended.result = _quiet(make(deferrable=False), log).execute({"ti": ti})
            else:
                defer_after = 0.0 if mode == DEFERRED else 0.5
                ended.result = _deferred(
                    lambda: make(deferrable=True, defer_after=defer_after), ti, log, ended
                )
        except BaseException as err:  # Airflow's time-outs and skips are no Exceptions, and are looked at
            if isinstance(err, KeyboardInterrupt):
                raise
            ended.error = err
    return ended


def _quiet(operator: Any, log: logging.Logger) -> Any:
    # Airflow keeps an operator's logger under one name and a trigger's under the other.
    operator._log = operator._cached_logger = log
    return operator


def _deferred(make: Callable[[], Any], ti: FakeTaskInstance, log: logging.Logger, ended: Ended) -> Any:
    try:
        return _quiet(make(), log).execute({"ti": ti})
    except TaskDeferred as deferred:
        ended.deferrals += 1
        path, arguments = deferred.trigger.serialize()
        assert path == f"{ArroyoPipelineTrigger.__module__}.{ArroyoPipelineTrigger.__qualname__}"
        trigger = _quiet(ArroyoPipelineTrigger(**json.loads(json.dumps(arguments))), log)
        events = asyncio.run(fire(trigger))
        assert len(events) == 1
        resumed = _quiet(make(), log)
        method = getattr(resumed, deferred.method_name)
        return method({"ti": ti}, event=json.loads(json.dumps(events[0])))


def _rescheduled(make: Callable[..., Any], ti: FakeTaskInstance, log: logging.Logger, ended: Ended) -> Any:
    while True:
        sensor = _quiet(make(deferrable=False, mode="reschedule", poke_interval=0.1), log)
        ended.pokes += 1
        try:
            return sensor.execute({"ti": ti})
        except AirflowRescheduleException:
            ti.first_reschedule_date = ti.first_reschedule_date or datetime.now(UTC)
