"""The server that the suite uses: a sandbox that it starts, or a server that is already running."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock

API = "/api/v1"
CONSOLE_PAGE = "/pipelines/pl_x"
"""The only recorded path outside of the API."""


class NoServerError(Exception):
    """The given server does not respond, or is not Arroyo."""


@dataclass
class Target:
    """A server, and what this suite created on it.

    :param sandbox: None for a server that the suite did not start; no faults can be injected into it.
    :param made: ids of the pipelines, tables and profiles that the suite created, by kind.
    """

    url: str
    version: str
    api_key: str | None = None
    sandbox: ArroyoSandbox | None = None
    session: requests.Session = field(default_factory=requests.Session)
    made: dict[str, list[str]] = field(default_factory=dict)

    def send(
        self, method: str, path: str, body: Any = None, *, authorization: str | None = None, raw: bool = True
    ) -> requests.Response:
        """Send a request; the path may hold the prefix of the API or not.

        :param body: a JSON value, or ``{"raw": text}``.
        :param authorization: overrides the target's own key; an empty text sends none.
        """
        headers = {}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        if authorization is not None:
            headers.pop("authorization", None)
            if authorization:
                headers["authorization"] = authorization
        data = None
        if isinstance(body, dict) and set(body) == {"raw"} and raw:
            data = body["raw"].encode()
            headers["content-type"] = "application/json"
        elif body is not None:
            data = _as_recorded(body)
            headers["content-type"] = "application/json"
        full = path if path.startswith("/api") or path == CONSOLE_PAGE else f"{API}{path}"
        # Compression is not part of the API; the recordings were made without it.
        headers["accept-encoding"] = "identity"
        answer = self.session.request(method, f"{self.url}{full}", data=data, headers=headers, timeout=30)
        self._note(method, full, answer)
        return answer

    def _note(self, method: str, path: str, answer: requests.Response) -> None:
        kind = path.partition("?")[0].removeprefix(f"{API}/").split("/")[0]
        if method in ("POST", "PUT") and answer.status_code == 200:
            with contextlib.suppress(ValueError):
                value = answer.json()
                if isinstance(value, dict) and isinstance(value.get("id"), str) and "errors" not in value:
                    listed = self.made.setdefault(kind, [])
                    if value["id"] not in listed:
                        listed.append(value["id"])
        elif method == "PUT" and answer.status_code == 400:
            # It may have left a half-created record.
            self.made.setdefault("half_made", []).append(path)

    def wait(self, seconds: float) -> None:
        """Let time pass, on the server's clock."""
        if self.sandbox is not None:
            self.sandbox.advance(seconds)
        else:
            time.sleep(seconds)

    def now(self) -> float:
        """Return the time that :meth:`wait` lets pass, in seconds."""
        if self.sandbox is not None:
            return self.sandbox.clock.now_micros() / 1_000_000
        return time.monotonic()

    def idle_seconds(self) -> float:
        """Return for how long nothing can happen on the server; 0 if that is unknown."""
        if self.sandbox is None or (due := self.sandbox.engine.next_due) is None:
            return 0.0
        return (due - self.sandbox.engine.now) / 1_000_000

    def job(self, pipeline_id: str) -> dict[str, Any]:
        """Return a pipeline's job."""
        answer = self.send("GET", f"/pipelines/{pipeline_id}/jobs")
        if answer.status_code != 200:
            raise AssertionError(f"GET jobs of {pipeline_id}: {answer.status_code} {answer.text}")
        job: dict[str, Any] = answer.json()["data"][0]
        return job

    def until(self, pipeline_id: str, state: str, *, run_id: int | None = None) -> dict[str, Any]:
        """Wait until a job is in a state and, if given, in a run."""
        return self.until_job(
            pipeline_id, lambda job: job["state"] == state and run_id in (None, job["run_id"])
        )

    def until_job(
        self, pipeline_id: str, wanted: Callable[[dict[str, Any]], bool], *, seconds: float = 30
    ) -> dict[str, Any]:
        """Wait until a job is as wanted."""
        deadline = self.now() + seconds
        while True:
            job = self.job(pipeline_id)
            if wanted(job):
                return job
            if self.now() > deadline:
                raise AssertionError(f"not seen within {seconds} s; last: {job}")
            self.wait(0.02)

    def clean_up(self) -> None:
        """Delete what the suite created, and nothing else."""
        for pipeline_id in self.made.pop("pipelines", []):
            path = f"/pipelines/{requests.utils.quote(pipeline_id, safe='')}"  # type: ignore[attr-defined]  # its stubs do not show it
            jobs = self.send("GET", f"{path}/jobs")
            if jobs.status_code == 200 and not _ended(jobs):
                self.send("PATCH", path, {"stop": "immediate"})
                with contextlib.suppress(AssertionError):
                    self._until_ended(path)
            self.send("DELETE", path)
        for path in self.made.pop("half_made", []):
            self.send("DELETE", path)
        for kind in ("connection_tables", "connection_profiles", "udfs"):
            for made_id in self.made.pop(kind, []):
                self.send("DELETE", f"/{kind}/{made_id}")

    def _until_ended(self, path: str) -> None:
        deadline = self.now() + 20
        while self.now() < deadline:
            if _ended(self.send("GET", f"{path}/jobs")):
                return
            self.wait(0.1)


def _ended(jobs: requests.Response) -> bool:
    return all(job["state"] in ("Stopped", "Finished", "Failed") for job in jobs.json().get("data", []))


def _as_recorded(body: Any) -> bytes:
    return json.dumps(body).encode()


@contextlib.contextmanager
def sandbox_target(version: str, *, seed: int = 1, **options: Any) -> Iterator[Target]:
    """A sandbox whose clock is moved by the suite: minutes take milliseconds."""
    with (
        ArroyoSandbox(arroyo_version=version, clock=ManualClock(), seed=seed, **options) as sandbox,
        requests.Session() as session,
    ):
        yield Target(sandbox.url, version, sandbox.api_key, sandbox, session)


@contextlib.contextmanager
def server_target() -> Iterator[Target]:
    """The server that ``ARROYO_URL`` and ``ARROYO_API_KEY`` name; cleaned up at the end.

    :raises NoServerError: where it cannot be reached, or is not Arroyo.
    """
    url = os.environ["ARROYO_URL"].rstrip("/")
    with requests.Session() as session:
        target = Target(url, "0.16", os.environ.get("ARROYO_API_KEY"), None, session)
        try:
            ping = target.send("GET", "/ping")
            if ping.status_code != 200 or ping.text != '"Pong"':
                raise NoServerError(f"{url} does not respond as Arroyo: {ping.status_code} {ping.text[:80]}")
            # An empty body creates nothing: 0.15 does not have this call, and 0.16 refuses the body.
            if target.send("PUT", "/pipelines/conformance-probe", {}).status_code == 405:
                target.version = "0.15"
            target.made.clear()
        except requests.RequestException as error:
            raise NoServerError(f"{url} cannot be reached: {error}") from error
        try:
            yield target
        finally:
            target.clean_up()
