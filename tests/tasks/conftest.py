"""A sandbox of each version, and the Airflow connection that leads to it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS

BROKEN = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;"""


@pytest.fixture(params=["0.15", "0.16"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    """Return a sandbox that the connection ``arroyo_default`` leads to."""
    with ArroyoSandbox(arroyo_version=request.param, seed=1, allowed_restarts=2) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


@pytest.fixture
def client(sandbox: ArroyoSandbox) -> Iterator[ArroyoClient]:
    """Return a client of the sandbox that is not the tasks' own."""
    with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
        yield client


class Arrange:
    """Brings pipelines into a state."""

    def __init__(self, sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
        self.sandbox = sandbox
        self.client = client

    def pipeline(self, *states: str, query: str = ENDLESS, name: str = "orders") -> str:
        """Create a pipeline, wait until it is in one of the states, and return its id."""
        made = self.client.create_pipeline(name=name, query=query)
        if states:
            self.until(made.id, *states)
        return made.id

    def until(self, pipeline_id: str, *states: str) -> None:
        """Return when the pipeline is in one of the states."""
        deadline = time.monotonic() + 30
        while (state := self.state(pipeline_id)) not in states:
            assert time.monotonic() < deadline, f"{pipeline_id} is {state}, not {states}"
            time.sleep(0.005)

    def state(self, pipeline_id: str) -> str:
        """Return the state that the pipeline shows."""
        job = self.client.get_job(pipeline_id)
        assert job is not None
        return job.state


@pytest.fixture
def arrange(sandbox: ArroyoSandbox, client: ArroyoClient) -> Arrange:
    """Return what brings pipelines into a state."""
    return Arrange(sandbox, client)
