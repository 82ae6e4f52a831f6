"""Both clients against the sandbox, of both versions: what a pipeline goes through, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.models import JobState, StopMode
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoTlsError,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.arroyo.conftest import Connect, Driver, write_client_cert

SOURCE = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
SINK = "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
ORDERS = PipelineSpec(name="orders", query=SOURCE + SINK + "INSERT INTO sink SELECT counter FROM impulse;")


@pytest.fixture(params=["0.15", "0.16"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(arroyo_version=request.param, clock=ManualClock()) as running:
        yield running


@pytest.fixture
def driver(connect: Connect, sandbox: ArroyoSandbox) -> Driver:
    return connect(sandbox.url)


def test_life_of_a_pipeline(driver: Driver, sandbox: ArroyoSandbox) -> None:
    driver.call(api.ping())
    pipeline = driver.call(api.create_pipeline(ORDERS))
    assert (pipeline.name, pipeline.query) == (ORDERS.name, ORDERS.query)
    sandbox.advance(5)
    (job,) = driver.call(api.pipeline_jobs(pipeline.id))
    assert (job.state, job.run_id) == (JobState.RUNNING, 1)
    assert driver.call(api.list_jobs()) == (job,)
    assert driver.call(api.get_pipeline(pipeline.id)).name == "orders"
    assert [found.id for found in driver.first_items(api.list_pipelines(limit=1), 10)] == [pipeline.id]
    with pytest.raises(ArroyoApiError, match="terminal state"):
        driver.call(api.delete_pipeline(pipeline.id))
    driver.call(api.patch_pipeline(pipeline.id, stop=StopMode.CHECKPOINT))
    sandbox.advance(5)
    assert driver.call(api.pipeline_jobs(pipeline.id))[0].state == JobState.STOPPED
    assert driver.call(api.checkpoints(pipeline.id, job.id))[-1].is_finished
    assert driver.call(api.job_errors(pipeline.id, job.id)).data == ()
    assert driver.call(api.metrics(pipeline.id, job.id))
    driver.call(api.delete_pipeline(pipeline.id))
    with pytest.raises(ArroyoNotFoundError, match=pipeline.id):
        driver.call(api.get_pipeline(pipeline.id))


def test_put(driver: Driver, sandbox: ArroyoSandbox) -> None:
    call = api.put_pipeline("my/own id", ORDERS)
    if sandbox.arroyo_version == "0.15":
        with pytest.raises(ArroyoApiError, match=r"0\.15") as caught:
            driver.call(call)
        assert caught.value.status == 405
        return
    assert driver.call(call).id == "my/own id"
    with pytest.raises(ArroyoConflictError):
        driver.call(call)
    assert driver.call(api.get_pipeline("my/own id")).name == "orders"


def test_sql_that_is_refused(driver: Driver) -> None:
    bad = PipelineSpec(name="x", query="SELEC 1")
    with pytest.raises(ArroyoQueryError) as caught:
        driver.call(api.create_pipeline(bad))
    assert [(d.line, d.column) for d in caught.value.diagnostics] == [(1, 1)]
    assert not driver.call(api.validate_query(bad.query)).is_valid


@pytest.mark.parametrize("size", [2_200_000, 9_000_000])
def test_sql_that_is_too_large(size: int, driver: Driver) -> None:
    with pytest.raises(ArroyoApiError, match="2 MB") as caught:
        driver.call(api.create_pipeline(PipelineSpec(name="x", query="-- " + "x" * size)))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "query", ["SELECT '\"<b>''\n\t' -- Zoë 漢字 🦆\n", "é" * 500_000], ids=["odd", "1 MB"]
)
def test_sql_passes_unharmed(query: str, driver: Driver) -> None:
    spec = PipelineSpec(name="a\n<b>'\"🦆", query=f"/* {query} */\n{ORDERS.query}")
    made = driver.call(api.create_pipeline(spec))
    found = driver.call(api.get_pipeline(made.id))
    assert (found.name, found.query) == (spec.name, spec.query)


def test_create_whose_answer_is_lost(driver: Driver, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.reset(times=1, method="POST", path="*/pipelines", after_effect=True)
    with pytest.raises(ArroyoConnectionError, match="may have taken effect") as caught:
        driver.call(api.create_pipeline(ORDERS))
    assert caught.value.was_sent
    assert sandbox.requests.count("POST", "*/pipelines") == 1
    assert len(driver.call(api.list_pipelines()).data) == 1


def test_faults_that_pass(driver: Driver, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=2, error="try again later")
    sandbox.faults.cut_short(times=1)
    sandbox.faults.reset(times=1)
    assert driver.call(api.list_jobs()) == ()
    assert sandbox.requests.count("GET", "*/jobs") == 5


def test_api_that_is_away(connect: Connect, sandbox: ArroyoSandbox) -> None:
    driver = connect(sandbox.url, retry=RetryPolicy(retries=0))
    driver.call(api.ping())
    sandbox.faults.api_away()
    with pytest.raises(ArroyoConnectionError) as caught:
        driver.call(api.ping())
    assert caught.value.is_transient
    sandbox.faults.api_back()
    driver.call(api.ping())


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_key(key: str | None, connect: Connect) -> None:
    with ArroyoSandbox(arroyo_version="0.16", api_key="s3cret") as sandbox:
        connect(sandbox.url, api_key="s3cret").call(api.list_jobs())
        with pytest.raises(ArroyoAuthError) as caught:
            connect(sandbox.url, api_key=key).call(api.list_jobs())
    assert caught.value.status == 401
    assert "wrong-key" not in str(caught.value)


class TestTls:
    @pytest.fixture
    def secure(self, authority: trustme.CA, ca_cert: str, tmp_path: Path) -> Iterator[ArroyoSandbox]:
        made = authority.issue_cert("127.0.0.1")
        cert, key = tmp_path / "server.pem", tmp_path / "server.key"
        made.cert_chain_pems[0].write_to_path(str(cert))
        made.private_key_pem.write_to_path(str(key))
        with ArroyoSandbox(tls_cert=str(cert), tls_key=str(key), tls_client_ca=ca_cert) as running:
            yield running

    def settings(self, authority: trustme.CA, ca_cert: str, folder: Path) -> dict[str, Any]:
        folder.mkdir()
        cert, key = write_client_cert(authority, folder)
        return {"ca_cert": ca_cert, "client_cert": cert, "client_key": key}

    def test_client_certificate(
        self, secure: ArroyoSandbox, connect: Connect, authority: trustme.CA, ca_cert: str, tmp_path: Path
    ) -> None:
        connect(secure.url, **self.settings(authority, ca_cert, tmp_path / "good")).call(api.ping())
        with pytest.raises(ArroyoTlsError, match="wants a client certificate, and none was sent"):
            connect(secure.url, ca_cert=ca_cert).call(api.ping())
        with pytest.raises(ArroyoTlsError, match="refuses the client certificate"):
            connect(secure.url, **self.settings(trustme.CA(), ca_cert, tmp_path / "bad")).call(api.ping())

    def test_mixed_up_schemes(self, secure: ArroyoSandbox, sandbox: ArroyoSandbox, connect: Connect) -> None:
        with pytest.raises(ArroyoTlsError, match="wants TLS, and plain HTTP was sent"):
            connect(secure.url.replace("https", "http")).call(api.ping())
        with pytest.raises(ArroyoTlsError, match="does not speak TLS"):
            connect(sandbox.url.replace("http", "https")).call(api.ping())
