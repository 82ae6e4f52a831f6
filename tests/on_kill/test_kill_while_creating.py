"""A task that ends while its pipeline is being created: the pipeline is found by its label and stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_arroyo import on_kill
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.on_kill import WatchedRun, has_ended, stop_on_kill
from airflow_provider_arroyo.pipelines.submit import Submission
from tests.chaos.crashing_client import crash_at, crashing_clients
from tests.on_kill.support import TaskInstance
from tests.pipelines.bench import SPEC, Bench, endpoint, open_bench
from tests.support import KilledError, Lines
from tests.tasks.harness import FakeTaskInstance, context, quiet, submit


@pytest.fixture(params=["0.15", "0.16"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with open_bench(request.param) as opened:
        yield opened


def _kill(
    bench: Bench,
    ti: TaskInstance,
    *,
    at: str,
    mode: StopMode | None = StopMode.CHECKPOINT,
    before: Callable[[requests.PreparedRequest], object] = lambda _: None,
    limit_seconds: float = 30.0,
    **more: Any,
) -> bool:
    """Submit, kill the task during its create, and return whether a stop was requested.

    :param at: ``before`` the create takes effect, or ``after`` it did; its response is not read in either case.
    """
    running: list[Submission] = []
    stopped: list[bool] = []
    run = Submission.run

    def kill(request: requests.PreparedRequest) -> None:
        creates = "POST /pipelines" if bench.version == "0.15" else "PUT /pipelines/"
        if not endpoint(request).startswith(creates):
            return
        before(request)
        bench.sandbox.requests.clear()
        pipeline = PipelineRef(pipeline_id="", name=SPEC.name)
        arguments: dict[str, Any] = {"ti": ti, "is_timeout": False, "log": bench.log, **more}
        arguments |= {"submission": running[0], "limit_seconds": limit_seconds}
        # Its limits are real time.
        with ArroyoClient(ClientSettings(base_url=bench.sandbox.url)) as client:
            stopped.append(stop_on_kill(client, WatchedRun(pipeline=pipeline), mode, **arguments))
        raise KilledError

    def noted(submission: Submission) -> Any:
        running.append(submission)
        return run(submission)

    def has_ended_in_time(ti: Any, _: float, *others: Any) -> bool:
        # Half of a short limit may not be enough for a thread on a busy machine.
        return has_ended(ti, 60.0, *others)

    hooks: dict[str, Any] = {at: kill}
    client = bench.new_client(**hooks)
    with (
        patch.object(Submission, "run", noted),
        patch.object(on_kill, "has_ended", has_ended_in_time),
        pytest.raises(KilledError),
    ):
        bench.submit(try_number=ti.try_number, client=client)
    return stopped[0]


def _changes(bench: Bench) -> list[Any]:
    return [request.json for request in bench.sandbox.requests if request.method == "PATCH"]


def test_a_pipeline_whose_create_is_pending_is_stopped(bench: Bench) -> None:
    assert _kill(bench, TaskInstance("failed"), at="after")
    assert _changes(bench) == [{"stop": "checkpoint"}]
    (pipeline,) = bench.pipelines()
    text = f"Stop requested (checkpoint), because its task ended: Pipeline {SPEC.name!r} ({pipeline.id})"
    assert text in bench.lines.text("WARNING")


def test_a_pipeline_that_appears_during_the_search_is_stopped(bench: Bench) -> None:
    def send_later(request: requests.PreparedRequest) -> None:
        threading.Timer(0.4, lambda: requests.Session().send(request, timeout=20)).start()

    assert _kill(bench, TaskInstance("failed"), at="before", before=send_later)
    assert _changes(bench) == [{"stop": "checkpoint"}]


def test_a_create_that_never_takes_effect_is_logged(bench: Bench) -> None:
    assert not _kill(bench, TaskInstance("failed"), at="before", limit_seconds=1.0)
    assert bench.pipelines() == []
    assert "ended before it had created its pipeline" in bench.lines.text("WARNING")
    assert (
        "it keeps running; stop it with ArroyoStopPipelineOperator(pipeline_name='orders"
        in bench.lines.text()
    )


def test_a_pipeline_of_another_try_is_left_alone(bench: Bench) -> None:
    def create_first(_: requests.PreparedRequest) -> None:
        bench.submit(try_number=1)

    assert not _kill(bench, TaskInstance("failed"), at="before", before=create_first, limit_seconds=1.0)
    assert _changes(bench) == []


@pytest.mark.parametrize("state", ["running", None])
def test_a_task_that_has_not_ended_stops_nothing(bench: Bench, state: str | None) -> None:
    assert not _kill(bench, TaskInstance(state), at="after")
    assert bench.sandbox.requests.total == 0
    assert "it keeps running" in bench.lines.text("WARNING")


def test_a_task_whose_later_try_has_begun_stops_nothing(bench: Bench) -> None:
    assert not _kill(bench, TaskInstance("failed", noted={"try_number": 3}), at="after")
    assert "a later try of its task has begun" in bench.lines.text("WARNING")


def test_without_stop_on_kill_nothing_is_stopped(bench: Bench) -> None:
    assert not _kill(bench, TaskInstance("failed"), at="after", mode=None)
    assert bench.sandbox.requests.total == 0
    assert "it keeps running" in bench.lines.text("INFO")


def test_a_timeout_stops_the_pipeline_without_asking_airflow(bench: Bench) -> None:
    ti = TaskInstance("running")
    assert _kill(bench, ti, at="after", is_timeout=True)
    assert ti.questions == []


@pytest.mark.parametrize("state, stop", [("failed", "checkpoint"), ("running", "none")])
@pytest.mark.parametrize("version, request_number", [("0.15", 3), ("0.16", 1)])
def test_an_operator_that_is_killed_during_its_create_stops_the_pipeline(
    version: str, request_number: int, state: str, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(version) as bench, crashing_clients():
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", bench.sandbox.airflow_connection_uri())
        ti = FakeTaskInstance()
        operator = submit(stop_on_kill="checkpoint")()
        with crash_at(request_number, after_response=True), pytest.raises(KilledError):
            operator.execute(context(ti))
        ti.state = state
        operator.on_kill()
        (pipeline,) = bench.pipelines()
        assert pipeline.stop == stop


def _create_that_takes_effect_later(bench: Bench, end: Callable[[], None]) -> Any:
    """Let the task end while its create is in progress."""
    send = requests.Session.send

    def late(session: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        creates = "POST /pipelines" if bench.version == "0.15" else "PUT /pipelines/"
        if threading.current_thread() is not threading.main_thread() or not endpoint(request).startswith(
            creates
        ):
            return send(session, request, **more)
        threading.Timer(0.6, lambda: requests.Session().send(request, timeout=20)).start()
        end()
        raise AssertionError

    return patch.object(requests.Session, "send", late)


def _before_the_wait(bench: Bench, end: Callable[[], None]) -> Any:
    return patch.object(
        FakeTaskInstance, "xcom_push", _ending(FakeTaskInstance.xcom_push, end, "pipeline_id")
    )


def _in_the_first_poll(bench: Bench, end: Callable[[], None]) -> Any:
    return patch.object(ArroyoClient, "get_job", _ending(ArroyoClient.get_job, end))


def _at_the_first_poll(bench: Bench, end: Callable[[], None]) -> Any:
    """However many requests about its job preceded it."""
    return patch.object(PipelineWait, "polled", _ending(PipelineWait.polled, end))


def _ending(
    method: Callable[..., Any], end: Callable[[], None], key: str | None = None
) -> Callable[..., Any]:
    """Return a method whose first call, or first call with a key, ends the task."""
    calls: list[int] = []

    def called(*args: Any, **more: Any) -> Any:
        if not calls and key in (None, more.get("key")):
            calls.append(1)
            end()
        return method(*args, **more)

    return called


def test_a_create_with_a_lost_response_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", bench.sandbox.airflow_connection_uri())
    monkeypatch.setitem(stop_on_kill.__kwdefaults__ or {}, "limit_seconds", 60.0)
    method = "POST" if bench.version == "0.15" else "PUT"
    bench.sandbox.faults.reset(method=method, path="*/pipelines*", after_effect=True)
    ti = FakeTaskInstance()
    operator = submit(stop_on_kill="checkpoint")()

    def end() -> None:
        ti.state = "failed"
        operator.on_kill()
        raise KilledError

    with _at_the_first_poll(bench, end), pytest.raises(KilledError):
        operator.execute(context(ti))
    (pipeline,) = bench.pipelines()
    assert pipeline.stop == "checkpoint"


def _end_at(
    moment: Callable[..., Any], bench: Bench, operator: Any, ti: FakeTaskInstance, *, is_timeout: bool
) -> Any:
    """Run a task that Airflow's alarm or signal ends at a given point, and return the only pipeline."""

    def end() -> None:
        if is_timeout:
            raise AirflowTaskTimeout
        ti.state = "failed"
        operator.on_kill()
        operator.on_kill()
        raise KilledError

    with moment(bench, end), pytest.raises(AirflowTaskTimeout if is_timeout else KilledError):
        operator.execute(context(ti))
    if is_timeout:
        operator.on_kill()
    (pipeline,) = bench.pipelines()
    return pipeline


@pytest.mark.parametrize("moment", [_before_the_wait, _at_the_first_poll])
@pytest.mark.parametrize("is_timeout", [True, False])
def test_an_adopted_pipeline_that_never_ran_is_left_alone(
    is_timeout: bool,
    moment: Callable[..., Any],
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log names the pipeline that keeps running."""
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", bench.sandbox.airflow_connection_uri())
    submit(wait_for=None)().execute(context(FakeTaskInstance()))
    bench.sandbox.advance(5)
    ti, lines = FakeTaskInstance(try_number=2), Lines()
    logger = logging.Logger("tests.adopted")
    logger.addHandler(lines)
    operator = quiet(submit(stop_on_kill="checkpoint", execution_timeout=timedelta(hours=1))(), logger)

    pipeline = _end_at(moment, bench, operator, ti, is_timeout=is_timeout)
    assert pipeline.stop == "none"
    text = f"Pipeline 'orders' ({pipeline.id}) is not stopped: this task never saw it run"
    assert lines.text("WARNING").count(text) == 1
    assert "before it had created" not in lines.text()


def _while_it_is_replaced(bench: Bench, end: Callable[[], None]) -> Any:
    return patch.object(ArroyoClient, "delete_pipeline", _ending(ArroyoClient.delete_pipeline, end))


@pytest.mark.parametrize(
    "moment, on_existing",
    [(_in_the_first_poll, "adopt"), (_in_the_first_poll, "replace"), (_while_it_is_replaced, "replace")],
)
@pytest.mark.parametrize("is_timeout, mode", [(True, "checkpoint"), (False, "checkpoint"), (False, None)])
@pytest.mark.parametrize("bench", ["0.16"], indirect=True)
def test_a_task_that_ends_while_it_adopts_stops_nothing(
    mode: str | None,
    is_timeout: bool,
    moment: Callable[..., Any],
    on_existing: str,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pipeline of the earlier try is left alone, and named in the log."""
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", bench.sandbox.airflow_connection_uri())
    submit(wait_for=None)().execute(context(FakeTaskInstance()))
    (made,) = bench.pipelines()
    bench.change(made.id, 5, "stop", "Stopped")
    ti, lines = FakeTaskInstance(try_number=2), Lines()
    logger = logging.Logger("tests.adopting", logging.INFO)
    logger.addHandler(lines)
    make = submit(stop_on_kill=mode, on_existing=on_existing, execution_timeout=timedelta(hours=1))

    pipeline = _end_at(moment, bench, quiet(make(), logger), ti, is_timeout=is_timeout)
    assert (pipeline.id, bench.job(made.id).state) == (made.id, "Stopped")
    assert lines.text().count(f"ArroyoStopPipelineOperator(pipeline_id={made.id!r})") == 1
    not_adopted = f"Pipeline 'orders' ({made.id}) is not stopped: this task ended before it had adopted"
    assert lines.text().count(not_adopted) == (1 if mode else 0)
    assert "before it had created" not in lines.text()


@pytest.mark.parametrize("moment", [_create_that_takes_effect_later, _before_the_wait, _in_the_first_poll])
@pytest.mark.parametrize("is_timeout", [True, False])
def test_a_task_that_ends_before_its_first_poll_stops_its_pipeline(
    is_timeout: bool, moment: Callable[..., Any], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Airflow's alarm for ``execution_timeout``, after which Airflow calls ``on_kill``, or by its signal."""
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", bench.sandbox.airflow_connection_uri())
    # However slow the machine is.
    monkeypatch.setitem(stop_on_kill.__kwdefaults__ or {}, "limit_seconds", 60.0)
    ti = FakeTaskInstance()
    operator = submit(stop_on_kill="checkpoint", execution_timeout=timedelta(hours=1))()

    pipeline = _end_at(moment, bench, operator, ti, is_timeout=is_timeout)
    assert pipeline.stop == "checkpoint"
