"""The client against sandboxes of both versions: the life of a pipeline, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoNotFoundError,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.client.conftest import Connect
from tests.support import ENDLESS

ORDERS: dict[str, Any] = {"name": "orders", "query": ENDLESS}


@pytest.fixture(params=["0.15", "0.16"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(arroyo_version=request.param, clock=ManualClock()) as running:
        yield running


@pytest.fixture
def client(connect: Connect, sandbox: ArroyoSandbox) -> ArroyoClient:
    return connect(sandbox.url)


def test_life_of_a_pipeline(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    client.ping()
    pipeline = client.create_pipeline(**ORDERS)
    assert (pipeline.name, pipeline.query) == ("orders", ENDLESS)
    sandbox.advance(5)
    job = client.get_job(pipeline.id)
    assert job is not None
    assert (job.state, job.run_id) == (JobState.RUNNING, 1)
    assert list(client.list_jobs()) == [job]
    assert client.get_pipeline(pipeline.id).name == "orders"
    assert [found.id for found in client.iter_pipelines()] == [pipeline.id]
    with pytest.raises(ArroyoApiError, match="terminal state"):
        client.delete_pipeline(pipeline.id)
    client.patch_pipeline(pipeline.id, stop=StopMode.CHECKPOINT)
    sandbox.advance(5)
    job = client.get_job(pipeline.id)
    assert job is not None
    assert job.state == JobState.STOPPED
    checkpoint = client.list_checkpoints(pipeline.id, job.id)[-1]
    assert checkpoint.is_finished
    assert client.list_operator_checkpoints(pipeline.id, job.id, checkpoint.epoch)
    assert list(client.list_job_errors(pipeline.id, job.id)) == []
    assert client.list_metrics(pipeline.id, job.id)
    client.delete_pipeline(pipeline.id)
    with pytest.raises(ArroyoNotFoundError, match=pipeline.id):
        client.get_pipeline(pipeline.id)


def test_put(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    request = api.put_pipeline("my/own id", **ORDERS)
    if sandbox.arroyo_version == "0.15":
        with pytest.raises(ArroyoApiError, match=r"0\.15") as caught:
            client.send(request)
        assert caught.value.status == 405
        return
    assert client.send(request).value.id == "my/own id"
    with pytest.raises(ArroyoConflictError):
        client.send(request)
    assert client.get_pipeline("my/own id").name == "orders"
