"""Runs a task as Airflow would, in each of its modes, without a scheduler: real operators, trigger and HTTP.

A deferral is converted to JSON twice, as in Airflow's database: the trigger's arguments, and its event. The resumed
half runs on a new operator, as in a new process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, XComResult
from airflow.triggers.base import TaskSuccessEvent

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.0
    from airflow.exceptions import AirflowRescheduleException

from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sensors.arroyo import (
    ArroyoCheckpointSensor,
    ArroyoMetricSensor,
    ArroyoPipelineSensor,
)
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from tests.support import ENDLESS, Lines

Make = Callable[..., Any]
"""Makes an operator from the arguments that a mode sets."""

SYNC = "sync"
DEFERRED = "deferred"
DEFERRED_LATE = "deferred late"
RESCHEDULE = "reschedule"
FROM_TRIGGER = "end from trigger"

OPERATOR_MODES = (SYNC, DEFERRED, DEFERRED_LATE)
SENSOR_MODES = (*OPERATOR_MODES, RESCHEDULE, FROM_TRIGGER)


def submit(query: str = ENDLESS, **more: Any) -> Make:
    """Return a factory for a task that submits the pipeline ``orders``."""
    given = {"pipeline_name": "orders", "query": query, "stable_for": 0.3, "timeout": 60, **more}
    return lambda **mode: ArroyoSubmitPipelineOperator(task_id="a_task", **{**given, **mode})


def deploy(query: str = ENDLESS, **more: Any) -> Make:
    """Return a factory for a task that deploys the pipeline ``orders``."""
    given = {
        "pipeline_name": "orders",
        "query": query,
        "checkpoint_interval": 1,
        "stable_for": 0.3,
        "timeout": 60,
        "rollback_timeout": 60,
        "allow_state_loss": True,
        **more,
    }
    return lambda **mode: ArroyoDeployPipelineOperator(task_id="a_task", **{**given, **mode})


def sense(pipeline_id: str | None = None, *states: str, **more: Any) -> Make:
    """Return a factory for a sensor for these states."""
    given = {
        "pipeline_id": pipeline_id,
        "timeout": 60,
        **({"target_states": states} if states else {}),
        **more,
    }
    return lambda **mode: ArroyoPipelineSensor(task_id="a_task", **{**given, **mode})


def sense_checkpoint(pipeline_id: str | None = None, **more: Any) -> Make:
    """Return a factory for a checkpoint sensor."""
    given = {"pipeline_id": pipeline_id, "timeout": 60, **more}
    return lambda **mode: ArroyoCheckpointSensor(task_id="a_task", **{**given, **mode})


def sense_metric(pipeline_id: str | None = None, **more: Any) -> Make:
    """Return a factory for a metric sensor."""
    given = {"pipeline_id": pipeline_id, "timeout": 60, **more}
    return lambda **mode: ArroyoMetricSensor(task_id="a_task", **{**given, **mode})


def stop(pipeline_id: str | None, **more: Any) -> Make:
    """Return a factory for a task that stops a pipeline."""
    given = {"pipeline_id": pipeline_id, "timeout": 60, **more}
    return lambda **mode: ArroyoStopPipelineOperator(task_id="a_task", **{**given, **mode})


class StateStore(dict[str, Any]):
    """The part of Airflow's state store of a task, or of an asset, that we use."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    async def aget(self, key: str, default: Any = None) -> Any:
        await asyncio.sleep(0)
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.set(key, value)


@dataclass
class FakeTaskInstance:
    """The part of Airflow's task instance that our tasks use."""

    dag_id: str = "a_dag"
    task_id: str = "a_task"
    run_id: str = "a_run"
    map_index: int = -1
    try_number: int = 1
    max_tries: int | None = None
    state: str | None = "running"
    xcoms: dict[str, Any] = field(default_factory=dict)
    first_reschedule_date: datetime | None = None
    run_start_date: datetime | None = None
    run_after: datetime | None = None
    clear_number: int = 0
    state_store: StateStore | None = None
    """The state that Airflow 3.3 and later store between the tries of a task; None before 3.3."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        # Without an index, Airflow returns the values of all mapped instances.
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule_date

    def get_task_states(self, dag_id: str, run_ids: list[str], **question: Any) -> dict[str, Any]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        key = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        return {self.run_id: {key: self.state}}


def context(ti: FakeTaskInstance | None = None) -> Any:
    """Return the part of Airflow's context that our tasks use."""
    ti = ti or FakeTaskInstance()
    store = {} if ti.state_store is None else {"task_state_store": ti.state_store}
    dag_run = SimpleNamespace(
        start_date=ti.run_start_date, run_after=ti.run_after, clear_number=ti.clear_number
    )
    return {"ti": ti, "dag_run": dag_run, **store}


@dataclass
class Ended:
    """How a task ended.

    :param result: its return value; None if it raised.
    :param error: the exception that it raised.
    :param lines: its log lines: level and text.
    :param deferrals: how often it deferred.
    :param pokes: how often a rescheduled sensor was poked.
    """

    result: Any = None
    error: BaseException | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: int = 0
    pokes: int = 0

    def texts(self, *levels: str) -> list[str]:
        """Return the logged texts of some levels, or of all."""
        return [text for level, text in self.lines if not levels or level in levels]

    def changes(self) -> list[str]:
        """Return the lines about changes of state, without durations."""
        return [re.sub(r" after [^:]*: ", ": ", text) for text in self.texts() if _CHANGE.match(text)]

    def states(self) -> list[str]:
        """Return the logged states, in order."""
        return [text.split(": ")[0].split(" → ")[-1] for text in self.changes()]


_CHANGE = re.compile(r"[A-Z]\w+( → [A-Z]\w+ after [^:]*)?: .* \((run \d|no run)")


def recording(lines: list[tuple[str, str]]) -> logging.Logger:
    logger = logging.Logger("tests.tasks", logging.INFO)
    handler = Lines()
    handler.lines = lines
    # Airflow's own line, since there is no task runner.
    handler.addFilter(lambda record: "outside of the Task Runner" not in record.getMessage())
    logger.addHandler(handler)
    return logger


async def fire(trigger: ArroyoPipelineTrigger) -> list[Any]:
    """Run a trigger and return the payloads of its events."""
    return [event.payload async for event in trigger.run()]


def run_task(make: Make, mode: str, ti: FakeTaskInstance | None = None) -> Ended:
    """Run a task in one of the modes.

    :param make: makes the operator from the arguments that the mode sets.
    """
    ti = ti or FakeTaskInstance()
    ended = Ended(xcoms=ti.xcoms)
    log = recording(ended.lines)
    try:
        if mode == RESCHEDULE:
            ended.result = _rescheduled(make, ti, log, ended)
        elif mode == SYNC:
            ended.result = quiet(make(deferrable=False), log).execute(context(ti))
        else:
            arguments = {"deferrable": True, "defer_after": 0.5 if mode == DEFERRED_LATE else 0.0}
            if mode == FROM_TRIGGER:
                arguments["end_from_trigger"] = True
            ended.result = _deferred(make, arguments, ti, log, ended)
    except BaseException as err:  # Airflow's timeouts are not Exceptions
        if isinstance(err, KeyboardInterrupt):
            raise
        ended.error = err
    return ended


@contextmanager
def supervisor(ti: FakeTaskInstance) -> Iterator[None]:
    """Store the XComs that triggers push, and return them."""

    class Comms:
        async def asend(self, message: Any) -> Any:
            where = (message.dag_id, message.task_id, message.run_id, message.map_index)
            assert where == (ti.dag_id, ti.task_id, ti.run_id, ti.map_index)
            if isinstance(message, GetXCom):
                return XComResult(key=message.key, value=ti.xcoms.get(message.key))
            ti.xcom_push(message.key, message.value)
            return None

    with mock.patch.object(task_runner, "SUPERVISOR_COMMS", Comms(), create=True):
        yield


def quiet(operator: Any, log: logging.Logger) -> Any:
    """Make an operator or a trigger log to this logger only."""
    # Airflow keeps an operator's logger under one name and a trigger's under the other.
    operator._log = operator._cached_logger = log
    return operator


def defer(operator: Any, ti: FakeTaskInstance | None = None) -> ArroyoPipelineTrigger:
    """Run a task until it defers; return the trigger as the triggerer gets it."""
    try:
        operator.execute(context(ti))
    except TaskDeferred as deferred:
        return rebuilt(deferred.trigger)
    raise AssertionError("the task did not defer")


def rebuilt(trigger: Any) -> ArroyoPipelineTrigger:
    """Return a trigger as Airflow restores it from its database."""
    path, arguments = trigger.serialize()
    assert path == f"{ArroyoPipelineTrigger.__module__}.{ArroyoPipelineTrigger.__qualname__}"
    return ArroyoPipelineTrigger(**json.loads(json.dumps(arguments)))


def _deferred(
    make: Make, arguments: dict[str, Any], ti: FakeTaskInstance, log: logging.Logger, ended: Ended
) -> Any:
    method, event = "execute", None
    while True:
        # Each half runs in its own process.
        operator = quiet(make(**arguments), log)
        try:
            if event is None:
                return operator.execute(context(ti))
            return getattr(operator, method)(context(ti), event=json.loads(json.dumps(event)))
        except TaskDeferred as deferred:
            ended.deferrals += 1
            trigger = quiet(rebuilt(deferred.trigger), log)
            trigger.task_instance = ti
            asks = arguments.get("end_from_trigger") or (trigger.plan or {}).get("restart_window")
            with supervisor(ti) if asks else nullcontext():
                (event,) = asyncio.run(fire(trigger))
            if event == TaskSuccessEvent().payload:
                return ti.xcoms.get("return_value")
            method = deferred.method_name


def _rescheduled(make: Make, ti: FakeTaskInstance, log: logging.Logger, ended: Ended) -> Any:
    while True:
        sensor = quiet(make(**{"deferrable": False, "mode": "reschedule", "poke_interval": 0.1}), log)
        ended.pokes += 1
        try:
            return sensor.execute(context(ti))
        except AirflowRescheduleException as reschedule:
            now = datetime.now(UTC)
            ti.first_reschedule_date = ti.first_reschedule_date or now
            time.sleep(max(0.0, min(0.1, (reschedule.reschedule_date - now).total_seconds())))
