"""A StatsD server."""

from __future__ import annotations

import select
import socket
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

PREFIX = "airflow.arroyo."


@dataclass(frozen=True)
class Sent:
    """One metric as the server received it, without Airflow's prefix.

    :param kind: StatsD's type: ``c`` for a counter, ``ms`` for a timer.
    """

    name: str
    value: float
    kind: str
    tags: tuple[str, ...]


class StatsdServer:
    """Receives metrics on a local UDP port in a thread, so that none is lost to a full buffer."""

    def __init__(self) -> None:
        self._sent: list[Sent] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that make Airflow send its metrics here, with tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            # Only those of this package.
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "arroyo",
        }

    def take(self) -> list[Sent]:
        """Return what arrived since the last call. On the local interface, a datagram arrives when it is sent."""
        with self._lock:
            self._read()
            sent, self._sent = self._sent, []
        return sent

    def _receive(self) -> None:
        while not self._closed.is_set():
            select.select([self._socket], [], [], 0.1)
            with self._lock:
                self._read()

    def _read(self) -> None:
        """Store what has arrived."""
        with suppress(BlockingIOError):
            while True:
                line = self._socket.recv(65536).decode()
                where, _, what = line.rpartition(":")
                name, *tags = where.split(",")
                value, kind = what.split("|")[:2]
                if name.startswith(PREFIX):  # the others are Airflow's own
                    self._sent.append(Sent(name.removeprefix("airflow."), float(value), kind, tuple(tags)))

    def totals(self) -> dict[str, float]:
        """Return the sums of what arrived since the last call, by name."""
        totals: dict[str, float] = defaultdict(float)
        for one in self.take():
            totals[one.name] += one.value
        return totals

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._socket.close()
