"""The prune operator as Airflow runs it: what it compares, and what it must not delete."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError
from airflow_provider_arroyo.operators.arroyo import ArroyoPrunePipelinesOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS
from tests.tasks.harness import SYNC, FakeTaskInstance, context, deploy, run_task

SECOND = ENDLESS.replace("'10'", "'20'")


def prune(keep: list[Any], run_after: datetime | None = None) -> dict[str, Any]:
    task = ArroyoPrunePipelinesOperator(task_id="a_task", keep=keep)
    given = context()
    given["dag_run"].run_after = run_after
    task.render_template_fields(given)
    result: dict[str, Any] = task.execute(given)
    return result


def deployed(name: str, query: str, run_id: str) -> str:
    make = deploy(query, pipeline_name=name, until_checkpoint=False)
    ended = run_task(make, SYNC, FakeTaskInstance(run_id=run_id))
    return str(ended.result["pipeline_id"])


def names(result: dict[str, Any]) -> list[str]:
    return [one["pipeline_name"] for one in result["deleted"]]


def test_a_renamed_file_is_an_error_until_the_user_decides(sandbox: ArroyoSandbox) -> None:
    old = deployed("old", ENDLESS, "first")
    specs = [{"pipeline_name": "new", "group": "default", "query": ENDLESS}]
    with pytest.raises(
        ArroyoFatalTaskError, match=rf"'old' of group 'default' \({old}\): now 'new', which is not"
    ):
        prune(specs)
    new = deployed("new", ENDLESS, "second")
    for keep in (specs, ["new"]):
        with pytest.raises(ArroyoFatalTaskError, match=rf"\({old}\): now 'new' of group 'default' \({new}\)"):
            prune(keep)
    assert {old, new} == set(sandbox.store.pipelines)
    assert names(prune([{**specs[0], "pipeline_name": "old"}])) == ["new"]


def test_a_prune_of_an_earlier_run_keeps_newer_pipelines(sandbox: ArroyoSandbox) -> None:
    deployed("kept", ENDLESS, "first")
    deployed("new", SECOND, "second")
    assert names(prune(["kept"], datetime(2026, 1, 1, tzinfo=UTC))) == []
    assert names(prune(["kept"], datetime(2100, 1, 1, tzinfo=UTC))) == ["new"]


def test_the_rendered_fields_of_a_mapped_task_show_no_sql() -> None:
    specs = [{"pipeline_name": "orders", "group": "shop", "query": ENDLESS}]
    with DAG("a_dag", schedule=None) as dag:
        partial = ArroyoPrunePipelinesOperator.partial(task_id="prune", keep=specs)
        operator: Any = partial.expand(group=["shop"])
    ti: Any = SimpleNamespace(
        map_index=0, is_mapped=True, _upstream_map_indexes={}, _cached_template_context=None
    )
    given = {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "expanded_ti_count": 1}
    operator.render_template_fields(given)
    assert given["task"].keep == [{"group": "shop", "pipeline_name": "orders"}]
