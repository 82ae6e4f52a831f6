"""The log shows the text of an error once, with at most one frame of this package."""

from __future__ import annotations

import asyncio
import functools
import json
import traceback
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

import airflow_provider_arroyo
from airflow_provider_arroyo import evidence
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.polling import poll
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import BROKEN, Arrange
from .harness import (
    DEFERRED,
    OPERATOR_MODES,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    Ended,
    FakeTaskInstance,
    Make,
    context,
    defer,
    deploy,
    fire,
    run_task,
    sense,
    stop,
    submit,
)

PACKAGE = airflow_provider_arroyo.__path__[0]


def check_traceback(error: BaseException | None, frames: int = 1) -> str:
    """Check Python's traceback of an error, and return it."""
    assert error is not None
    assert error.__cause__ is None
    assert error.__suppress_context__
    shown = "".join(traceback.format_exception(error))
    assert shown.count(str(error)) == 1
    assert "During handling of the above" not in shown
    assert "direct cause" not in shown
    ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(PACKAGE)]
    assert len(ours) <= frames, ours
    return shown


def ended_in(make: Make, mode: str, error: type[BaseException]) -> Ended:
    ended = run_task(make, mode)
    assert type(ended.error) is error, ended.error
    check_traceback(ended.error)
    return ended


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_traceback_of_a_failed_pipeline(mode: str, soft_fail: bool, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    check_traceback(run_task(sense(pipeline_id, "Stopped", soft_fail=soft_fail), mode).error)


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_the_traceback_of_a_pipeline_that_fails_in_a_submit_or_a_stop(
    mode: str, sandbox: ArroyoSandbox
) -> None:
    sandbox.faults.fail("orders", after=0.5)
    ended_in(submit(stable_for=5), mode, ArroyoTaskError)
    (pipeline_id,) = sandbox.store.pipelines
    shown = check_traceback(run_task(stop(pipeline_id), mode).error)
    assert "is Failed" in shown


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_the_traceback_of_a_timeout(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    check_traceback(run_task(sense(pipeline_id, "Stopped", timeout=0.5), mode).error)
    if mode in OPERATOR_MODES:
        # Otherwise, on a slow machine, the first poll may already see it stopped.
        sandbox.faults.controller_away()
        ended_in(stop(pipeline_id, timeout=0), mode, ArroyoTaskError)


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize("status", [401, 404, 503])
def test_the_traceback_of_an_http_error(mode: str, status: int, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(status, times=None, error="Pipeline not found")
    expected = ArroyoFatalTaskError if status == 401 else ArroyoTaskError
    ended_in(sense("pl_1", api_outage_tolerance=0.5), mode, expected)
    if mode in OPERATOR_MODES:
        ended_in(stop("pl_1", api_outage_tolerance=0.5), mode, expected)


def test_the_traceback_of_refused_sql(sandbox: ArroyoSandbox) -> None:
    ended_in(submit("INSERT INTO nowhere SELECT 1"), SYNC, ArroyoFatalTaskError)


def test_the_traceback_of_an_invalid_rendered_argument(sandbox: ArroyoSandbox) -> None:
    def make(**mode: Any) -> Any:
        operator = submit(parallelism="{{ x }}")(**mode)
        operator.parallelism = "0"
        return operator

    ended_in(make, SYNC, ArroyoArgumentError)


@pytest.mark.parametrize("make", [submit, deploy, stop, sense])
def test_a_context_without_a_task_instance_is_refused(make: Any, arrange: Arrange) -> None:
    known = arrange.pipeline("Running")
    task = make(known)() if make in (stop, sense) else make()()
    with pytest.raises(
        ArroyoArgumentError, match=r"^context must contain the task instance \(ti\)"
    ) as caught:
        task.execute({})
    check_traceback(caught.value, frames=2)
    assert [one.id for one in arrange.client.list_pipelines()] == [known]
    assert arrange.state(known) == "Running"


def test_the_traceback_of_a_missing_connection(sandbox: ArroyoSandbox) -> None:
    for mode in SENSOR_MODES:
        ended_in(sense("pl_1", arroyo_conn_id="nope"), mode, ArroyoTaskError)


def test_the_traceback_of_an_unreadable_event() -> None:
    for operator in (submit()(), sense("pl_1")(), stop("pl_1")()):
        with pytest.raises(ArroyoTaskError) as caught:
            operator.execute_complete(context(), event=None)
        check_traceback(caught.value)


def test_the_traceback_of_airflows_alarm(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def alarm(*_: Any) -> None:
        raise AirflowTaskTimeout("Timeout, PID: 1")

    monkeypatch.setattr(ArroyoClient, "send", alarm)
    limit: dict[str, Any] = {"execution_timeout": timedelta(minutes=1)}
    for make, step in (
        (submit(**limit), "Submitting pipeline 'orders'"),
        (stop("pl_1", **limit), "Stopping pipeline 'pl_1'"),
        (sense("pl_1", **limit), "Looking up pipeline 'pl_1'"),
    ):
        for mode in (SYNC, RESCHEDULE) if make(**{}).task_type == "ArroyoPipelineSensor" else (SYNC,):
            ended = ended_in(make, mode, AirflowTaskTimeout)
            assert str(ended.error).startswith(f"{step} was not completed within 1 min (execution_timeout). ")


def test_a_bug_keeps_its_traceback(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ArroyoClient, "send", fail)
    for mode in (SYNC, RESCHEDULE):
        error = run_task(sense("pl_1"), mode).error
        assert type(error) is RuntimeError
        assert traceback.extract_tb(error.__traceback__)[-1].name == "fail"


def test_a_connection_edited_while_deferred_names_both_servers(
    sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = sense(arrange.pipeline("Running"), "Stopped", deferrable=True, defer_after=0)
    trigger = defer(make())
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", "arroyo://elsewhere:5115/http")
    (event,) = asyncio.run(fire(trigger))
    with pytest.raises(ArroyoFatalTaskError) as caught:
        make().execute_complete(context(), event=json.loads(json.dumps(event)))
    assert f"led to {sandbox.url} when this wait began, and now leads to http://elsewhere:5115" in str(
        caught.value
    )
    check_traceback(caught.value)


@pytest.mark.parametrize("make", [submit(), sense("pl_1"), stop("pl_1")], ids=["submit", "sensor", "stop"])
def test_an_error_of_a_resumed_task_has_one_frame_of_ours(make: Make) -> None:
    for method, arguments in (
        ("execute_complete", {"event": None}),
        ("__fail__", {"error": "Trigger timeout"}),
        ("__fail__", {"error": "Trigger failure", "traceback": ["Traceback"]}),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each raises another one
            make().resume_execution(method, arguments, context())
        check_traceback(caught.value)


@pytest.mark.parametrize(
    "try_number, max_tries, words",
    [
        (1, 2, "Airflow will retry this task (try 2 of 3)."),
        (3, 2, "No retries are left. Clear this task to try again."),
        (1, 0, "No retries are left. Clear this task to try again."),
    ],
)
@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_the_advice_fits_what_airflow_does_next(
    mode: str, try_number: int, max_tries: int, words: str, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    ti: Any = FakeTaskInstance(try_number=try_number)
    ti.max_tries = max_tries
    error = run_task(sense(pipeline_id, "Stopped"), mode, ti).error
    assert str(error).splitlines()[-1] == words
    assert ("clear" in str(error)) is ("clear" in words)
    # A permanent error is not retried, whatever retries are left.
    refused = run_task(submit("INSERT INTO nowhere SELECT 1"), SYNC, ti).error
    assert "Fix it, then clear this task" in str(refused)
    assert "will retry" not in str(refused)


# -- diagnoses -------------------------------------------------------------------------------------------------------


def diagnosis_of(error: BaseException | None) -> str | None:
    assert isinstance(error, ArroyoTaskError), error
    assert error.error is not None
    return getattr(error.error, "diagnosis", None)


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_a_failure_is_diagnosed_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    error = run_task(submit(BROKEN), mode).error
    assert diagnosis_of(error) == "file_missing"
    text = str(error)
    assert "Diagnosis (file_missing): " in text
    assert "Arroyo's workers see the file" in text
    assert "Fix the cause." not in text, "the advice of the diagnosis replaces it"


def test_a_failed_deploy_is_diagnosed_too(sandbox: ArroyoSandbox) -> None:
    error = run_task(
        lambda **mode: ArroyoDeployPipelineOperator(
            task_id="a_task", pipeline_name="orders", query=BROKEN, timeout=20, **mode
        ),
        SYNC,
    ).error
    assert "Diagnosis (file_missing): " in str(error)


def test_a_timeout_names_an_unreachable_broker(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    sandbox.faults.kafka_away()
    arrange.after_polls(sandbox.advance, 45, polls=1)
    error = run_task(submit(until_checkpoint=True, timeout=8), SYNC).error
    assert diagnosis_of(error) == "broker_unreachable"
    assert "Diagnosis (broker_unreachable): " in str(error)
    assert "allow more time" in str(error)


def test_an_externally_stopped_pipeline_is_diagnosed(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    def pause() -> None:
        sandbox.advance(15)
        sandbox.faults.stop("orders")

    arrange.after_polls(pause)
    error = run_task(submit(stable_for=15, timeout=60), SYNC).error
    assert diagnosis_of(error) == "paused"
    assert "was stopped externally" in str(error)
    assert "it continues from checkpoint" in str(error)


def test_a_diagnosis_without_new_information_is_left_out(arrange: Arrange, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.fail("orders", error="worker left", after=0.1)
    error = run_task(submit(stable_for=5), SYNC).error
    assert diagnosis_of(error) is None
    assert "Diagnosis" not in str(error)
    pipeline_id = arrange.pipeline("Running", name="other")
    assert "Diagnosis" not in str(run_task(sense(pipeline_id, "Stopped", timeout=0.3), SYNC).error)


@pytest.mark.parametrize("broken", ["requests", "itself", "alarm"])
def test_a_failing_diagnosis_does_not_hide_the_error(
    broken: str, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        # Airflow's alarm may go off at this moment.
        raise AirflowTaskTimeout("Timeout") if broken == "alarm" else RuntimeError("a bug")

    if broken == "requests":
        for path in ("*/errors*", "*/checkpoints", "*/operator_metric_groups", "*/validate_query"):
            sandbox.faults.status(500, path=path, times=None)
    else:
        monkeypatch.setattr(evidence, "gather_for_error", fail)
    ended = run_task(submit(BROKEN), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "is Fail" in str(ended.error)
    assert "/nonexistent/input.json" in str(ended.error)
    assert len(ended.texts("WARNING")) == 1


# -- who requested a stop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stop_on_kill, who",
    [
        ("checkpoint", "by this task, which was killed (stop_on_kill='checkpoint')"),
        ("immediate", "by this task, which was killed (stop_on_kill='immediate')"),
        (None, "externally"),
    ],
)
def test_the_error_names_who_requested_the_stop(
    stop_on_kill: str | None, who: str, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti, made = FakeTaskInstance(), []

    def make(**mode: Any) -> Any:
        made.append(submit(wait_for="Finished", stop_on_kill=stop_on_kill)(**mode))
        return made[-1]

    def sleep(seconds: float) -> None:
        """Kill the task as Airflow does, from a signal between two polls, once its pipeline runs."""
        sandbox.advance(seconds)
        waiting = made[-1]._waiting
        if ti.state == "running" and (job := waiting.progress.job) is not None and job.state == "Running":
            ti.state = "failed"
            made[-1].on_kill()
            if stop_on_kill is None:
                sandbox.faults.stop("orders")

    monkeypatch.setattr(poll, "poll_until", functools.partial(poll.poll_until, sleep=sleep))
    ended = run_task(make, SYNC, ti)
    assert f"was stopped {who}; the goal was Finished" in str(ended.error)
