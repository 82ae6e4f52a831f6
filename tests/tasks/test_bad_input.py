"""What a DAG author gets for a mistake: the argument's name and range, before any call; else what to do next."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoTaskError, ArroyoTaskFailed
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers.pipelines import ArroyoPipelineTrigger
from tests.support import ENDLESS

from .harness import DEFERRED, SYNC, context, fire, run_task

SUBMIT: dict[str, Any] = {"name": "orders", "query": ENDLESS}
STOP: dict[str, Any] = {"pipeline_id": "pl_1"}


@pytest.mark.parametrize(
    "operator, arguments, says",
    [
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "name": ""}, "name must be a text that is not empty"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "query": "  "}, "query must be a text that is not empty"),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "parallelism": 0},
            "parallelism must be a whole number, 1 or more",
        ),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "parallelism": "two"}, "parallelism must be"),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "checkpoint_interval": timedelta(milliseconds=999)},
            "checkpoint_interval must be a timedelta from 1 second to 24 hours",
        ),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "checkpoint_interval": timedelta(hours=24, seconds=1)},
            "checkpoint_interval must be",
        ),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "wait_for": "Stopped"},
            "wait_for must be one of 'Running', 'Finished'",
        ),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "stable_for": timedelta(seconds=-1)}, "stable_for must be"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "timeout": -1}, "timeout must be"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "poll_interval": 0}, "poll_interval must be"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "defer_after": -0.1}, "defer_after must be"),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "api_outage_tolerance": -1},
            "api_outage_tolerance must be",
        ),
        (
            ArroyoSubmitPipelineOperator,
            {**SUBMIT, "on_existing": "keep"},
            "on_existing must be one of 'adopt'",
        ),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "on_kill": "none"}, "on_kill must be one of 'checkpoint'"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "udfs": [""]}, "udfs[0].definition must be"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "udfs": "fn f() {}"}, "udfs must be a list"),
        (ArroyoSubmitPipelineOperator, {**SUBMIT, "tags": {"a": 1}}, "tags must map texts to texts"),
        (
            ArroyoStopPipelineOperator,
            {},
            "exactly one of pipeline_id and pipeline_name must be given, got neither",
        ),
        (ArroyoStopPipelineOperator, {**STOP, "pipeline_name": "x"}, "got both"),
        (
            ArroyoStopPipelineOperator,
            {**STOP, "mode": "softly"},
            "mode must be one of 'checkpoint', 'graceful'",
        ),
        (ArroyoStopPipelineOperator, {**STOP, "mode": "none"}, "mode must be one of"),
        (
            ArroyoStopPipelineOperator,
            {**STOP, "if_missing": "skip"},
            "if_missing must be one of 'fail', 'succeed'",
        ),
        (
            ArroyoStopPipelineOperator,
            {**STOP, "wait": False, "require_checkpoint": True},
            "require_checkpoint needs",
        ),
        (ArroyoPipelineSensor, {}, "got neither"),
        (
            ArroyoPipelineSensor,
            {**STOP, "target_states": ["running"]},
            "'running' is not a state of Arroyo; allowed: Created",
        ),
        (ArroyoPipelineSensor, {**STOP, "target_states": []}, "target_states: needs a state"),
        (ArroyoPipelineSensor, {**STOP, "poll_interval": -1}, "poll_interval must be"),
    ],
)
def test_a_wrong_argument_is_named_when_the_dag_is_read(
    operator: Any, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        operator(task_id="a_task", **arguments)


@pytest.mark.parametrize(
    "make, rendered, says",
    [
        (
            lambda **m: ArroyoSubmitPipelineOperator(task_id="t", **{**SUBMIT, "name": "{{ x }}"}, **m),
            {"name": " "},
            "name",
        ),
        (
            lambda **m: ArroyoSubmitPipelineOperator(task_id="t", **SUBMIT, parallelism="{{ x }}", **m),
            {"parallelism": "0"},
            "parallelism must be a whole number, 1 or more, got '0'",
        ),
        (
            lambda **m: ArroyoStopPipelineOperator(task_id="t", pipeline_id="{{ x }}", **m),
            {"pipeline_id": "None"},
            "pipeline_id",
        ),
        (
            lambda **m: ArroyoStopPipelineOperator(task_id="t", pipeline_id="pl", mode="{{ x }}", **m),
            {"mode": "x"},
            "mode",
        ),
        (
            lambda **m: ArroyoPipelineSensor(task_id="t", pipeline_id="pl", target_states=["{{ x }}"], **m),
            {"target_states": ["Up"]},
            "target_states: 'Up' is not a state",
        ),
        (
            lambda **m: ArroyoSubmitPipelineOperator(task_id="t", **SUBMIT, tags={"airflow.key": "x"}, **m),
            {},
            "airflow.key",
        ),
    ],
)
def test_a_wrong_rendered_argument_fails_for_good_before_any_call(
    make: Any, rendered: dict[str, Any], says: str, sandbox: ArroyoSandbox
) -> None:
    def rendering(**mode: Any) -> Any:
        operator = make(**mode)
        for name, value in rendered.items():
            setattr(operator, name, value)
        return operator

    ended = run_task(rendering, SYNC)
    assert isinstance(ended.error, ArroyoArgumentError)
    assert isinstance(ended.error, ValueError)
    assert says in str(ended.error)
    assert len(sandbox.requests) == 0


def test_sql_that_arroyo_refuses_fails_for_good_with_the_place_marked(sandbox: ArroyoSandbox) -> None:
    query = "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\nINSERT INTO sink SELECT n FROM nowhere;"
    ended = run_task(lambda **m: ArroyoSubmitPipelineOperator(task_id="t", name="x", query=query, **m), SYNC)
    assert isinstance(ended.error, ArroyoTaskFailed)
    text = str(ended.error)
    assert "nowhere" in text
    if sandbox.arroyo_version == "0.16":
        assert "line 2, column 32" in text
        assert "INSERT INTO sink SELECT n FROM nowhere;" in text
        marked = text.splitlines()[
            text.splitlines().index("  line 2 | INSERT INTO sink SELECT n FROM nowhere;") + 1
        ]
        assert marked.index("^") == len("  line 2 | ") + query.splitlines()[1].index("nowhere")


def test_sql_that_does_not_parse_tells_its_own_line_on_both_versions(sandbox: ArroyoSandbox) -> None:
    ended = run_task(
        lambda **m: ArroyoSubmitPipelineOperator(task_id="t", name="x", query="SELEC 1", **m), SYNC
    )
    assert isinstance(ended.error, ArroyoTaskFailed)
    assert "Line: 1, Column: 1" in str(ended.error)
    assert "  line 1 | SELEC 1\n           ^" in str(ended.error)


@pytest.mark.parametrize("key", [None, "wrong-secret"])
def test_a_key_that_is_not_accepted_fails_for_good_and_is_never_told(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ArroyoSandbox(arroyo_version="0.16", api_key="right-secret") as sandbox:
        login = f":{key}@" if key else ""
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", f"arroyo://{login}127.0.0.1:{sandbox.port}/http")
        for mode in (SYNC, DEFERRED):
            ended = run_task(lambda **m: ArroyoPipelineSensor(task_id="t", pipeline_id="pl", **m), mode)
            assert isinstance(ended.error, ArroyoTaskFailed)
            text = str(ended.error) + repr(ended.error.__cause__) + str(ended.lines)
            assert "401" in text
            assert "Authorization" in text
            assert "arroyo_default" in text
            assert "secret" not in text
        assert sandbox.requests.count() == 2


def test_not_arroyo_at_that_address_is_said_with_what_answered(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.not_json(times=None)
    ended = run_task(lambda **m: ArroyoPipelineSensor(task_id="t", pipeline_id="pl", **m), SYNC)
    assert isinstance(ended.error, ArroyoTaskFailed)
    assert "Sign in" in str(ended.error)


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "success",
        {"version": 99, "pipeline_id": "pl", "verdict": {"outcome": "reached"}},
        {"version": 1, "pipeline_id": "pl", "verdict": {"outcome": "splendid"}},
        {"version": 1, "pipeline_id": "pl", "verdict": {"outcome": "waiting"}},
        {"version": 1, "verdict": {"outcome": "reached"}},
    ],
)
@pytest.mark.parametrize(
    "operator", [ArroyoSubmitPipelineOperator, ArroyoStopPipelineOperator, ArroyoPipelineSensor]
)
def test_an_event_that_cannot_be_read_is_never_a_success(operator: Any, event: Any) -> None:
    task = operator(task_id="t", **(SUBMIT if operator is ArroyoSubmitPipelineOperator else STOP))
    with pytest.raises(ArroyoTaskError, match="cannot be read"):
        task.execute_complete(context(), event=event)


def test_an_event_with_unknown_fields_is_read(sandbox: ArroyoSandbox) -> None:
    job = {"id": "job_1", "state": "Running", "run_id": 3, "running_desired": True, "new": 1}
    event = {
        "version": 1,
        "pipeline_id": "pl_1",
        "verdict": {"outcome": "reached", "job": job, "new": {"a": 1}},
        "carry": {"name": "orders", "console_url": "http://c/pipelines/pl_1", "how": "created", "new": 2},
        "new": [],
    }
    task = ArroyoSubmitPipelineOperator(task_id="t", **SUBMIT)
    result = task.execute_complete(context(), event=event)
    assert result == {
        "pipeline_id": "pl_1",
        "name": "orders",
        "job_id": "job_1",
        "state": "Running",
        "run_id": 3,
        "console_url": "http://c/pipelines/pl_1",
        "how": "created",
        "finished": False,
    }
    assert len(sandbox.requests) == 0


@pytest.mark.parametrize(
    "plan", [None, {}, {"version": 99, "pipeline_id": "pl", "targets": ["Running"], "deadline": 1}]
)
def test_trigger_arguments_that_cannot_be_read_reach_the_worker_as_an_error(plan: Any) -> None:
    trigger = ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", plan=plan)
    (event,) = asyncio.run(fire(trigger))
    task = ArroyoPipelineSensor(task_id="t", pipeline_id="pl")
    with pytest.raises(ArroyoTaskError, match="another version"):
        task.execute_complete(context(), event=json.loads(json.dumps(event)))


def test_a_trigger_keeps_what_it_does_not_know() -> None:
    trigger = ArroyoPipelineTrigger(arroyo_conn_id="c", plan={"pipeline_id": "pl"}, later="x")
    path, arguments = trigger.serialize()
    again = ArroyoPipelineTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    assert arguments["later"] == "x"


def test_a_missing_connection_is_named(sandbox: ArroyoSandbox) -> None:
    """Airflow says the same where it could not look it up just now, so the task may be tried again."""
    ended = run_task(
        lambda **m: ArroyoPipelineSensor(task_id="t", pipeline_id="pl", arroyo_conn_id="nope", **m), SYNC
    )
    assert isinstance(ended.error, ArroyoTaskError)
    assert "There is no Airflow connection 'nope', or Airflow could not look it up" in str(ended.error)


HARD_TEXTS = [
    'it\'s "quoted"',
    "two\nlines",
    "<b>html</b>",
    "тест 流 🌊",
    "{{ braces }}".replace("{{", "{ {"),
    "x" * 5000,
]


@pytest.mark.parametrize("name", HARD_TEXTS, ids=range(len(HARD_TEXTS)))
def test_hard_names_and_sql_pass_through_unharmed(name: str, sandbox: ArroyoSandbox, client: Any) -> None:
    query = f"-- {name[:50].splitlines()[0]}\n{ENDLESS}"
    ended = run_task(
        lambda **m: ArroyoSubmitPipelineOperator(task_id="t", name=name, query=query, stable_for=0, **m), SYNC
    )
    assert ended.error is None, ended.error
    from airflow_provider_arroyo.arroyo import api

    made = client.call(api.get_pipeline(ended.result["pipeline_id"]))
    assert made.name == name
    assert made.query.endswith(query)


def test_a_megabyte_of_sql_passes_and_two_are_said_to_be_too_much(sandbox: ArroyoSandbox) -> None:
    def submit(size: int) -> Any:
        query = f"-- {'x' * size}\n{ENDLESS}"
        return run_task(
            lambda **m: ArroyoSubmitPipelineOperator(task_id="t", name="big", query=query, stable_for=0, **m),
            SYNC,
        )

    assert submit(1024 * 1024).error is None
    too_big = submit(2 * 1024 * 1024)
    assert isinstance(too_big.error, ArroyoTaskError | ArroyoTaskFailed)
    assert "2 MB" in str(too_big.error)
