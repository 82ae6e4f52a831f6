"""The Arroyo that the demo and the end-to-end tests use: the sandbox in its own process, or a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts import processes
from scripts.local_airflow import wait_until


class LocalArroyoError(RuntimeError):
    """Arroyo, or the sandbox, cannot be used."""


class ArroyoServer:
    """An Arroyo that is already running.

    :param url: its address without ``/api/v1``.
    :param api_key: its static API key; None sends none.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._api_key = api_key

    def airflow_connection(self) -> str:
        """Return the Airflow connection to it, as JSON for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps({"conn_type": "arroyo", "host": self.url, "password": self._api_key})

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call its REST API and return the JSON of the response.

        :param method: HTTP method.
        :param path: from the root of the server, with ``/api/v1``.
        :param body: sent as JSON.
        :raises OSError: when there is no response, or it is an error.
        """
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def pipeline_state(self, pipeline_id: str) -> str:
        """Return the state that a pipeline's job is in."""
        return str(self.call("GET", f"/api/v1/pipelines/{pipeline_id}/jobs")["data"][0]["state"])

    def check(self) -> None:
        """Check that it responds and accepts the key.

        :raises LocalArroyoError: says why not.
        """
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise LocalArroyoError(f"The address must begin with http:// or https://, got {self.url!r}")
        try:
            self.call("GET", "/api/v1/ping")
        except urllib.error.HTTPError as error:
            hint = ": is the API key right?" if error.code in (401, 403) else ""
            raise LocalArroyoError(f"Arroyo at {self.url} responded with {error.code}{hint}") from error
        except (OSError, ValueError) as error:
            raise LocalArroyoError(f"No Arroyo responds at {self.url}: {error}") from error


class SandboxServer(processes.Running, ArroyoServer):
    """The sandbox in its own process, on a free port.

    :param log: file for its output.
    :param demo: start with a pipeline in each common situation, default False.
    """

    def __init__(self, *, log: Path, demo: bool = False) -> None:
        self._log = log
        self._options = ["--demo"] if demo else []
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        (self._port,) = processes.free_ports(1)
        super().__init__(f"http://127.0.0.1:{self._port}")

    def start(self) -> None:
        """Start it and wait until it responds.

        :raises LocalArroyoError: when it ends instead.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._process = processes.start(
            [
                sys.executable,
                "-m",
                "airflow_provider_arroyo.sandbox",
                "--port",
                str(self._port),
                *self._options,
            ],
            log=self._log,
            mark=self._mark,
            cwd=self._log.parent,
        )
        wait_until(self._responds, what="a response of the sandbox", timeout_seconds=120)

    def stop(self) -> None:
        """End it; safe to call twice."""
        processes.stop_marked(self._mark)

    def _responds(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LocalArroyoError(f"The sandbox ended:\n{self._log.read_text(errors='replace')[-3000:]}")
        try:
            self.check()
        except LocalArroyoError:
            return False
        return True
