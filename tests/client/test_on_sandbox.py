"""The client against sandboxes of both versions: the life of a pipeline, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import JobState, StopMode
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoUnreachableError,
    Disposition,
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
    assert client.list_jobs() == (job,)
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
    assert list(client.iter_job_errors(pipeline.id, job.id)) == []
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


@pytest.mark.parametrize(
    "request_",
    [
        api.get_pipeline("pl_gone"),
        api.get_job("pl_gone"),
        api.patch_pipeline("pl_gone", stop="checkpoint"),
        api.restart_pipeline("pl_gone"),
        api.delete_pipeline("pl_gone"),
        api.list_checkpoints("pl_gone", "job_1"),
        api.list_job_errors("pl_gone", "job_1"),
        catalog.delete_connection_table("ct_gone"),
    ],
    ids=str,
)
def test_missing_objects_are_not_found(request_: Request[Any], client: ArroyoClient) -> None:
    with pytest.raises(ArroyoNotFoundError, match="_gone"):
        client.send(request_)


def test_refused_sql_has_its_positions(client: ArroyoClient) -> None:
    with pytest.raises(ArroyoQueryError) as caught:
        client.create_pipeline(name="x", query="SELEC 1")
    assert [(d.line, d.column) for d in caught.value.diagnostics] == [(1, 1)]
    assert not client.validate_query("SELEC 1").is_valid


def test_sql_that_is_too_large_is_refused(client: ArroyoClient) -> None:
    with pytest.raises(ArroyoApiError, match="2 MB") as caught:
        client.create_pipeline(name="x", query="-- " + "x" * 9_000_000)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "comment", ["SELECT '\"<b>''\n\t' -- Zoë 漢字 🦆\n", "é" * 500_000], ids=["odd", "1 MB"]
)
def test_sql_passes_unchanged(comment: str, client: ArroyoClient) -> None:
    name, query = "a\n<b>'\"🦆", f"/* {comment} */\n{ENDLESS}"
    found = client.get_pipeline(client.create_pipeline(name=name, query=query).id)
    assert (found.name, found.query) == (name, query)


def test_a_create_with_a_lost_response_is_not_repeated(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.reset(times=1, method="POST", path="*/pipelines", after_effect=True)
    with pytest.raises(ArroyoConnectionError, match="may have taken effect") as caught:
        client.create_pipeline(**ORDERS)
    assert caught.value.disposition is Disposition.RETRY_IF_IDEMPOTENT
    assert sandbox.requests.count("POST", "*/pipelines") == 1
    assert len(client.list_pipelines().data) == 1


def test_a_delete_whose_response_is_lost_succeeds(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    pipeline = client.create_pipeline(**ORDERS)
    client.patch_pipeline(pipeline.id, stop=StopMode.IMMEDIATE)
    sandbox.advance(5)
    sandbox.faults.reset(times=1, method="DELETE", after_effect=True)
    client.delete_pipeline(pipeline.id)
    assert sandbox.requests.count("DELETE", "*") == 2
    assert client.list_pipelines().data == ()


def test_short_faults_are_retried(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=2, error="try again later")
    sandbox.faults.cut_short(times=1)
    sandbox.faults.reset(times=1)
    assert client.list_jobs() == ()
    assert sandbox.requests.count("GET", "*/jobs") == 5


def test_an_api_that_is_down_is_an_outage(client: ArroyoClient, sandbox: ArroyoSandbox) -> None:
    client.ping()
    sandbox.faults.api_away()
    with pytest.raises(ArroyoUnreachableError, match="Arroyo has been unreachable for 1"):
        client.ping()
    sandbox.faults.api_back()
    client.ping()
