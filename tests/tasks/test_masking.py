"""Nothing that leaves the process contains the secrets that Arroyo's reason may quote."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.monitoring.event import WaitEvent
from airflow_provider_arroyo.monitoring.explain import explain
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult, result_values
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.monitoring.watch import Event, event_payload
from airflow_provider_arroyo.on_kill import WatchedRun
from airflow_provider_arroyo.sensors.pokes import PokeMemory
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger

from .harness import FakeTaskInstance, StateStore

REASON = (
    "cannot reach kafka://u:hunter2@broker:9092 with 'auth.password' = 'hunter2'; servers = 'u:hunter2@nats'"
)
SHOWN = "cannot reach kafka://***@broker:9092 with 'auth.password' = '***'; servers = '***@nats'"
PIPELINE = PipelineRef(pipeline_id="pl_1", name="orders")
JOB = Job(
    id="job_1",
    state="Running",
    run_id=1,
    failure=FailureReason.from_api({"error": REASON, "domain": "external"}),
)
RESULT = WaitResult(outcome=Outcome.FAILED, job=JOB, target_states=("Stopped",))


def wait() -> PipelineWait:
    """Return a wait that has observed the job."""
    plan = WaitPlan(pipeline=PIPELINE, target_states=frozenset({"Stopped"}), deadline=1e9)
    wait = PipelineWait(plan, now=0.0)
    wait.observe(JOB, 1.0)
    return wait


def remembered() -> Any:
    """Return the state that a poke stores."""
    store = StateStore()
    memory = PokeMemory(store, FakeTaskInstance())
    memory.keep(wait(), RESULT, SimpleNamespace(info=print))
    return store


LEAVING: dict[str, Callable[[], Any]] = {
    "a trigger's event": lambda: WaitEvent(pipeline=PIPELINE, result=RESULT).to_dict(),
    "a trigger's arguments": lambda: ArroyoPipelineTrigger(
        arroyo_conn_id="arroyo_default", plan=None, progress=wait().progress.to_dict()
    ).serialize(),
    "an asset's event": lambda: event_payload(Event("Failed", "1"), PIPELINE, JOB, now=1.0),
    "the note about what a task watches": lambda: WatchedRun.of(wait()).to_dict(),
    "the state that a poke stores": remembered,
    "a task's result": lambda: result_values(PIPELINE, JOB),
    "a task's error": lambda: explain(RESULT, PIPELINE).to_dict(),
    "its log": lambda: [message.text for message in wait().messages()],
}


@pytest.mark.parametrize("what", LEAVING)
def test_no_secret_leaves_the_process(what: str) -> None:
    text = json.dumps(LEAVING[what]())
    assert "hunter2" not in text
    assert SHOWN in text


def test_masking_twice_changes_nothing() -> None:
    read = WaitEvent.from_dict(json.loads(json.dumps(WaitEvent(pipeline=PIPELINE, result=RESULT).to_dict())))
    assert read.result.job is not None
    assert read.result.job.failure == FailureReason(SHOWN, "external")
    assert str(explain(read.result, PIPELINE)) == str(explain(RESULT, PIPELINE))
