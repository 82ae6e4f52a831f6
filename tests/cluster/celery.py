"""An Airflow with CeleryExecutor: Debian's Redis, and Celery workers beside Airflow's other components."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import psutil
from cryptography.fernet import Fernet

from scripts import processes
from scripts.local_airflow import LocalAirflowError, wait_until

from .airflow import Cluster

CONCURRENCY = "8"


class NoRedisError(RuntimeError):
    """There is no Redis on this machine."""


class Redis:
    """Runs inside a ``with`` block, on a free port, without persistence."""

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
        # scripts.processes cannot stop it: it overwrites its environment, including the mark.
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
    """Airflow's components as separate processes, with Celery workers.

    :param workers: how many, default 2.
    :param arguments: see :class:`.Cluster`; the environment names the executor, its broker and a database.
    """

    def __init__(self, *, workers: int = 2, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._workers: list[psutil.Process] = []
        self._count = workers
        self._numbers = itertools.count(1)

    def start(self, *, timeout_seconds: float = 240.0) -> None:
        """Start every component, and wait until all are healthy and the workers have registered."""
        super().start(timeout_seconds=timeout_seconds)
        for log in [self._start_worker() for _ in range(self._count)]:
            wait_until(
                lambda log=log: log.exists() and "ready." in log.read_text(errors="replace"),  # type: ignore[misc]  # the default binds it
                what="a Celery worker to be ready",
                timeout_seconds=timeout_seconds,
                interval_seconds=1,
            )

    def _start_worker(self) -> Path:
        name = f"worker-{next(self._numbers)}"
        # All workers write to one folder, so no log server is needed.
        more = ["--concurrency", CONCURRENCY, "--celery-hostname", f"{name}@%h", "--skip-serve-logs"]
        self._workers.append(self.start_process("celery", "worker", *more, log=name))
        return self.log_path(name)

    def kill_worker(self, pid: int) -> None:
        """Kill the worker that runs a task, with all its processes at once, and start another one.

        :param pid: the task's process.
        """
        for worker in self._workers:
            if pid in {process.pid for process in worker.children(recursive=True)}:
                break
        else:
            raise LocalAirflowError(f"No worker has the process {pid}")
        processes.kill_tree(worker)
        self._workers.remove(worker)
        self._start_worker()

    def worker_logs(self) -> str:
        """Return the logs of all workers, including killed ones."""
        return "\n".join(path.read_text(errors="replace") for path in self.home.glob("worker-*.log"))
