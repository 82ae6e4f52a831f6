"""An Airflow with CeleryExecutor: Debian's Redis, and Airflow's components one by one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from cryptography.fernet import Fernet

from scripts import processes
from scripts.local_airflow import wait_until
from tests.chaos.cluster import Cluster

CONCURRENCY = "8"


class NoRedisError(RuntimeError):
    """There is no Redis on this machine."""


class Redis:
    """Runs inside a ``with`` block, on a free port, and keeps nothing."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise NoRedisError("There is no Redis here. On Debian: apt-get install redis-server")
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="arroyo-redis-"))
        (self._port,) = processes.free_ports(1)
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        settings = {
            "port": self._port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._folder,
        }
        self._server = subprocess.Popen(
            [self._program, *(str(one) for name, value in settings.items() for one in (f"--{name}", value))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def settings(self, database_url: str) -> dict[str, str]:
        """Return Airflow's settings for it."""
        return {
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database_url.replace('+psycopg2', '')}",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": Fernet.generate_key().decode(),
        }


class CeleryAirflow(Cluster):
    """Airflow's components one by one, with a Celery worker.

    :param arguments: see :class:`.LocalAirflow`; the environment names the executor, its broker and a database.
    """

    def start(self, *, timeout_seconds: float = 240.0) -> None:
        """Start every component, and wait until all are healthy and the worker has registered."""
        super().start(timeout_seconds=timeout_seconds)
        log = self.log_path("worker")
        processes.start(
            [sys.executable, "-m", "airflow", "celery", "worker", "--concurrency", CONCURRENCY],
            log=log,
            env=self._env,
            mark=self._mark,
            cwd=self.home,
        )
        wait_until(
            lambda: log.exists() and "ready." in log.read_text(errors="replace"),
            what="the Celery worker to be ready",
            timeout_seconds=timeout_seconds,
            interval_seconds=1,
        )
