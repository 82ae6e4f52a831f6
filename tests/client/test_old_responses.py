"""Old responses from caches are refused, although the server's clock may differ from this machine's."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.client.words import what_a_cache_says
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError
from tests.client.server import Server, reply

JOB = {"id": "job_1", "state": "Running", "run_id": 1}


@pytest.mark.parametrize("age", ["3", "3600", "9" * 40])
def test_an_old_response_from_a_cache_is_an_outage(age: str, client: ArroyoClient, server: Server) -> None:
    server.play(reply({"data": [JOB]}, headers={"age": age}))
    with pytest.raises(
        ArroyoForeignResponseError, match=r"s old by its Age, .*: the current state is unknown"
    ):
        client.with_limits(max_elapsed_seconds=0.0).list_jobs()
    assert server.requests[0].headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("age", ["", "0", "2", "-5", "soon", "1.5", "²"])
def test_a_fresh_response_is_accepted(age: str, client: ArroyoClient, server: Server) -> None:
    server.play(reply({"data": [JOB]}, headers={"age": age}))
    assert len(client.list_jobs()) == 1


@pytest.mark.parametrize("took, is_fresh", [(0.1, False), (25.0, False), (29.0, True), (40.0, True)])
def test_a_slow_response_may_be_as_old_as_the_request_took(took: float, is_fresh: bool) -> None:
    """Apache Traffic Server counts that as age; compiling a UDF takes half a minute."""
    response = HttpResponse(200, {"age": "30"}, b"", "", took)
    assert (what_a_cache_says(response) is None) is is_fresh


@pytest.mark.parametrize(
    "date, ahead",
    [
        (lambda: formatdate(time.time() + 7200, usegmt=True), 7200.0),
        (lambda: formatdate(time.time() - 7200, usegmt=True), -7200.0),
        (lambda: formatdate(time.time(), usegmt=True), 0.0),
        (lambda: "yesterday", 0.0),
        (lambda: "Wed, 21 Oct 99999 07:28:00 GMT", 0.0),
    ],
)
def test_the_offset_of_the_servers_clock_is_measured(
    date: Any, ahead: float, client: ArroyoClient, server: Server
) -> None:
    assert client.server_ahead_seconds == 0.0
    server.play(reply("Pong", headers={"date": date()}))
    client.ping()
    assert client.server_ahead_seconds == pytest.approx(ahead, abs=60)
