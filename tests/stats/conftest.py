"""Airflow's stats, configured as in a task's process."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Stats

from tests.tasks.conftest import _grace, _patient, arrange, client, pytest_generate_tests, sandbox

from .server import StatsdServer

__all__ = ["_grace", "_patient", "arrange", "client", "pytest_generate_tests", "sandbox"]


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """Return a server that Airflow's stats send to."""
    server = StatsdServer()
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    _set_up(monkeypatch)
    yield server
    server.close()


def _set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Initialise the stats from Airflow's configuration, as a task's process does."""
    stats: Any = Stats
    try:
        make = import_module("airflow.sdk.observability.metrics.statsd_logger").get_statsd_logger
    except ImportError:  # Airflow 3.0 and 3.1
        make = import_module("airflow.metrics.statsd_logger").get_statsd_logger
        monkeypatch.setattr(type(stats), "factory", make)
        monkeypatch.setattr(stats, "instance", None)
        return
    if type(stats) is type:  # Airflow 3.3
        module = import_module("airflow.sdk._shared.observability.metrics.stats")
        monkeypatch.setattr(module, "_factory", make)
        monkeypatch.setattr(module, "_backend", None)
    else:
        monkeypatch.setattr(stats, "factory", make)
        monkeypatch.setattr(stats, "instance", None)
