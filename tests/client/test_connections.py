"""Interim responses, connections that must not be used again, and servers that take their time."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    Disposition,
)
from tests.client.conftest import ONCE, PIPELINE, SPEC, Connect, failure
from tests.client.server import Reply, Server, reply

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
JOB = b'{"data": [{"id": "%b", "state": "Running", "run_id": 1}]}'
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def whole(body: bytes, head: bytes = OK) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    return OK + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.fixture
def client(connect: Connect, server: Server) -> ArroyoClient:
    return connect(server.url(), limits=ONCE, read_timeout_seconds=5)


def job_id(client: ArroyoClient, pipeline_id: str) -> str:
    job = client.get_job(pipeline_id)
    assert job is not None
    return job.id


# -- interim responses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [whole, chunked])
@pytest.mark.parametrize(
    "interim",
    [CONTINUE, PROCESSING, HINTS, HINTS + HINTS, PROCESSING * 50 + HINTS, CONTINUE + PROCESSING + HINTS],
    ids=["100", "102", "103", "103 twice", "many", "each"],
)
def test_interim_responses_are_skipped(
    interim: bytes, frame: Callable[[bytes], bytes], client: ArroyoClient, server: Server
) -> None:
    server.play(*(Reply(interim + frame(JOB % name)) for name in (b"a", b"b", b"c")))
    assert [job_id(client, f"pl_{name}") for name in "abc"] == ["a", "b", "c"]
    assert server.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\ncontent-length: 2\r\n\r\n{}",
        PROCESSING * 200,
    ],
    ids=["101", "101 with a body", "too many"],
)
def test_invalid_interim_responses_are_an_error(
    response: bytes, client: ArroyoClient, server: Server
) -> None:
    server.play(Reply(response), reply(PIPELINE))
    assert isinstance(failure(client, endpoints.get_job("pl_a")), ArroyoForeignResponseError)
    client.get_pipeline("pl_1")
    assert server.connections == 2


# -- connections that are not used again ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        whole(JOB % b"a") + whole(JOB % b"a"),
        whole(JOB % b"a") + whole(JOB % b"a")[:40],
        whole(JOB % b"a") + b"\r\n",
        chunked(JOB % b"a") + whole(JOB % b"a"),
        chunked(JOB % b"a") + HINTS,
        whole(b"%x\r\n%b\r\n0\r\n\r\n" % (len(JOB % b"a"), JOB % b"a"), OK + b"transfer-encoding: chunked\r\n"),
        b"HTTP/1.1 204 No Content\r\ncontent-length: 20\r\n\r\n" + b"x" * 20,
        b"HTTP/1.1 304 Not Modified\r\n\r\n" + JOB % b"a",
        OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello" + whole(JOB % b"a"),
    ],
    ids=range(9),
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_surplus_bytes_are_never_a_response(
    late: bool, response: bytes, client: ArroyoClient, server: Server
) -> None:
    if late:
        # The rest is sent after the first response has been read.
        end = response.index(JOB % b"a") + len(JOB % b"a") if JOB % b"a" in response else len(response)
        server.play(Reply(response[:end] + b"\r\n" * 40), Reply(whole(JOB % b"b")))
    else:
        server.play(Reply(response), Reply(whole(JOB % b"b")))
    with suppress(ArroyoError):
        assert job_id(client, "pl_a") == "a"
    assert job_id(client, "pl_b") == "b"
    assert server.connections == 2


def test_surplus_bytes_over_tls_are_never_a_response(
    connect: Connect, tls_server: Server, ca_cert: str
) -> None:
    tls_server.play(Reply(whole(JOB % b"a") + HINTS), *(Reply(whole(JOB % b"b")) for _ in range(2)))
    client = connect(tls_server.url(), ca_cert=ca_cert, limits=ONCE)
    assert [job_id(client, name) for name in ("pl_a", "pl_b", "pl_b")] == ["a", "b", "b"]
    assert tls_server.connections == 2


@pytest.mark.parametrize(
    "request_, body",
    [(endpoints.get_job("pl_a"), JOB % b"a"), (endpoints.delete_pipeline("pl_a"), b"")],
    ids=str,
)
def test_a_length_that_is_repeated_in_one_header_is_one_length(
    request_: Request[Any], body: bytes, client: ArroyoClient, server: Server
) -> None:
    """Otherwise, the client would wait for more after the body."""
    twice = b"content-length: %d, %d\r\n\r\n" % (len(body), len(body))
    server.play(Reply(OK + twice + body, "hang"), reply({"error": "Pipeline not found"}, 404))
    client.send(request_)


# -- broken headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"location: \xff\xfe",
        b"location: http://[x/",
        b"location: http://h:port/",
        b"set-cookie: \xff=\xfe; expires=never; domain=[",
        b"content-type: \xff; charset=\xff",
        b"content-type: application/json; charset=no-such",
        b"date: Thu, 99 Foo 99999 99:99:99 +9999999999",
        b"retry-after: " + b"9" * 400,
        b"retry-after: \xb2",
        b"content-length: 5, 6",
        b"content-length: -1",
        b"content-length: " + b"9" * 5000,
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: \xff",
        b"content-encoding: \xff, gzip",
        b"connection: \xff",
        b"no colon here",
        b" continued from nothing",
        b": no name",
        b"x y: space in the name",
        b"x\x00y: \x00",
        b"x: " + b"y" * 9000,
        b"x: " + b"y" * 70_000,
        b"\r\n".join(b"x-%d: y" % number for number in range(120)),
    ],
    ids=lambda header: ascii(header[:40]),
)
@pytest.mark.parametrize("status", [200, 302, 429, 503])
def test_broken_headers(
    status: int,
    header: bytes,
    connect: Connect,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """They are one of our errors, or harmless, and nothing else is logged."""
    client = connect(server.url(), limits=ONCE, read_timeout_seconds=0.2)
    head = b"HTTP/1.1 %d X\r\n" % status
    server.play(
        Reply(head + header + b"\r\ncontent-type: application/json\r\n\r\n[]", "close"), reply(PIPELINE)
    )
    error = failure(client, endpoints.get_job("pl_1"))
    error.to_dict()
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    # Retried, in case the machine is too busy to respond in that time.
    client.with_limits(max_elapsed_seconds=20).get_pipeline("pl_1")
    # What earlier tests left open is collected at any time.
    assert [str(one.message) for one in recwarn if one.category is not ResourceWarning] == []


def test_large_headers_are_accepted(client: ArroyoClient, server: Server) -> None:
    server.play(reply(PIPELINE, headers={"x": "y" * 9000, **{f"x-{number}": "y" for number in range(80)}}))
    assert client.get_pipeline("pl_1").name == "orders"
    client.get_pipeline("pl_1")
    assert server.connections == 1


@pytest.mark.parametrize(
    "response, words",
    [
        (OK + b"no colon\r\n\r\n", "not valid HTTP"),
        *(
            (OK + b"transfer-encoding: chunked\r\n\r\n%b\r\n{}\r\n0\r\n\r\n" % size, "not valid HTTP")
            for size in (b"zz", b"0x2", b"+2", b"0_2", b"-2", b" 2", b"2 2", b"")
        ),
        (OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", "not valid HTTP"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhel", "cut short"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "cut short"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1", "cut short"),
        (OK + b"content-length: 50\r\n\r\n{", "cut short"),
    ],
)
def test_the_message_about_a_broken_response(
    response: bytes, words: str, client: ArroyoClient, server: Server
) -> None:
    server.play(Reply(response, "close"))
    assert words in str(failure(client, endpoints.get_job("pl_1")))


# -- servers that take their time ----------------------------------------------------------------------------------

DRIPPING = {
    "status line": Reply(b"HTTP/1.1 200 O", "drip", drop=b"K"),
    "interim responses": Reply(then="drip", drop=PROCESSING),
    "a header": Reply(OK + b"x: ", "drip", drop=b"y"),
    "headers": Reply(OK, "drip", drop=b"x: y\r\n"),
    "the body": Reply(OK + b"content-length: 100000\r\n\r\n", "drip"),
    "the body until the end": Reply(OK + b"connection: close\r\n\r\n", "drip"),
    "a chunk": Reply(OK + b"transfer-encoding: chunked\r\n\r\nffff\r\n", "drip"),
    "the size of a chunk": Reply(OK + b"transfer-encoding: chunked\r\n\r\n1;", "drip", drop=b"x"),
    "chunks": Reply(OK + b"transfer-encoding: chunked\r\n\r\n", "drip", drop=b"1\r\n \r\n"),
    "trailers": Reply(OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", "drip", drop=b"x: y\r\n"),
    "gzip": Reply(
        OK + b"content-encoding: gzip\r\ncontent-length: 99999\r\n\r\n\x1f\x8b\x08\x08" + b"\0" * 6, "drip", drop=b"n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DRIPPING)
def test_a_dripping_response_is_limited_in_time(what: str, connect: Connect, server: Server) -> None:
    """Each read returns something in time, and the response never ends."""
    server.play(DRIPPING[what])
    client = connect(server.url(), limits=ONCE, connect_timeout_seconds=0.5, read_timeout_seconds=0.5)
    began = time.monotonic()
    error = failure(client, endpoints.list_jobs())
    # Far above the limit, for a loaded machine; the response would last 20 s and more.
    assert time.monotonic() - began < 15
    assert isinstance(error, ArroyoConnectionError | ArroyoForeignResponseError)
    assert "in time" in str(error)
    server.play(reply(PIPELINE))
    # Retried, in case the machine is too busy to respond in that time.
    client.with_limits(max_elapsed_seconds=20).get_pipeline("pl_1")


REQUESTS = [
    endpoints.ping(),
    endpoints.get_pipeline("pl_1"),
    endpoints.create_pipeline(**SPEC),
    endpoints.patch_pipeline("pl_1", stop="checkpoint"),
    endpoints.delete_pipeline("pl_1"),
    endpoints.output("pl_1", "job_1"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_every_request_ends_at_the_deadline(request_: Request[Any], connect: Connect, server: Server) -> None:
    server.play(DRIPPING["headers"])
    client = connect(server.url(), clock=time.monotonic, sleep=lambda seconds: None)
    client = client.with_limits(deadline=time.monotonic() + 0.3, max_elapsed_seconds=600)
    began = time.monotonic()
    failure(client, request_)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("what", ["chunks", "the size of a chunk"])
def test_stream_ends_at_the_deadline(what: str, connect: Connect, server: Server) -> None:
    event_stream = DRIPPING[what].data.replace(b"application/json", b"text/event-stream")
    server.play(Reply(event_stream, "drip", drop=DRIPPING[what].drop))
    client = connect(server.url(), clock=time.monotonic).with_limits(deadline=time.monotonic() + 0.3)
    with pytest.raises(ArroyoConnectionError):
        list(client.stream_output("pl_1", "job_1"))


def test_sending_to_a_server_that_does_not_read_is_limited_in_time(connect: Connect) -> None:
    """It accepts the connection and reads nothing, so sending blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []
        stopping = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            accepted.append(connection)
            while not stopping.wait(0.02):
                connection.recv(100)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = connect(address, limits=ONCE, connect_timeout_seconds=0.3, read_timeout_seconds=0.3)
        error = failure(client, endpoints.create_pipeline(name="big", query="-- " + "x" * 30_000_000))
        stopping.set()
        thread.join(10)
        accepted[0].close()
    assert error.disposition is not Disposition.RETRY
