"""Sandboxes for the tests of the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.sandbox.support import Caller


@pytest.fixture(params=["0.15", "0.16"])
def version(request: pytest.FixtureRequest) -> str:
    """Each version of Arroyo in turn."""
    return str(request.param)


@pytest.fixture
def sandbox(version: str) -> Iterator[ArroyoSandbox]:
    """A sandbox whose clock moves only by hand."""
    with ArroyoSandbox(arroyo_version=version, clock=ManualClock(), seed=7) as sandbox:
        yield sandbox


@pytest.fixture
def call(sandbox: ArroyoSandbox) -> Iterator[Caller]:
    """Calls of that sandbox."""
    with requests.Session() as session:
        yield Caller(session, sandbox.url)
