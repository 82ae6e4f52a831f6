"""The example DAGs of a pipeline's life, in a real Airflow: maintenance, scaling, a preview as a gate, Python."""

from __future__ import annotations

import pytest

from scripts.local_airflow import LocalAirflow
from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import Runs
from tests.e2e.test_real_airflow import succeeded

pytestmark = pytest.mark.e2e


def names(arroyo: SandboxServer) -> set[str]:
    return {one["name"] for one in arroyo.call("GET", "/api/v1/pipelines?limit=100")["data"]}


def test_a_stream_continues_after_maintenance(
    airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs
) -> None:
    dag_id = "arroyo_maintenance"
    run_id = succeeded(airflow, runs, dag_id)
    stopped, resumed = airflow.xcom(dag_id, run_id, "stop"), airflow.xcom(dag_id, run_id, "resume")
    assert stopped["checkpoint"]["epoch"] >= 1
    assert (resumed["action"], resumed["state"], resumed["run_id"]) == ("resumed", "Running", 2)
    assert "orders_under_maintenance" not in names(arroyo)


def test_a_stream_is_scaled_up_and_down(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "arroyo_scale_for_backfill"
    run_id = succeeded(airflow, runs, dag_id)
    up, down = airflow.xcom(dag_id, run_id, "scale_up"), airflow.xcom(dag_id, run_id, "scale_down")
    caught_up = airflow.xcom(dag_id, run_id, "catch_up")
    assert (caught_up["run_id"], caught_up["metric"]["name"]) == (2, "backpressure")
    assert caught_up["metric"]["value"] < 0.5
    assert caught_up["metric"]["held_seconds"] >= 10
    assert up["changes"] == [{"argument": "parallelism", "difference": "parallelism: 1 → 2"}]
    assert (up["run_id"], down["run_id"]) == (2, 3)


def test_a_preview_is_a_gate_before_sql_from_python_runs(
    airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs
) -> None:
    dag_id = "arroyo_quality_gate"
    run_id = succeeded(airflow, runs, dag_id)
    assert len(airflow.xcom(dag_id, run_id, "gate")["rows"]) == 20
    submitted = airflow.xcom(dag_id, run_id, "even_orders")
    assert (submitted["pipeline_name"], submitted["state"]) == ("even_orders", "Running")
    assert "even_orders" not in names(arroyo)


def test_a_report_waits_for_the_data_of_its_run(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "arroyo_wait_for_data"
    run_id = succeeded(airflow, runs, dag_id)
    found = airflow.xcom(dag_id, run_id, "data_is_in")
    assert (found["pipeline_name"], found["state"]) == ("orders_for_reports", "Running")
    assert found["checkpoint"]["finish_time_micros"] > found["checkpoint"]["start_time_micros"]
    assert str(found["checkpoint"]["epoch"]) in airflow.xcom(dag_id, run_id, "report")
