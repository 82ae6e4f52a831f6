from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.hooks.letting_go.support import Bench, Lines


@pytest.fixture
def sandbox() -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(clock=ManualClock(), seed=3) as made:
        yield made


@pytest.fixture(params=["worker", "triggerer"])
def bench(
    request: pytest.FixtureRequest, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    made = Bench(sandbox, request.param, Lines(), monkeypatch)
    yield made
    made.client.close()


@pytest.fixture
def worker(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(sandbox, "worker", Lines(), monkeypatch)
    yield made
    made.client.close()


@pytest.fixture
def triggerer(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(sandbox, "triggerer", Lines(), monkeypatch)
    yield made
    made.client.close()
