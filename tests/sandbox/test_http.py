"""HTTP at the level of bytes, as different clients send it."""

from __future__ import annotations

import itertools
import re
import socket
import sys
import threading

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from scripts.local_airflow import wait_until
from tests.sandbox.support import Caller
from tests.support import ENDLESS

PING = b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\n\r\n"
LAST_PING = b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
BODY = b'{"query": "SELECT 1"}'
OWN_HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""An address on which no other test listens, so that none takes a port that was freed."""
POST = b"POST /api/v1/pipelines/validate_query HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%b\r\n"


def received(sandbox: ArroyoSandbox, data: bytes) -> bytes:
    """Send bytes and return everything that is received until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(10_000), b""))


def test_a_connection_is_kept_alive_and_requests_may_be_pipelined(sandbox: ArroyoSandbox) -> None:
    text = received(sandbox, PING + PING + LAST_PING)
    assert text.count(b'"Pong"') == 3


def test_a_body_may_come_in_chunks_or_after_100_continue(sandbox: ArroyoSandbox) -> None:
    kind = b"content-type: application/json\r\n"
    chunked = POST % (kind + b"transfer-encoding: chunked\r\n") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert b"200" in received(sandbox, chunked).split(b"\r\n")[0]
    expecting = POST % (kind + b"expect: 100-continue\r\ncontent-length: %d\r\n" % len(BODY))
    text = received(sandbox, expecting + BODY)
    assert re.findall(rb"HTTP/1.1 (\d+)", text) in ([b"100", b"200"], [b"200"])


@pytest.mark.parametrize(
    "data, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /api/v1/ping HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /api/v1/ping HTTP/1.0\r\n\r\n", 200),
        (b"GET http://x/api/v1/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200),
        (b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 600_000 + b"\r\n\r\n", 431),
    ],
)
def test_requests_of_other_kinds(sandbox: ArroyoSandbox, data: bytes, status: int) -> None:
    assert received(sandbox, data).startswith(b"HTTP/1.1 %d " % status)


def test_a_response_has_the_reason_of_its_status(sandbox: ArroyoSandbox) -> None:
    assert received(sandbox, LAST_PING).startswith(b"HTTP/1.1 200 OK\r\n")
    sandbox.faults.status(503)
    assert received(sandbox, LAST_PING).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_a_reset_is_a_real_tcp_reset(sandbox: ArroyoSandbox, call: Caller) -> None:
    for after_effect, kept_alive in itertools.product((False, True), repeat=2):
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as client:
            if kept_alive:
                client.sendall(PING)
                assert b"Pong" in client.recv(10_000)
            sandbox.faults.reset(after_effect=after_effect)
            client.sendall(PING)
            with pytest.raises(ConnectionResetError):
                client.recv(10_000)
        for method, path, body in (
            ("GET", "/jobs", None),
            ("POST", "/pipelines/validate_query", {"query": ""}),
        ):
            sandbox.faults.reset(after_effect=after_effect)
            with pytest.raises(requests.ConnectionError, match="reset by peer"):
                call(method, path, body)
            call("GET", "/ping")


def test_head_has_the_headers_of_get_and_no_body(call: Caller, sandbox: ArroyoSandbox) -> None:
    head, get = call("HEAD", "/jobs"), call("GET", "/jobs")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert requests.head(f"{sandbox.url}/", timeout=60).status_code == 200


def test_a_client_that_leaves_in_the_middle_does_no_harm(sandbox: ArroyoSandbox, call: Caller) -> None:
    for data in (b"", PING[:10], POST % b"content-length: 100\r\n" + BODY, PING):
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) as client:
            client.sendall(data)
    assert call("GET", "/ping").status_code == 200


def test_sql_on_which_the_planner_breaks_down_gets_no_response_while_the_rest_goes_on(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    query = ENDLESS.replace(
        "SELECT counter FROM impulse", "SELECT DISTINCT ON (counter) counter FROM impulse"
    )
    body = {"name": "x", "query": query, "parallelism": 1}
    paths = [("POST", "/pipelines/validate_query"), ("POST", "/pipelines"), ("POST", "/pipelines/preview")]
    if sandbox.arroyo_version == "0.16":
        paths.append(("PUT", "/pipelines/own"))
    for method, path in paths * 2:
        with pytest.raises(requests.ConnectionError, match="closed connection without response"):
            call(method, path, body)
        assert call("GET", "/ping").status_code == 200
    assert call("GET", "/pipelines").json()["data"] == []


def test_many_connections_at_once() -> None:
    with ArroyoSandbox(clock=ManualClock()) as sandbox:
        clients = [socket.create_connection(("127.0.0.1", sandbox.port), timeout=60) for _ in range(200)]
        for client in clients:
            client.sendall(LAST_PING)
        for client in clients:
            assert b"".join(iter(lambda client=client: client.recv(1000), b"")).endswith(b'"Pong"')  # type: ignore[misc]  # mypy knows no default
            client.close()


def test_closing_leaves_no_threads_and_frees_the_port() -> None:
    before = threading.active_count()
    with ArroyoSandbox(clock=ManualClock(), host=OWN_HOST) as sandbox:
        held = [socket.create_connection((OWN_HOST, sandbox.port), timeout=60) for _ in range(5)]
        sandbox.faults.hang()
        held[0].sendall(PING)
        assert held[0].recv(10)
    wait_until(lambda: threading.active_count() <= before, what="its threads to end", timeout_seconds=60)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{sandbox.url}/api/v1/ping", timeout=60)
    with ArroyoSandbox(clock=ManualClock(), host=OWN_HOST, port=sandbox.port) as again:
        assert requests.get(f"{again.url}/api/v1/ping", timeout=60).json() == "Pong"
    for client in held:
        client.close()


def test_a_sandbox_starts_only_once() -> None:
    with ArroyoSandbox(clock=ManualClock()) as sandbox, pytest.raises(RuntimeError, match="only once"):
        sandbox.start()
    with pytest.raises(RuntimeError, match="only once"):
        sandbox.start()


def test_a_sandbox_that_is_closed_does_not_come_back() -> None:
    clock = ManualClock()
    with ArroyoSandbox(clock=clock, host=OWN_HOST) as sandbox:
        sandbox.faults.api_away(seconds=5)
    clock.advance(10)
    sandbox.faults.api_back()
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"{sandbox.url}/api/v1/ping", timeout=60)
