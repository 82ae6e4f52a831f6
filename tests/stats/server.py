"""A StatsD server."""

from __future__ import annotations

import socket
from collections import defaultdict
from dataclasses import dataclass

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

    @property
    def settings(self) -> dict[str, str]:
        """What makes Airflow send its metrics here, with tags, as environment variables."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            # Only those of this package.
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "arroyo",
        }

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
