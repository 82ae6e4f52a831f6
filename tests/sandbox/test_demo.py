"""A server that has been in use for a while, for demos and for tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from airflow_provider_arroyo.sandbox.populate import HALF_MADE_ID
from tests.sandbox.support import Caller, bounded


@pytest.fixture
def demo(version: str) -> Iterator[Caller]:
    """Calls of a sandbox with the demo's pipelines."""
    with (
        ArroyoSandbox(arroyo_version=version, clock=ManualClock(), demo=True, seed=1) as sandbox,
        requests.Session() as session,
    ):
        yield Caller(session, sandbox.url)


def series(call: Caller, pipeline_id: str, name: str, node: int = 0) -> list[float]:
    """A metric of a node's first subtask, sample by sample."""
    path = f"/pipelines/{pipeline_id}/jobs/{call.job(pipeline_id)['id']}/operator_metric_groups"
    (found,) = [item for item in call("GET", path).json()["data"] if item["node_id"] == node]
    (group,) = [item for item in found["metric_groups"] if item["name"] == name]
    return [sample["value"] for sample in group["subtasks"][0]["metrics"]] if group["subtasks"] else []


def test_each_situation_is_there(demo: Caller) -> None:
    listed = {item["name"]: item["id"] for item in demo("GET", "/pipelines?limit=100").json()["data"]}
    jobs = {name: demo.job(pipeline_id) for name, pipeline_id in listed.items()}
    assert {name: job["state"] for name, job in jobs.items()} == {
        "clicks_per_day": "Stopped",
        "inventory_snapshot": "Finished",
        "orders_per_minute": "Running",
        "payments_to_warehouse": "Running",
        "shipments_archive": jobs["shipments_archive"]["state"],
        "sessions_flapping": jobs["sessions_flapping"]["state"],
        "refunds_backfill": "Failed",
        "fraud_scores": "Scheduling",
    }
    assert jobs["sessions_flapping"]["run_id"] > 10
    assert jobs["shipments_archive"]["run_id"] > 10
    errors = demo(
        "GET", f"/pipelines/{listed['refunds_backfill']}/jobs/{jobs['refunds_backfill']['id']}/errors"
    )
    assert "no column amount" in errors.json()["data"][0]["details"]
    orders = series(demo, listed["orders_per_minute"], "messages_sent")
    # The smoothing reduces a swing of 200 to this.
    assert (min(orders), max(orders)) == pytest.approx((323, 677), rel=0.02)
    assert min(series(demo, listed["payments_to_warehouse"], "backpressure")) > 0.8
    assert max(series(demo, listed["orders_per_minute"], "backpressure")) < 0.1
    assert max(series(demo, listed["shipments_archive"], "messages_sent"), default=0) == 0
    assert demo("GET", f"/pipelines/{HALF_MADE_ID}").status_code == 404
    deleted = demo("DELETE", f"/pipelines/{HALF_MADE_ID}").status_code
    assert deleted == (404 if "failure_message" in jobs["fraud_scores"] else 200)


def test_its_time_is_now() -> None:
    with ArroyoSandbox(demo=True) as sandbox, ArroyoSandbox() as other:
        assert abs(sandbox.clock.now_micros() - other.clock.now_micros()) < 60_000_000


def test_traffic_changes_future_metrics_and_keeps_past_ones(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create(query=bounded(500, 10_000_000))
    sandbox.advance(30)
    before = series(call, pipeline_id, "messages_sent")
    assert before == pytest.approx([500.0] * len(before), rel=0.01)
    body: dict[str, Any] = {"kind": "traffic", "pipeline": pipeline_id, "rate": 50, "backpressure": 0.9}
    assert requests.post(f"{sandbox.url}/sandbox/faults", json=body, timeout=60).ok
    sandbox.advance(30)
    after = series(call, pipeline_id, "messages_sent")
    assert after[: len(before)] == before
    smoothed = [50 + 450 * 0.9**number for number in range(1, len(after) - len(before) + 1)]
    assert after[len(before) :] == pytest.approx(smoothed, rel=0.01)
    assert 0.8 < series(call, pipeline_id, "backpressure")[-1] <= 0.9
    assert call.job(pipeline_id)["run_id"] == 1
    sandbox.faults.traffic(pipeline_id, rate=0)
    sandbox.advance(600)
    *_, last_but_one, last = series(call, pipeline_id, "messages_sent")
    assert 0 < last < 1e-9
    assert last == pytest.approx(0.9 * last_but_one)
    for field, value in (("swing", 2), ("backpressure", 1.5), ("period", 0)):
        with pytest.raises(ValueError, match=f"{field}: must be"):
            sandbox.faults.traffic(pipeline_id, **{field: value})
