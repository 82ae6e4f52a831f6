"""A sandbox of each version, and the Airflow connection that leads to it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS

BROKEN = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look give up after two retries: outages here last for tenths of a second, not for minutes."""
    for module in ("client", "async_client"):
        short = functools.partial(RetryPolicy, retries=2)
        monkeypatch.setattr(f"airflow_provider_arroyo.arroyo.{module}.RetryPolicy", short)


@pytest.fixture(params=["0.15", "0.16"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    """Return a sandbox that the connection ``arroyo_default`` leads to."""
    with ArroyoSandbox(arroyo_version=request.param, seed=1, allowed_restarts=2) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


@pytest.fixture
def client(sandbox: ArroyoSandbox) -> Iterator[ArroyoClient]:
    """Return a client of the sandbox, to arrange and to look."""
    with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
        yield client


class Arrange:
    """Brings pipelines about."""

    def __init__(self, sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
        self.sandbox = sandbox
        self.client = client

    def pipeline(self, *states: str, query: str = ENDLESS, name: str = "orders") -> str:
        """Make a pipeline, wait until it is in one of the states, and return its id."""
        made = self.client.call(api.create_pipeline(PipelineSpec(name=name, query=query)))
        if states:
            self.until(made.id, *states)
        return made.id

    def until(self, pipeline_id: str, *states: str) -> None:
        """Return when the pipeline is in one of the states."""
        for _ in range(20_000):
            if self.state(pipeline_id) in states:
                return
        raise AssertionError(f"{pipeline_id} is {self.state(pipeline_id)}, not {states}")

    def state(self, pipeline_id: str) -> str:
        """Return the state that the pipeline shows."""
        return self.client.call(api.pipeline_jobs(pipeline_id))[0].state


@pytest.fixture
def arrange(sandbox: ArroyoSandbox, client: ArroyoClient) -> Arrange:
    """Return what brings pipelines about."""
    return Arrange(sandbox, client)
