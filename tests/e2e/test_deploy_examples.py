"""The example DAGs that deploy, in a real Airflow: a folder with prune, a rollback, scaling; and waits that defer."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.local_airflow import LocalAirflow
from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import Runs
from tests.e2e.test_real_airflow import RUN_TIMEOUT_SECONDS, succeeded, was_deferred

pytestmark = pytest.mark.e2e


def deployed(airflow: LocalAirflow, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the results of the mapped task, by the names that Airflow shows."""
    instances = [one for one in airflow.task_instances(dag_id, run_id) if one["task_id"] == "deploy"]
    return {
        one["rendered_map_index"]: airflow.xcom(dag_id, run_id, "deploy", map_index=one["map_index"])
        for one in instances
    }


def test_a_folder_is_deployed_and_pruned(airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs) -> None:
    dag_id = "arroyo_deploy_on_merge"
    run_id = succeeded(airflow, runs, dag_id)
    before = deployed(airflow, dag_id, run_id)
    assert {name: one["action"] for name, one in before.items()} == dict.fromkeys(
        ("shop_clicks", "shop_orders"), "created"
    )
    assert {arroyo.pipeline_state(one["pipeline_id"]) for one in before.values()} == {"Running"}
    pruned = airflow.xcom(dag_id, run_id, "prune")
    assert (pruned["deleted"], pruned["kept"]) == ([], ["shop_clicks", "shop_orders"])

    # A merge that removes one file and changes nothing else.
    (airflow.dags_folder / "pipelines" / "shop_clicks.sql").unlink()
    second = airflow.trigger(dag_id)
    assert airflow.wait_for_run(dag_id, second, timeout_seconds=RUN_TIMEOUT_SECONDS) == "success"
    after = deployed(airflow, dag_id, second)
    assert {name: one["action"] for name, one in after.items()} == {"shop_orders": "unchanged"}
    assert after["shop_orders"]["run_id"] == before["shop_orders"]["run_id"] == 1
    (deleted,) = airflow.xcom(dag_id, second, "prune")["deleted"]
    assert deleted["pipeline_id"] == before["shop_clicks"]["pipeline_id"]
    ids = {one["id"] for one in arroyo.call("GET", "/api/v1/pipelines?limit=100")["data"]}
    assert deleted["pipeline_id"] not in ids
    assert after["shop_orders"]["pipeline_id"] in ids


def test_a_broken_version_is_rolled_back(airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs) -> None:
    dag_id = "arroyo_deploy_rollback"
    run_id = succeeded(airflow, runs, dag_id)
    assert airflow.task_states(dag_id, run_id)["second"] == "failed"
    log = airflow.task_log(dag_id, run_id, "second")
    assert "failed to open file '/nonexistent/orders.json'" in log
    assert "Rolled back: pipeline 'orders_with_rollback'" in log
    first = airflow.xcom(dag_id, run_id, "first")
    assert arroyo.pipeline_state(first["pipeline_id"]) == "Running"
    assert airflow.xcom(dag_id, run_id, "still_running")["run_id"] == 2


def test_a_stream_is_scaled_up_and_down(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "arroyo_scale"
    run_id = succeeded(airflow, runs, dag_id)
    results = [airflow.xcom(dag_id, run_id, task) for task in ("deploy", "scale_up", "scale_down")]
    assert [one["action"] for one in results] == ["created", "updated", "updated"]
    assert [one["run_id"] for one in results] == [1, 2, 3]
    assert len({one["pipeline_id"] for one in results}) == 1
    assert results[1]["changes"][0]["difference"] == "parallelism: 1 → 4"


def test_each_wait_of_a_deploy_defers(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "e2e_deploy_defers"
    run_id = succeeded(airflow, runs, dag_id)
    assert was_deferred(airflow, dag_id, run_id, "second")
    results = [airflow.xcom(dag_id, run_id, task) for task in ("first", "second")]
    assert [one["action"] for one in results] == ["created", "replaced"]
    assert results[1]["checkpoint"]["epoch"] >= 1
