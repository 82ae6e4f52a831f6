"""A PostgreSQL server in a scratch folder: Debian's programs, run by a user without privileges."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scripts import processes
from scripts.local_airflow import wait_until

_NOBODY = "nobody"


class NoPostgresError(RuntimeError):
    """There is no PostgreSQL on this machine."""


class Postgres:
    """Runs inside a ``with`` block, on a free port, with an empty database ``airflow``."""

    def __init__(self) -> None:
        self._bin = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="arroyo-postgres-"))
        (self._port,) = processes.free_ports(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # It refuses to run as root.
            user = pwd.getpwnam(_NOBODY)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @property
    def url(self) -> str:
        """The address of the database in Airflow's form."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/airflow"

    def __enter__(self) -> Self:
        data = self._folder / "data"
        self._run("initdb", "--pgdata", str(data), "--auth", "trust", "--username", "airflow", "--no-sync")
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "max_connections": 200,
        }
        with (self._folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                [
                    self._bin / "postgres",
                    "-D",
                    str(data),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._as_user,
            )
        try:
            wait_until(self._is_ready, what="PostgreSQL to be ready", timeout_seconds=180)
            self._run("createdb", "--host", "127.0.0.1", f"--port={self._port}", "-U", "airflow", "airflow")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it and delete its data; safe to call twice."""
        if self._server is not None:
            # A fast shutdown, which disconnects all clients.
            self._server.send_signal(signal.SIGINT)
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        command: list[str | Path] = [self._bin / "pg_isready", "--host", "127.0.0.1", f"--port={self._port}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            check=False,
            **self._as_user,
        )
        if done.returncode:
            raise NoPostgresError(f"{program} failed: {done.stderr.decode(errors='replace')}")


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, the newest that is installed."""
    folders = [
        path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres") if path.parent.is_dir()
    ]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    raise NoPostgresError("There is no PostgreSQL here. On Debian: apt-get install postgresql")
