"""The integration test of an API client, with a strict client of a few lines."""

from __future__ import annotations

from typing import Any

import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.sandbox.support import Caller


def wait(call: Caller, pipeline_id: str, state: str, *, after_run: int = 0) -> dict[str, Any]:
    """Poll until a job shows a state in a later run; the sandbox's time is twenty times ours."""
    for _ in range(10_000):
        job = call.job(pipeline_id)
        if job["state"] == state and job["run_id"] > after_run:
            return job
        assert job["state"] != "Failed"
    raise AssertionError(f"never {state}: {job}")


def test_a_pipeline_from_its_table_to_its_end(version: str) -> None:
    with ArroyoSandbox(arroyo_version=version, speed=20) as sandbox, requests.Session() as session:
        call = Caller(session, sandbox.url)
        table = {"name": "ticks", "connector": "impulse", "config": {"event_rate": 100}}
        made = call("POST", "/connection_tables", table).json()
        query = (
            "SELECT count(*) FROM ticks WHERE counter % 2 = 0 "
            "GROUP BY hop(interval '2 seconds', interval '10 seconds');"
        )
        valid = call("POST", "/pipelines/validate_query", {"query": query}).json()
        assert valid["errors"] == []
        pipeline_id = call.create("orders", query)
        job = wait(call, pipeline_id, "Running")
        below = f"/pipelines/{pipeline_id}/jobs/{job['id']}"
        for _ in range(10_000):
            done = [item for item in call.checkpoints(pipeline_id) if item["finish_time"]]
            if len(done) >= 10:
                break
        assert [item["epoch"] for item in done[:10]] == list(range(1, 11))
        details = call("GET", f"{below}/checkpoints/10/operator_checkpoint_groups").json()["data"]
        assert len(details) >= len(valid["graph"]["nodes"])
        assert call("GET", f"{below}/errors").json()["data"] == []
        metrics = call("GET", f"{below}/operator_metric_groups").json()["data"]
        nodes = {node["node_id"] for node in valid["graph"]["nodes"]}
        assert {item["node_id"] for item in metrics} == nodes
        assert all(any(group["subtasks"] for group in item["metric_groups"]) for item in metrics)

        path = f"/pipelines/{pipeline_id}"
        call("PATCH", path, {"stop": "checkpoint"})
        wait(call, pipeline_id, "Stopped")
        call("PATCH", path, {"stop": "none"})
        job = wait(call, pipeline_id, "Running", after_run=1)
        call("PATCH", path, {"parallelism": 2})
        job = wait(call, pipeline_id, "Running", after_run=job["run_id"])
        graph = call("GET", path).json()["graph"]
        assert {node["parallelism"] for node in graph["nodes"]} == {2}
        assert job["tasks"] == 2 * len(graph["nodes"])
        call("POST", f"{path}/restart", {})
        wait(call, pipeline_id, "Running", after_run=job["run_id"])
        call("PATCH", path, {"stop": "immediate"})
        wait(call, pipeline_id, "Stopped")
        assert call("DELETE", path).status_code == 200
        assert call("DELETE", f"/connection_tables/{made['id']}").status_code == 200
        assert call("GET", path).status_code == 404
