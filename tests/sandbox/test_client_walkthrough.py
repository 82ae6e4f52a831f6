"""The integration test of an API client, with a strict client of a few lines."""

from __future__ import annotations

from typing import Any

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.sandbox.support import Caller


# The clock moves only by hand: a restart at a random time may come during a checkpoint, and then never ends.
def test_a_pipeline_from_its_table_to_its_end(sandbox: ArroyoSandbox, call: Caller) -> None:
    def wait(pipeline_id: str, state: str, *, after_run: int = 0) -> dict[str, Any]:
        """Poll until a job shows a state in a later run."""
        for _ in range(1000):
            job = call.job(pipeline_id)
            if job["state"] == state and job["run_id"] > after_run:
                return job
            assert job["state"] != "Failed"
            sandbox.advance(0.05)
        raise AssertionError(f"never {state}: {job}")

    table = {"name": "ticks", "connector": "impulse", "config": {"event_rate": 100}}
    made = call("POST", "/connection_tables", table).json()
    query = (
        "SELECT count(*) FROM ticks WHERE counter % 2 = 0 "
        "GROUP BY hop(interval '2 seconds', interval '10 seconds');"
    )
    valid = call("POST", "/pipelines/validate_query", {"query": query}).json()
    assert valid["errors"] == []
    pipeline_id = call.create("orders", query)
    job = wait(pipeline_id, "Running")
    below = f"/pipelines/{pipeline_id}/jobs/{job['id']}"
    for _ in range(1000):
        done = [item for item in call.checkpoints(pipeline_id) if item["finish_time"]]
        if len(done) >= 10:
            break
        sandbox.advance(0.05)
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
    wait(pipeline_id, "Stopped")
    call("PATCH", path, {"stop": "none"})
    job = wait(pipeline_id, "Running", after_run=1)
    call("PATCH", path, {"parallelism": 2})
    job = wait(pipeline_id, "Running", after_run=job["run_id"])
    graph = call("GET", path).json()["graph"]
    assert {node["parallelism"] for node in graph["nodes"]} == {2}
    assert job["tasks"] == 2 * len(graph["nodes"])
    call("POST", f"{path}/restart", {})
    wait(pipeline_id, "Running", after_run=job["run_id"])
    call("PATCH", path, {"stop": "immediate"})
    wait(pipeline_id, "Stopped")
    assert call("DELETE", path).status_code == 200
    assert call("DELETE", f"/connection_tables/{made['id']}").status_code == 200
    assert call("GET", path).status_code == 404
