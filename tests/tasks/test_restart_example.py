"""The example DAG that restarts a stream: when it restarts, and when it leaves the pipeline alone."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from tests.tasks.conftest import BROKEN, Arrange

PATH = Path(__file__).parents[2] / "example_dags" / "arroyo_restart_on_failure.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("arroyo_restart_on_failure", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(example: Any, task_id: str, **arguments: Any) -> Any:
    return example.restart.dag.get_task(task_id).python_callable(**arguments)


def test_it_diagnoses_the_failed_run_and_no_later_one(example: Any, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    job = arrange.client.get_job(pipeline_id)
    assert job is not None
    payload: dict[str, Any] = {
        "event": "Failed",
        "pipeline_id": pipeline_id,
        "job_id": job.id,
        "run_id": job.run_id,
    }
    events = {"orders": [SimpleNamespace(extra={"payload": payload})]}
    found = call(example, "diagnose", triggering_asset_events=events)
    assert found["pipeline_id"] == pipeline_id
    assert "/nonexistent/input.json" in found["diagnosis"]
    payload["run_id"] -= 1
    for none in (events, {}, None):
        with pytest.raises(AirflowSkipException):
            call(example, "diagnose", triggering_asset_events=none)
    # A pipeline that keeps restarting is in another run than that of the event, unless it was replaced.
    payload["event"] = "Restarts"
    assert call(example, "diagnose", triggering_asset_events=events)["pipeline_id"] == pipeline_id
    payload["job_id"] = "job_other"
    with pytest.raises(AirflowSkipException, match="replaced"):
        call(example, "diagnose", triggering_asset_events=events)


def test_the_restarts_per_hour_are_limited(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {example.RESTARTS: [time.time() - 3700] * 5}

    class Variable:
        @staticmethod
        def get(key: str, default: Any, deserialize_json: bool) -> Any:
            return kept.get(key, default)

        @staticmethod
        def set(key: str, value: Any, serialize_json: bool) -> None:
            kept[key] = value

    monkeypatch.setattr(example, "Variable", Variable)
    for _ in range(example.MAX_RESTARTS_PER_HOUR):
        call(example, "count_restart")
    with pytest.raises(AirflowFailException, match="3 times"):
        call(example, "count_restart")
    assert len(kept[example.RESTARTS]) == example.MAX_RESTARTS_PER_HOUR
