"""Whatever a server sends, the result is one of our errors or the correct pipeline, and the client remains usable."""

from __future__ import annotations

import json
import logging
import os
from random import Random

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError
from tests.client.conftest import PIPELINE
from tests.client.random_responses import random_response
from tests.client.server import Reply, Server, reply

RESPONSES = int(os.environ.get("FUZZ_RESPONSES", "400"))
SHARDS = 2
WAIT_SECONDS = 0.25 if RESPONSES < 1000 else 0.03
"""The time limit for responses that may never end. What is late on a busy machine is an error, which is fine."""


GONE = reply({"error": "Pipeline not found"}, 404)


def job(name: str) -> bytes:
    return b'{"data": [{"id": "job_%b", "state": "Running", "run_id": 1}]}' % name.encode()


def pipeline(name: str) -> bytes:
    return json.dumps({**PIPELINE, "id": f"pl_{name}"}).encode()


def nothing(name: str) -> bytes:
    return b""


def good(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def ask(client: ArroyoClient, kind: str, name: str) -> str | None:
    """Send a request about a pipeline; return the id in the response, or None."""
    match kind:
        case "job":
            found = client.get_job(f"pl_{name}")
            return found.id.removeprefix("job_") if found else None
        case "pipeline":
            return client.get_pipeline(f"pl_{name}").id.removeprefix("pl_")
        case "stop":
            return client.patch_pipeline(f"pl_{name}", stop="checkpoint").id.removeprefix("pl_")
        case _:
            client.delete_pipeline(f"pl_{name}")
            return None


@pytest.mark.fuzz
@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_responses(shard: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rng, outcomes = Random(shard), {"error": 0, "right": 0}
    replies: dict[str, Reply] = {}

    def answer(target: str) -> Reply:
        # By path, since a request that timed out may be read late.
        path = target.split("/pl_")[1]
        return replies.get(path) or Reply(good(job(path.partition("/")[0])))

    with Server(answer=answer) as server, ArroyoClient(ClientSettings(base_url=server.url())) as client:
        once = client.with_limits(max_elapsed_seconds=0, first_try_seconds=WAIT_SECONDS)
        for number in range(RESPONSES // SHARDS):
            kind = rng.choice(("job", "pipeline", "stop", "delete"))
            body = {"job": job, "delete": nothing}.get(kind, pipeline)(f"a{number}")
            response = random_response(rng, body, good(job("stale")))
            case = f"shard {shard}, response {number} to {kind}: {response}"
            then = "close" if response.closes else "keep"
            path = f"a{number}/jobs" if kind == "job" else f"a{number}"
            replies = {path: Reply(pieces=response.pieces, then=then)}
            if kind == "delete":
                replies[f"{path}/jobs"] = GONE
            try:
                came = ask(once, kind, f"a{number}")
            except ArroyoError as err:
                err.to_dict()
                outcomes["error"] += 1
            else:
                assert came in (f"a{number}", None), case
                outcomes["right"] += 1
            # It may have to be repeated, since a server may close a connection a moment too late.
            assert ask(client, "job", f"b{number}") == f"b{number}", case
    # Retries are logged by the client; nothing else is, by any library.
    assert {record.name for record in caplog.records} <= {"airflow_provider_arroyo.client.client"}
    assert min(outcomes.values()) > RESPONSES // SHARDS // 10
