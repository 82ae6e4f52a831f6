"""What becomes of a pipeline when its task ends: every state of the task, every state of the pipeline."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, XComResult

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.models import Job, StopMode
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.hooks.letting_go import (
    ENDED_STATES,
    WAIT_XCOM_KEY,
    let_go,
    let_go_async,
    noted_wait,
    state_in,
)
from airflow_provider_arroyo.monitoring.watched import Watched
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock

ENDLESS = """\
CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM impulse;"""

ENDED = ["failed", "success", "skipped", "upstream_failed", "removed"]
NOT_ENDED = [
    "running",
    "deferred",
    "queued",
    "scheduled",
    "up_for_retry",
    "up_for_reschedule",
    "restarting",
    "awaiting_input",
    None,
]


class DeadlockImminentError(BaseException):
    """As Airflow's own: it is no Exception."""


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))

    def only(self) -> tuple[str, str]:
        (line,) = self.lines
        return line


@dataclass
class TaskInstance:
    """A task instance, and the supervisor that knows its state.

    :param answer: its state; an exception is raised instead.
    :param try_number: which try this is.
    :param noted: what the try that noted its wait last wrote down; None: this one did.
    :param hangs: set to let the answer come.
    """

    answer: Any = "running"
    map_index: int | None = -1
    try_number: int = 2
    noted: Any = None
    dag_id: str = "orders"
    task_id: str = "submit"
    run_id: str = "manual__1"
    hangs: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def get_task_states(self, **question: Any) -> dict[str, Any]:
        self.asked.append(question)
        if self.hangs is not None:
            self.hangs.wait(20)
        if isinstance(self.answer, BaseException):
            raise self.answer
        # What was cleared has no state, and Airflow then names no task, or gives it none.
        key = "submit" if self.map_index in (-1, None) else f"submit_{self.map_index}"
        return {self.run_id: {key: self.answer}}

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, key) == ("submit", WAIT_XCOM_KEY)
        assert map_indexes == (-1 if self.map_index is None else self.map_index)
        if isinstance(self.noted, BaseException):
            raise self.noted
        return {"try_number": self.try_number} if self.noted is None else self.noted

    async def asend(self, message: Any) -> Any:
        if isinstance(message, GetXCom):
            assert (message.dag_id, message.run_id) == (self.dag_id, self.run_id)
            value = self.xcom_pull(
                task_ids=message.task_id,
                key=message.key,
                map_indexes=-1 if message.map_index is None else message.map_index,
            )
            return XComResult(key=message.key, value=value)
        question = message.model_dump(exclude_none=True, exclude={"type"})
        states = await asyncio.to_thread(self.get_task_states, **question)
        return SimpleNamespace(task_states=states)


class Bench:
    """A pipeline that runs, a task that watched it, and both ways to let it go."""

    def __init__(
        self, sandbox: ArroyoSandbox, mode: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.sandbox = sandbox
        self.mode = mode
        self.lines = lines
        self._log = logging.Logger("tests.letting_go")
        self._log.addHandler(lines)
        self._monkeypatch = monkeypatch
        self.settings = ClientSettings(base_url=sandbox.url)
        self.client = ArroyoClient(self.settings)
        self.pipeline_id = self.client.create_pipeline(PipelineSpec(name="orders", query=ENDLESS)).id
        sandbox.advance(5)
        self.watched = Watched(pipeline_id=self.pipeline_id, label="Pipeline 'orders'", job=self.job())
        self.opened: list[ArroyoAsyncClient] = []
        sandbox.requests.clear()

    def job(self) -> Job:
        (job,) = self.client.call(api.pipeline_jobs(self.pipeline_id))
        return job

    async def connect(self) -> ArroyoAsyncClient:
        self.opened.append(ArroyoAsyncClient(self.settings))
        return self.opened[-1]

    def let_go(
        self,
        ti: Any,
        *,
        stop: StopMode | None = StopMode.CHECKPOINT,
        watched: Watched | None = None,
        is_timeout: bool = False,
        connect: Callable[[], Any] | None = None,
        limit_seconds: float = 5.0,
    ) -> bool:
        self.sandbox.requests.clear()
        if self.mode == "worker":
            return let_go(
                client=self.client,
                watched=watched or self.watched,
                mode=stop,
                ti=ti,
                is_timeout=is_timeout,
                log=self._log,
                limit_seconds=limit_seconds,
            )
        self._monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", ti, raising=False)
        return asyncio.run(
            let_go_async(
                connect=connect or self.connect,
                watched=watched or self.watched,
                mode=stop,
                ti=ti,
                log=self._log,
                limit_seconds=limit_seconds,
            )
        )

    def changes(self) -> list[Any]:
        """Return what was asked of Arroyo that changes something."""
        return [
            (request.method, request.json) for request in self.sandbox.requests if request.method != "GET"
        ]


@pytest.fixture
def sandbox() -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(clock=ManualClock(), seed=3) as made:
        yield made


@pytest.fixture(params=["worker", "triggerer"])
def bench(
    request: pytest.FixtureRequest, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    made = Bench(sandbox, request.param, Lines(), monkeypatch)
    yield made
    made.client.close()


@pytest.fixture
def worker(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(sandbox, "worker", Lines(), monkeypatch)
    yield made
    made.client.close()


@pytest.fixture
def triggerer(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(sandbox, "triggerer", Lines(), monkeypatch)
    yield made
    made.client.close()


# -- the task --------------------------------------------------------------------------------------------------


def test_table_of_states_is_whole() -> None:
    assert frozenset(ENDED) == ENDED_STATES
    from airflow.utils.state import TaskInstanceState

    of_airflow = {state.value for state in TaskInstanceState}
    assert of_airflow <= {*ENDED, *NOT_ENDED}, "a new state of Airflow's: is a task ended in it?"


@pytest.mark.parametrize("stop", [mode for mode in StopMode if mode is not StopMode.NONE])
@pytest.mark.parametrize("state", ENDED)
def test_task_that_was_ended_stops_its_pipeline(bench: Bench, state: str, stop: StopMode) -> None:
    assert bench.let_go(TaskInstance(state), stop=stop)
    assert bench.changes() == [("PATCH", {"stop": stop.value})]
    assert bench.lines.only() == (
        "WARNING",
        f"Pipeline 'orders' was asked to stop ({stop.value}), because its task ended",
    )


@pytest.mark.parametrize("state", NOT_ENDED)
def test_task_that_was_not_ended_stops_nothing(bench: Bench, state: str | None) -> None:
    assert not bench.let_go(TaskInstance(state))
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    assert "goes on" in text
    if bench.mode == "worker":
        assert (level, f"its state in Airflow is {state}" in text) == ("WARNING", True)
    elif state == "deferred":
        assert text == "The wait goes on in another triggerer. Pipeline 'orders' goes on"
    else:
        assert f"The task of this wait is {state or 'cleared'} now" in text
    if state != "deferred":
        assert "ArroyoStopPipelineOperator" in text


@pytest.mark.parametrize("state", [*ENDED, *NOT_ENDED])
def test_without_a_policy_nothing_is_stopped(bench: Bench, state: str | None) -> None:
    assert not bench.let_go(TaskInstance(state), stop=None)
    assert bench.sandbox.requests.total == 0
    assert "goes on" in bench.lines.only()[1]


def test_time_that_is_up_needs_no_question(worker: Bench) -> None:
    ti = TaskInstance("running")
    assert worker.let_go(ti, is_timeout=True)
    assert ti.asked == []
    assert worker.changes() == [("PATCH", {"stop": "checkpoint"})]


@pytest.mark.parametrize(
    "noted", [{"try_number": 3}, {"try_number": 1}, {"try_number": None}, {}, "x", 5, []]
)
@pytest.mark.parametrize("state", ENDED)
def test_end_of_another_try_stops_nothing(bench: Bench, state: str, noted: Any) -> None:
    """After a clear, the old try is killed late, and the new one may have succeeded by then."""
    assert not bench.let_go(TaskInstance(state, noted=noted))
    assert bench.sandbox.requests.total == 0
    assert "a later" in bench.lines.only()[1]
    assert "goes on" in bench.lines.only()[1]


@pytest.mark.parametrize("state", ENDED)
def test_end_of_a_task_that_came_to_it_by_itself_stops_nothing(bench: Bench, state: str) -> None:
    """Another triggerer's event resumed it; this one is told to end its wait when all is done."""
    assert not bench.let_go(TaskInstance(state, noted={"try_number": 2, "is_over": True}))
    assert bench.sandbox.requests.total == 0
    assert "its own end already" in bench.lines.only()[1]
    assert "goes on" in bench.lines.only()[1]


def test_note_that_cannot_be_read_stops_nothing(bench: Bench) -> None:
    assert not bench.let_go(TaskInstance("failed", noted=RuntimeError("no XCom")))
    assert bench.sandbox.requests.total == 0
    assert "cannot be told" in bench.lines.only()[1]


@pytest.mark.parametrize("noted", ["x", 5, []])
def test_note_of_another_shape_is_none(noted: Any) -> None:
    assert noted_wait(TaskInstance(noted=noted)) == {}
    assert noted_wait(TaskInstance(noted={"a": 1})) == {"a": 1}


@pytest.mark.parametrize("map_index", [-1, None, 0, 7])
def test_mapped_tasks_ask_for_themselves(bench: Bench, map_index: int | None) -> None:
    ti = TaskInstance("failed", map_index=map_index)
    assert bench.let_go(ti)
    (question,) = ti.asked
    assert question == {
        "dag_id": "orders",
        "task_ids": ["submit"],
        "run_ids": ["manual__1"],
        **({} if map_index in (-1, None) else {"map_index": map_index}),
    }


@pytest.mark.parametrize(
    "answer, state",
    [
        ({"manual__1": {"submit": "failed"}}, "failed"),
        ({"manual__1": {"submit": None}}, None),
        ({"manual__1": {"submit_0": "failed"}}, None),
        ({"manual__1": {}}, None),
        ({"manual__2": {"submit": "failed"}}, None),
        ({}, None),
    ],
)
def test_state_in_airflows_answer(answer: Any, state: str | None) -> None:
    assert state_in(answer, TaskInstance()) == state


def test_state_that_is_an_enum() -> None:
    from airflow.utils.state import TaskInstanceState

    assert state_in({"manual__1": {"submit": TaskInstanceState.FAILED}}, TaskInstance()) == "failed"


# -- the pipeline ----------------------------------------------------------------------------------------------


def _stopped(bench: Bench) -> None:
    bench.sandbox.faults.stop(bench.pipeline_id)
    bench.sandbox.advance(5)


def _asked_to_stop(bench: Bench) -> None:
    bench.client.call(api.patch_pipeline(bench.pipeline_id, stop=StopMode.GRACEFUL))


def _restarted(bench: Bench) -> None:
    bench.client.call(api.restart_pipeline(bench.pipeline_id))
    bench.sandbox.advance(5)


def _failed(bench: Bench) -> None:
    bench.sandbox.faults.fail(bench.pipeline_id)
    bench.sandbox.advance(10)


def _resumed_by_somebody(bench: Bench) -> None:
    _stopped(bench)
    bench.client.call(api.patch_pipeline(bench.pipeline_id, stop=StopMode.NONE))
    bench.sandbox.advance(5)


@pytest.mark.parametrize(
    "arrange, why",
    [
        (_stopped, "it does not run any more"),
        (_failed, "it does not run any more"),
        (_asked_to_stop, "it was asked to stop already"),
        (_restarted, "it is at run 2 of"),
        (_resumed_by_somebody, "it is at run 2 of"),
    ],
)
def test_pipeline_that_is_another_run_now_is_left_alone(
    bench: Bench, arrange: Callable[[Bench], None], why: str
) -> None:
    arrange(bench)
    assert not bench.let_go(TaskInstance("failed"))
    assert bench.changes() == []
    level, text = bench.lines.only()
    assert (level, text.startswith(f"Pipeline 'orders' is not stopped: {why}")) == ("WARNING", True)


def test_another_job_of_the_pipeline_is_left_alone(bench: Bench) -> None:
    assert bench.watched.job is not None
    watched = replace(bench.watched, job=replace(bench.watched.job, id="job_of_old"))
    assert not bench.let_go(TaskInstance("failed"), watched=watched)
    assert bench.changes() == []
    assert "this task watched run 1 of job_of_old" in bench.lines.only()[1]


def test_pipeline_that_was_never_seen_is_left_alone(bench: Bench) -> None:
    assert not bench.let_go(TaskInstance("failed"), watched=replace(bench.watched, job=None))
    assert bench.changes() == []
    assert "this task never saw it run" in bench.lines.only()[1]


def test_pipeline_that_is_gone(bench: Bench) -> None:
    bench.sandbox.faults.delete(bench.pipeline_id)
    assert not bench.let_go(TaskInstance("failed"))
    assert bench.changes() == []
    assert bench.lines.only()[0] == "ERROR"
    assert "did not get through" in bench.lines.only()[1]


def test_first_run_of_what_was_seen_before_it_was_scheduled(bench: Bench) -> None:
    assert bench.watched.job is not None
    watched = replace(bench.watched, job=replace(bench.watched.job, state="Created", run_id=0))
    assert bench.let_go(TaskInstance("failed"), watched=watched)


# -- what can go wrong on the way ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no line"), OSError("broken pipe"), TypeError("x"), DeadlockImminentError("imminent")],
)
def test_airflow_that_does_not_answer_well_stops_nothing(bench: Bench, error: BaseException) -> None:
    assert not bench.let_go(TaskInstance(error))
    assert bench.sandbox.requests.total == 0
    level, text = bench.lines.only()
    assert level == "WARNING"
    assert "cannot be told" in text
    assert str(error) in text
    assert "goes on; stop it with" in text


@pytest.mark.parametrize("answer", [None, [], "failed", {"manual__1": None}])
def test_answer_of_another_shape_stops_nothing(worker: Bench, answer: Any) -> None:
    ti = SimpleNamespace(
        dag_id="orders",
        task_id="submit",
        run_id="manual__1",
        map_index=-1,
        get_task_states=lambda **_: answer,
    )
    assert not worker.let_go(ti)
    assert worker.sandbox.requests.total == 0
    assert "cannot be told" in worker.lines.only()[1]


def test_task_instance_that_cannot_be_asked(worker: Bench) -> None:
    assert not worker.let_go(None)
    assert "cannot be told" in worker.lines.only()[1]


def test_airflow_that_never_answers_is_given_up(bench: Bench) -> None:
    answer = threading.Event()

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    # Nobody answers before it has been given up: the line that is looked at below is logged by then.
    hanging: Any = TaskInstance("failed", hangs=answer)
    if bench.mode == "triggerer":
        hanging.asend = Supervisor().asend
    began = time.monotonic()
    assert not bench.let_go(hanging, limit_seconds=0.4)
    assert time.monotonic() - began < 2
    answer.set()
    assert bench.changes() == []
    assert "cannot be told" in bench.lines.only()[1]
    assert "no answer in" in bench.lines.only()[1]


async def test_question_that_takes_too_long_is_not_cancelled(
    triggerer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer's line to its supervisor is shared: who is cancelled there leaves his answer to the next."""
    answer, ended = asyncio.Event(), asyncio.Event()
    cancelled: list[bool] = []

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            try:
                await answer.wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            finally:
                ended.set()
            return SimpleNamespace(task_states={})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    stopped = await let_go_async(
        connect=triggerer.connect,
        watched=triggerer.watched,
        mode=StopMode.CHECKPOINT,
        ti=TaskInstance(),
        log=logging.getLogger("tests.letting_go"),
        limit_seconds=0.1,
    )
    assert not stopped
    assert not ended.is_set()
    answer.set()
    await asyncio.wait_for(ended.wait(), 5)
    assert cancelled == []


async def test_airflow_cancels_it_once_a_second_and_it_goes_on(
    triggerer: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    ti = TaskInstance("failed")

    class Supervisor:
        async def asend(self, message: Any) -> Any:
            asked.set()
            await answer.wait()
            return await ti.asend(message)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    letting_go = asyncio.ensure_future(
        let_go_async(
            connect=triggerer.connect,
            watched=triggerer.watched,
            mode=StopMode.CHECKPOINT,
            ti=ti,
            log=logging.getLogger("tests.letting_go"),
        )
    )
    await asked.wait()
    for _ in range(3):
        letting_go.cancel()
        await asyncio.sleep(0)
    answer.set()
    assert await letting_go
    assert triggerer.changes() == [("PATCH", {"stop": "checkpoint"})]


def test_arroyo_that_is_away(bench: Bench) -> None:
    bench.sandbox.faults.api_away()
    assert not bench.let_go(TaskInstance("failed"), limit_seconds=0.6)
    level, text = bench.lines.only()
    assert level == "ERROR"
    assert "The stop of a task that ended did not get through" in text
    assert "stop it with ArroyoStopPipelineOperator" in text


def test_arroyo_that_hangs(bench: Bench) -> None:
    bench.sandbox.faults.hang(times=None)
    assert not bench.let_go(TaskInstance("failed"), limit_seconds=0.6)
    assert "did not get through" in bench.lines.only()[1]


def test_arroyo_that_stumbles(bench: Bench) -> None:
    bench.sandbox.faults.status(503, times=1)
    bench.sandbox.faults.reset(method="PATCH", after_effect=True)
    assert bench.let_go(TaskInstance("failed"))
    bench.sandbox.advance(5)
    assert bench.sandbox.state(bench.pipeline_id) == "Stopped"


def test_stop_is_not_waited_for(bench: Bench) -> None:
    bench.sandbox.faults.controller_away()
    assert bench.let_go(TaskInstance("failed"))
    assert bench.sandbox.state(bench.pipeline_id) == "Running"


@pytest.mark.parametrize(
    "error", [ArroyoSettingsError("no connection"), RuntimeError("secrets backend away")]
)
def test_connection_that_cannot_be_had(triggerer: Bench, error: Exception) -> None:
    async def connect() -> ArroyoAsyncClient:
        raise error

    assert not triggerer.let_go(TaskInstance("failed"), connect=connect)
    assert str(error) in triggerer.lines.only()[1]


def test_connection_that_hangs(triggerer: Bench) -> None:
    async def connect() -> ArroyoAsyncClient:
        await asyncio.sleep(20)
        raise AssertionError

    assert not triggerer.let_go(TaskInstance("failed"), connect=connect, limit_seconds=0.4)
    assert "did not get through: no answer in" in triggerer.lines.only()[1]


@pytest.mark.parametrize("fault", ["none", "away"])
def test_asynchronous_client_is_closed(triggerer: Bench, fault: str) -> None:
    if fault == "away":
        triggerer.sandbox.faults.api_away()
    triggerer.let_go(TaskInstance("failed"), limit_seconds=1)
    (client,) = triggerer.opened
    assert client._session is None
