"""Errors in which there is no complete response, over real sockets."""

from __future__ import annotations

import socket
import traceback
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoForeignResponseError,
    Disposition,
)
from tests.client.conftest import ONCE, SPEC, Connect
from tests.client.server import CLOSE, HANG, RESET, Reply, Server, cut, reply

CREATE = endpoints.create_pipeline(**SPEC)
LIST = endpoints.list_jobs()

RETRY, IF_IDEMPOTENT = Disposition.RETRY, Disposition.RETRY_IF_IDEMPOTENT


def failure(client: ArroyoClient, request: Request[Any], disposition: Disposition) -> str:
    """Send a request once, which gets no response; return the error's message."""
    with pytest.raises(ArroyoConnectionError) as caught:
        client.with_limits(max_elapsed_seconds=0).send(request)
    error = caught.value
    assert type(error) is ArroyoConnectionError, error
    assert error.disposition is disposition
    assert (error.method, error.path) == (request.method, request.path)
    return str(error)


# -- not sent ------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_retryable_and_names_host_and_port(
    connect: Connect, closed_port: int
) -> None:
    address = f"http://127.0.0.1:{closed_port}"
    message = failure(connect(address), CREATE, RETRY)
    assert f"{address} refused the connection" in message
    assert "host and port" in message


def test_an_unknown_host_name_is_reported(connect: Connect) -> None:
    message = failure(connect("http://arroyo.invalid:5115"), CREATE, RETRY)
    assert "cannot be resolved" in message
    assert "arroyo.invalid" in message


def test_a_connection_that_is_not_accepted_times_out(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            # The queue of connections to accept is full: Linux does not respond to further ones.
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            message = failure(connect(f"http://127.0.0.1:{port}", connect_timeout_seconds=0.3), CREATE, RETRY)
        finally:
            for filler in fillers:
                filler.close()
    assert "did not accept a connection within 0.3 s (connect_timeout)" in message


# -- sent, without a complete response
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, words",
    [
        (HANG, "did not respond to GET /jobs in time"),
        (Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "hang"), "in time"),
    ],
)
def test_a_response_that_does_not_end_times_out(
    step: Reply, words: str, connect: Connect, server: Server
) -> None:
    server.play(step)
    assert words in failure(connect(server.url(), read_timeout_seconds=0.3), LIST, IF_IDEMPOTENT)


@pytest.mark.parametrize("step", [RESET, CLOSE, Reply(unread=True, then="reset")])
def test_a_broken_connection_may_have_an_effect(step: Reply, client: ArroyoClient, server: Server) -> None:
    server.play(step)
    message = failure(client, CREATE, IF_IDEMPOTENT)
    assert "closed the connection before it responded to POST /pipelines" in message
    assert "may have taken effect" in message


@pytest.mark.parametrize("chunked", [False, True])
def test_a_response_cut_short_is_an_error(chunked: bool, client: ArroyoClient, server: Server) -> None:
    server.play(cut(b'{"data": []', 500, chunked=chunked))
    message = failure(client, LIST, IF_IDEMPOTENT)
    assert "was cut short" in message
    assert "taken effect" not in message


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"-ERR unknown command 'GET'\r\n"])
def test_a_server_without_http_is_reported(greeting: bytes, connect: Connect, server: Server) -> None:
    server.play(Reply(greeting, "close"))
    with pytest.raises(ArroyoForeignResponseError) as caught:
        connect(server.url(), limits=ONCE).send(LIST)
    assert "does not speak HTTP" in str(caught.value)
    assert greeting.decode().split()[0] in str(caught.value)


def test_a_server_that_closes_on_a_large_body_is_reported(connect: Connect, server: Server) -> None:
    server.play(Reply(unread=True, then="reset"))
    with pytest.raises(ArroyoApiError, match="2 MB") as caught:
        connect(server.url()).create_pipeline(name="big", query="-- " + "x" * 8_000_000)
    assert caught.value.status == 413
    assert caught.value.is_fatal
    assert server.connections == 1


# -- proxies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http://", ""], ids=["with scheme", "without"])
def test_an_unreachable_proxy_is_named(
    scheme: str, connect: Connect, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"{scheme}someone:pa55word@127.0.0.1:{closed_port}")
    client = connect("http://arroyo.invalid", limits=ONCE)
    with pytest.raises(ArroyoConnectionError, match="proxy") as caught:
        client.send(CREATE)
    assert caught.value.disposition is RETRY
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.to_dict())
    assert "pa55word" not in shown


@pytest.mark.parametrize("by", ["settings", "environment"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refusal_by_a_proxy_is_shown_without_its_password(
    by: str, scheme: str, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "<html>who is http://someone:pa55word@proxy?</html>"
    server.play(reply(page, 407, content_type="text/html", then="close"))
    address = server.url().replace("://", "://someone:pa55word@")
    if by == "environment":
        monkeypatch.setenv(f"{scheme}_proxy", address)
    proxies = {scheme: address} if by == "settings" else {}
    client = connect(f"{scheme}://arroyo.invalid", proxies=proxies, limits=ONCE)
    with pytest.raises(ArroyoAuthError, match="proxy") as caught:
        client.send(CREATE)
    assert "407" in str(caught.value)
    assert caught.value.status == 407
    assert server.requests[0].headers["proxy-authorization"] == "Basic c29tZW9uZTpwYTU1d29yZA=="
    assert "pa55word" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_to_connect_to_the_server_is_not_asked_again(
    status: int, connect: Connect, server: Server
) -> None:
    server.play(reply(None, status, then="close"))
    client = connect("https://arroyo.invalid", proxies={"https": server.url()})
    with pytest.raises(ArroyoAuthError, match=f"proxy .* cannot be used .*{status}") as caught:
        client.send(LIST)
    assert (caught.value.status, caught.value.disposition) == (status, Disposition.PERMANENT)
    assert len(server.requests) == 1
