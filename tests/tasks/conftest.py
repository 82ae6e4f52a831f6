"""A sandbox, and the Airflow connection that leads to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.polling.support import patient
from tests.support import BROKEN as BROKEN
from tests.support import ENDLESS
from tests.tasks.harness import SYNC

SPEED = 4
"""How many seconds of the sandbox pass in a real second; tasks poll in real time, ten times a second."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use a sandbox on 0.16, or on the versions in the marker ``arroyo_versions``."""
    if "sandbox" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("arroyo_versions")
        metafunc.parametrize("sandbox", marker.args if marker else ("0.16",), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what both versions need in every mode on 0.16 only, and on 0.15 in a worker: no mode knows the version."""

    def is_repeated(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("arroyo_versions")
        if marker is None or len(marker.args) == 1 or not isinstance(item, pytest.Function):
            return False
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return given.get("sandbox") == "0.15" and given.get("mode", SYNC) != SYNC

    items[:] = [item for item in items if not is_repeated(item)]


@pytest.fixture(autouse=True)
def _grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the grace time of old states to the speed of the sandbox."""
    defaults = WaitPlan.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "stale_grace", defaults["stale_grace"] / SPEED)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    """Return a sandbox, to which the connection ``arroyo_default`` leads."""
    with ArroyoSandbox(arroyo_version=request.param, seed=1, allowed_restarts=2, speed=SPEED) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        # Without it, each submit would warn that this Airflow has no namespace.
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
        yield server


@pytest.fixture
def _soon_lost(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time in which a lost create may still arrive, and is searched for, to three seconds."""
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri(read_timeout=3))


@pytest.fixture
def client(sandbox: ArroyoSandbox) -> Iterator[ArroyoClient]:
    """Return a client of the sandbox, separate from those of the tasks."""
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
        """Advance the sandbox's clock until the pipeline is in one of the states."""
        for _ in range(1000):
            if (state := self.sandbox.state(pipeline_id)) in states:
                return
            self.sandbox.advance(0.03)
        raise AssertionError(f"{pipeline_id} is {state}, not {states}")

    def until_run(self, pipeline: str, run: int) -> None:
        """Advance the sandbox's clock until that run of a pipeline, by its id or name, is Running."""
        for _ in range(1000):
            (job,) = [
                one for one in self.sandbox.store.jobs() if pipeline in (one.pipeline.id, one.pipeline.name)
            ]
            if job.run_id >= run and self.sandbox.state(job.pipeline.id) == "Running":
                return
            self.sandbox.advance(0.03)
        raise AssertionError(f"run {run} of {pipeline} is not Running")

    def after_polls(
        self, act: Callable[..., object], *values: Any, polls: int = 2, path: str = "*/jobs"
    ) -> None:
        """Call a function in a thread after that many more GETs of a path, however slow the machine is."""

        def responses() -> int:
            return sum(one.status is not None for one in self.sandbox.requests.find("GET", path))

        seen = polls + responses()

        def wait() -> None:
            deadline = time.monotonic() + 60
            while responses() < seen and time.monotonic() < deadline:
                time.sleep(0.005)
            act(*values)

        threading.Thread(target=wait, daemon=True).start()

    def state(self, pipeline_id: str) -> str:
        """Return the pipeline's current state."""
        job = self.client.get_job(pipeline_id)
        assert job is not None
        return job.state


@pytest.fixture
def arrange(sandbox: ArroyoSandbox, client: ArroyoClient) -> Arrange:
    """Return a helper that brings pipelines into a state."""
    return Arrange(sandbox, client)
