from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.pipelines.bench import Bench, open_bench

# A slow example on a busy machine is not a failure.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


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
