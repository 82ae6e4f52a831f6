"""The example DAG that a dying pipeline starts, in a real Airflow."""

from __future__ import annotations

import pytest

from scripts.local_airflow import LocalAirflow, wait_until
from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import WATCHER

pytestmark = pytest.mark.e2e


def ended(airflow: LocalAirflow) -> list[str]:
    """Return the ids of the DAG's finished runs, oldest first."""
    runs = airflow.call("GET", f"/api/v2/dags/{WATCHER}/dagRuns?order_by=run_after&limit=50")["dag_runs"]
    return [run["dag_run_id"] for run in runs if run["state"] in ("success", "failed")]


def test_each_failure_starts_the_dag_which_restarts_at_most_three_times(
    airflow: LocalAirflow, arroyo: SandboxServer, broken: str
) -> None:
    # Each restart fails again.
    wait_until(lambda: len(ended(airflow)) >= 4, what="four runs", timeout_seconds=300)
    runs = ended(airflow)
    for run_id in runs[:3]:
        states = airflow.task_states(WATCHER, run_id)
        assert states == {"diagnose": "success", "count_restart": "success", "restart": "failed"}
        found = airflow.xcom(WATCHER, run_id, "diagnose")
        assert found["pipeline_id"] == broken
        assert "/nonexistent/input.json" in found["diagnosis"]
    assert airflow.task_states(WATCHER, runs[3])["count_restart"] == "failed"
    events = airflow.call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
    payloads = [one["extra"]["payload"] for one in events if "payload" in one["extra"]]
    job = arroyo.call("GET", f"/api/v1/pipelines/{broken}/jobs")["data"][0]
    ids = {f"{job['id']}/{run}/Failed" for run in range(1, job["run_id"] + 1)}
    assert {payload["event_id"] for payload in payloads if payload["event"] == "Failed"} <= ids
    assert len(ids) >= 4
