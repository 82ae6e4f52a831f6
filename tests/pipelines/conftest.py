from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipelines.bench import Bench, open_bench


@pytest.fixture(params=["0.15", "0.16"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench for each version of Arroyo in turn."""
    with open_bench(request.param) as opened:
        yield opened


@pytest.fixture
def bench_015() -> Iterator[Bench]:
    """A bench for 0.15, which has no PUT."""
    with open_bench("0.15") as opened:
        yield opened


@pytest.fixture
def bench_016() -> Iterator[Bench]:
    with open_bench("0.16") as opened:
        yield opened
