from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.on_kill.support import Bench

MakeBench = Callable[[str], Bench]


@pytest.fixture
def make_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeBench]:
    """Make the bench for "worker" or "triggerer"."""
    with ArroyoSandbox(clock=ManualClock(), seed=3) as sandbox:
        made: list[Bench] = []

        def make(mode: str) -> Bench:
            made.append(Bench(sandbox, mode, monkeypatch))
            return made[-1]

        yield make
        for bench in made:
            bench.client.close()


@pytest.fixture(params=["worker", "triggerer"])
def bench(request: pytest.FixtureRequest, make_bench: MakeBench) -> Bench:
    return make_bench(request.param)


@pytest.fixture
def worker(make_bench: MakeBench) -> Bench:
    return make_bench("worker")


@pytest.fixture
def triggerer(make_bench: MakeBench) -> Bench:
    return make_bench("triggerer")
