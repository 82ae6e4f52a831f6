from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.arroyo_core.bench import Bench, bench

# A busy machine is not a failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(params=["0.15", "0.16"])
def both(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench of each version of Arroyo in turn."""
    with bench(request.param) as made:
        yield made


@pytest.fixture
def old() -> Iterator[Bench]:
    """A bench of 0.15, which has no PUT."""
    with bench("0.15") as made:
        yield made


@pytest.fixture
def new() -> Iterator[Bench]:
    """A bench of 0.16."""
    with bench("0.16") as made:
        yield made
