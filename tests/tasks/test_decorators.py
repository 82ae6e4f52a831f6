"""``@task.arroyo_sql``: a function that returns SQL becomes a task."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from airflow.sdk import DAG

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.decorators import arroyo_sql_task
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS

from .harness import DEFERRED, FakeTaskInstance, run_task


def made(function: Any, *call: Any, **arguments: Any) -> Any:
    """Return the operator of a decorated function."""
    with DAG("a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        decorated: Any = arroyo_sql_task(**{"stable_for": 0, "timeout": 20, **arguments})(function)
        return decorated(*call).operator


def orders_per_minute(rate: int = 10, **context: Any) -> str:
    assert "ti" in context
    return ENDLESS.replace("'10'", f"'{rate}'") + "\n-- {{ ti.task_id }}"


def test_the_function_s_sql_is_rendered_and_submitted(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    result = made(orders_per_minute, 7).execute({"ti": FakeTaskInstance(task_id="a_task")})
    pipeline = client.get_pipeline(result["pipeline_id"])
    assert pipeline.name == "orders_per_minute"
    assert "-- a_task" in pipeline.query
    assert result["action"] == "created"


def test_the_operator_s_arguments_are_those_of_submit(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    operator = made(lambda: ENDLESS, pipeline_name="orders", parallelism=2, task_id="a_task")
    result = operator.execute({"ti": FakeTaskInstance()})
    pipeline = client.get_pipeline(result["pipeline_id"])
    assert (pipeline.name, pipeline.graph.parallelism) == ("orders", 2)


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_deploy_makes_one_pipeline_for_all_runs(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    arguments: dict[str, Any] = {"deploy": True, "until_checkpoint": False, "task_id": "a_task"}
    results = [
        made(lambda: ENDLESS, pipeline_name="orders", **arguments).execute(
            {"ti": FakeTaskInstance(run_id=run)}
        )
        for run in ("monday", "tuesday")
    ]
    assert [one["action"] for one in results] == ["created", "unchanged"]
    assert results[0]["pipeline_id"] == results[1]["pipeline_id"]


@pytest.mark.parametrize("deploy", [False, True])
def test_a_decorated_task_may_defer(deploy: bool, sandbox: ArroyoSandbox) -> None:
    arguments: dict[str, Any] = {
        "pipeline_name": "orders",
        "task_id": "a_task",
        "deploy": deploy,
        "stable_for": 2,
    }
    ended = run_task(lambda **mode: made(lambda: ENDLESS, **{**arguments, **mode}), DEFERRED)
    assert ended.error is None, ended.error
    assert ended.deferrals == 1
    assert (ended.result["action"], ended.result["state"]) == ("created", "Running")


@pytest.mark.parametrize("returned, message", [(None, "NoneType"), ("", "an empty string"), (7, "int")])
def test_a_result_that_is_not_sql_is_fatal(returned: Any, message: str, sandbox: ArroyoSandbox) -> None:
    def no_sql() -> Any:
        return returned

    with pytest.raises(ArroyoArgumentError, match=f"no_sql must return SQL.*got {message}"):
        made(no_sql).execute({"ti": FakeTaskInstance()})
    assert sandbox.requests.total == 0


def test_a_query_argument_next_to_the_function_is_refused() -> None:
    with pytest.raises(ValueError, match="query must not be given"):
        made(lambda: ENDLESS, query=ENDLESS, task_id="a_task")


@pytest.mark.parametrize(
    "template, message", [("{{ nope }}", "'nope' is undefined"), ("{% if", "not a valid template")]
)
def test_sql_that_cannot_be_rendered_hints_at_arroyos_own_variables(template: str, message: str) -> None:
    with pytest.raises(ArroyoArgumentError, match=rf"query: .*{message}.*\{{% raw %\}}"):
        made(lambda: f"{ENDLESS}\n-- {template}", task_id="a_task").execute({"ti": FakeTaskInstance()})


def test_secrets_of_the_function_s_sql_are_masked(sandbox: ArroyoSandbox) -> None:
    sql = ENDLESS.replace(
        "connector = 'blackhole'", "connector = 'blackhole', 'auth.password' = 'hunter2hunter2'"
    )
    with mock.patch("airflow.providers.common.compat.sdk.mask_secret") as mask, suppress(Exception):
        made(lambda: sql, task_id="a_task").execute({"ti": FakeTaskInstance()})
    mask.assert_any_call("hunter2hunter2")
