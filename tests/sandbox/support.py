"""Calls over real HTTP, and the SQL that the recordings used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from tests.support import ENDLESS


def bounded(rate: int, count: int) -> str:
    """A pipeline that ends after so many rows."""
    return ENDLESS.replace("event_rate = '10'", f"event_rate = '{rate}', message_count = '{count}'")


@dataclass
class Caller:
    """Calls one server.

    :param session: whose connections are used.
    :param url: where the server is.
    """

    session: requests.Session
    url: str

    def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> requests.Response:
        """Send a request below ``/api/v1``."""
        return self.session.request(method, f"{self.url}/api/v1{path}", json=json, timeout=60, **more)

    def create(self, name: str = "x", query: str = ENDLESS, **fields: Any) -> str:
        """Create a pipeline and return its id."""
        body = {"name": name, "query": query, "parallelism": 1, "checkpoint_interval_micros": 1_000_000}
        answer = self("POST", "/pipelines", body | fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def job(self, pipeline_id: str) -> dict[str, Any]:
        """Return the job of a pipeline."""
        jobs: list[dict[str, Any]] = self("GET", f"/pipelines/{pipeline_id}/jobs").json()["data"]
        assert len(jobs) == 1
        return jobs[0]

    def checkpoints(self, pipeline_id: str) -> list[dict[str, Any]]:
        """Return the checkpoints of a pipeline's job."""
        job_id = self.job(pipeline_id)["id"]
        data: list[dict[str, Any]] = self(
            "GET", f"/pipelines/{pipeline_id}/jobs/{job_id}/checkpoints"
        ).json()["data"]
        return data
