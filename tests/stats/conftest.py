"""A StatsD server, and Airflow's stats set up to send to it as they are in a task's process."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Stats

from tests.tasks.conftest import _grace, arrange, client, pytest_generate_tests, sandbox

__all__ = ["_grace", "arrange", "client", "pytest_generate_tests", "sandbox"]


PREFIX = "airflow.arroyo."


@dataclass(frozen=True)
class Sent:
    """One metric as the server got it, without the prefix that Airflow puts before all.

    :param kind: StatsD's: ``c`` for a counter, ``ms`` for a timer.
    """

    name: str
    value: float
    kind: str
    tags: tuple[str, ...]


class StatsdServer:
    """Receives metrics on a local UDP port."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def take(self) -> list[Sent]:
        """Return what arrived since the last call. On the local interface, a datagram has arrived once it is sent."""
        sent: list[Sent] = []
        while True:
            try:
                line = self._socket.recv(65536).decode()
            except BlockingIOError:
                return sent
            where, _, what = line.rpartition(":")
            name, *tags = where.split(",")
            value, kind = what.split("|")[:2]
            if name.startswith(PREFIX):  # the others are Airflow's own
                sent.append(Sent(name.removeprefix("airflow."), float(value), kind, tuple(tags)))

    def totals(self) -> dict[str, float]:
        """Return what arrived since the last call, summed up by name."""
        totals: dict[str, float] = defaultdict(float)
        for one in self.take():
            totals[one.name] += one.value
        return totals

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """Return a server that Airflow's stats send to."""
    server = StatsdServer()
    for name, value in {
        "STATSD_ON": "True",
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": str(server.port),
        "STATSD_INFLUXDB_ENABLED": "True",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
    _set_up(monkeypatch)
    yield server
    server.close()


def _set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stats that tasks use start anew, from Airflow's configuration, as the process of a task does."""
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
