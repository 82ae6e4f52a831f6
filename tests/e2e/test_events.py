"""The example DAG that a dying pipeline starts, in a real Airflow."""

from __future__ import annotations

import pytest

from scripts.local_airflow import LocalAirflow, wait_until
from scripts.local_arroyo import SandboxServer

pytestmark = pytest.mark.e2e

DAG_ID = "arroyo_restart_on_failure"
BROKEN = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""


def ended(airflow: LocalAirflow) -> list[str]:
    """Return the ids of the DAG's runs, the first one first, without one that is under way."""
    runs = airflow.call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns?order_by=run_after&limit=50")["dag_runs"]
    return [run["dag_run_id"] for run in runs if run["state"] in ("success", "failed")]


def test_each_death_starts_the_dag_and_it_restarts_no_more_than_three_times(
    airflow: LocalAirflow, arroyo: SandboxServer
) -> None:
    body = {"name": "orders_kept_alive", "query": BROKEN, "parallelism": 1}
    pipeline_id = arroyo.call("POST", "/api/v1/pipelines", body)["id"]
    airflow.unpause(DAG_ID)
    # A watcher begins with the first parse of its DAG's file after that. Each restart of it fails again.
    wait_until(lambda: len(ended(airflow)) >= 4, what="four runs", timeout_seconds=300)
    runs = ended(airflow)
    for run_id in runs[:3]:
        states = airflow.task_states(DAG_ID, run_id)
        assert states == {"diagnose": "success", "count_restart": "success", "restart": "failed"}
        found = airflow.xcom(DAG_ID, run_id, "diagnose")
        assert found["pipeline_id"] == pipeline_id
        assert "/nonexistent/input.json" in found["diagnosis"]
    assert airflow.task_states(DAG_ID, runs[3])["count_restart"] == "failed"
    events = airflow.call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
    payloads = [one["extra"]["payload"] for one in events if "payload" in one["extra"]]
    job = arroyo.call("GET", f"/api/v1/pipelines/{pipeline_id}/jobs")["data"][0]
    ids = {f"{job['id']}/{run}/Failed" for run in range(1, job["run_id"] + 1)}
    assert {payload["event_id"] for payload in payloads if payload["event"] == "Failed"} <= ids
    assert len(ids) >= 4
