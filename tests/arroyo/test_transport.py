"""What no answer means, over real sockets, the same from both clients."""

from __future__ import annotations

import socket
import time
import traceback
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.arroyo.transport import proxy_for
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoResponseError,
)
from tests.arroyo.conftest import Connect, Driver
from tests.arroyo.server import HANG, HANG_UP, RESET, Reply, Server, cut, reply

ONCE = RetryPolicy(retries=0)
SPEC = PipelineSpec(name="orders", query="SELECT 1")


def failure(driver: Driver, call: Call[Any]) -> ArroyoConnectionError:
    with pytest.raises(ArroyoConnectionError) as caught:
        driver.call(call)
    error = caught.value
    assert type(error) is ArroyoConnectionError, error
    assert error.is_transient
    assert (error.method, error.path) == (call.method, call.path)
    return error


@pytest.fixture
def once(connect: Connect, server: Server) -> Driver:
    return connect(server.url(), retry=ONCE, read_timeout_seconds=0.3)


def test_refused(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    error = failure(connect(f"http://127.0.0.1:{free_port}", retry=ONCE), api.create_pipeline(SPEC))
    assert not error.was_sent
    assert f"http://127.0.0.1:{free_port} refused the connection" in str(error)
    assert "host and port" in str(error)


def test_name_that_does_not_exist(connect: Connect) -> None:
    error = failure(connect("http://arroyo.invalid:5115", retry=ONCE), api.create_pipeline(SPEC))
    assert not error.was_sent
    assert "cannot be resolved" in str(error)
    assert "arroyo.invalid" in str(error)


def test_connection_that_is_not_taken(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            # A full queue of connections that nobody accepts: Linux leaves further ones without an answer.
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            driver = connect(f"http://127.0.0.1:{port}", retry=ONCE, connect_timeout_seconds=0.3)
            error = failure(driver, api.create_pipeline(SPEC))
        finally:
            for filler in fillers:
                filler.close()
    assert not error.was_sent
    assert "did not take a connection in time (connect timeout 0.3 s)" in str(error)


def test_answer_that_does_not_come(once: Driver, server: Server) -> None:
    server.play(HANG)
    error = failure(once, api.list_jobs())
    assert error.was_sent
    assert "did not answer GET /jobs in time" in str(error)


def test_answer_that_stops_in_the_middle(once: Driver, server: Server) -> None:
    server.play(Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "hang"))
    error = failure(once, api.list_jobs())
    assert error.was_sent
    assert "in time" in str(error)


def test_answer_that_comes_in_drips(connect: Connect, server: Server) -> None:
    server.play(Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", "drip"))
    driver = connect(
        server.url(),
        retry=ONCE,
        clock=time.monotonic,
        read_timeout_seconds=0.4,
        connect_timeout_seconds=0.1,
    )
    assert "in time" in str(failure(driver, api.list_jobs()))


@pytest.mark.parametrize("step", [RESET, HANG_UP, Reply(unread=True, then="reset")])
def test_connection_that_breaks(step: Reply, once: Driver, server: Server) -> None:
    server.play(step)
    error = failure(once, api.create_pipeline(SPEC))
    assert error.was_sent
    assert "broke the connection before it answered POST /pipelines" in str(error)
    assert "may have taken effect" in str(error)


@pytest.mark.parametrize("chunked", [False, True])
def test_answer_that_is_cut_short(chunked: bool, once: Driver, server: Server) -> None:
    server.play(cut(b'{"data": []', 500, chunked=chunked))
    error = failure(once, api.list_jobs())
    assert error.was_sent
    assert "was cut short" in str(error)


def test_answer_that_cannot_be_decompressed(once: Driver, server: Server) -> None:
    server.play(reply(b"this is no gzip", headers={"content-encoding": "gzip"}))
    assert "cut short" in str(failure(once, api.list_jobs()))


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"-ERR unknown command 'GET'\r\n"])
def test_something_that_does_not_speak_http(greeting: bytes, once: Driver, server: Server) -> None:
    server.play(Reply(greeting, "close"))
    with pytest.raises(ArroyoResponseError) as caught:
        once.call(api.list_jobs())
    assert "does not speak HTTP" in str(caught.value)
    assert greeting.decode().split()[0] in str(caught.value)
    assert caught.value.is_permanent


def test_server_that_hangs_up_on_a_large_body(connect: Connect, server: Server) -> None:
    server.play(Reply(unread=True, then="reset"))
    spec = PipelineSpec(name="big", query="-- " + "x" * 8_000_000)
    with pytest.raises(ArroyoApiError) as caught:
        connect(server.url()).call(api.create_pipeline(spec))
    assert caught.value.status == 413
    assert "2 MB" in str(caught.value)
    assert server.connections == 1


def test_large_sql_passes_unharmed(connect: Connect, server: Server) -> None:
    query = "SELECT 'Zoë''s \"quoted\" <b>größe</b>\\n\t\n 漢字 🦆' -- " + "é" * 500_000
    server.play(reply({"id": "pl_1", "name": "a\nb", "query": query, "stop": "none", "graph": {}}))
    pipeline = connect(server.url()).call(api.create_pipeline(PipelineSpec(name="a\nb", query=query)))
    assert pipeline.query == query
    assert server.requests[0].json["query"] == query
    assert server.requests[0].json["name"] == "a\nb"
    assert len(server.requests[0].body) < 1_100_000


def test_connection_is_kept(client: Driver, server: Server) -> None:
    server.play(reply({"data": []}))
    for _ in range(5):
        client.call(api.list_jobs())
    assert (len(server.requests), server.connections) == (5, 1)


def test_error_holds_no_password_of_a_proxy(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    proxies = {"http": f"http://someone:pa55word@127.0.0.1:{free_port}"}
    error = failure(connect("http://arroyo.invalid", proxies=proxies, retry=ONCE), api.create_pipeline(SPEC))
    assert not error.was_sent
    assert "proxy" in str(error)
    assert "pa55word" not in str(error) + str(error.to_dict())


@pytest.mark.parametrize("by", ["settings", "environment"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_refuses(
    by: str, scheme: str, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "<html>who is http://someone:pa55word@proxy?</html>"
    server.play(reply(page, 407, content_type="text/html", then="close"))
    address = server.url().replace("://", "://someone:pa55word@")
    if by == "environment":
        monkeypatch.setenv(f"{scheme}_proxy", address)
    proxies = {scheme: address} if by == "settings" else {}
    with pytest.raises((ArroyoAuthError, ArroyoConnectionError)) as caught:
        connect(f"{scheme}://arroyo.invalid", proxies=proxies, retry=ONCE).call(api.create_pipeline(SPEC))
    assert "proxy" in str(caught.value)
    assert "407" in str(caught.value)
    assert server.requests[0].headers["proxy-authorization"] == "Basic c29tZW9uZTpwYTU1d29yZA=="
    told = "".join(traceback.format_exception(caught.value))
    assert "pa55word" not in told


def test_proxy_of_the_settings_is_used(connect: Connect, server: Server) -> None:
    server.play(reply("Pong"))
    proxies = {"http": server.url().replace("://", "://someone:pa55word@")}
    connect("http://arroyo.invalid:5115/base", proxies=proxies, api_key="k").call(api.ping())
    request = server.requests[0]
    assert request.target == "http://arroyo.invalid:5115/base/api/v1/ping"
    assert request.headers["proxy-authorization"] == "Basic c29tZW9uZTpwYTU1d29yZA=="
    assert request.headers["authorization"] == "Bearer k"


def test_proxy_of_the_environment_is_used(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(reply("Pong"))
    monkeypatch.setenv("http_proxy", server.url())
    connect("http://arroyo.invalid").call(api.ping())
    assert server.requests[0].target == "http://arroyo.invalid/api/v1/ping"


@pytest.mark.parametrize("then", [HANG_UP, RESET], ids=["hangs up", "resets"])
def test_answer_that_is_lost_behind_a_proxy_may_have_taken_effect(
    then: Reply, connect: Connect, server: Server
) -> None:
    """urllib3 says of it that the proxy cannot be reached, which would be safe to repeat."""
    server.play(then)
    error = failure(
        connect("http://arroyo.invalid", proxies={"http": server.url()}), api.create_pipeline(SPEC)
    )
    assert error.was_sent
    assert "may have taken effect" in str(error)
    assert len(server.requests) == 1


def test_proxy_of_the_environment_without_a_scheme(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(reply("Pong"))
    monkeypatch.setenv("http_proxy", f"someone:pa55word@127.0.0.1:{server.port}")
    connect("http://arroyo.invalid").call(api.ping())
    assert server.requests[0].target == "http://arroyo.invalid/api/v1/ping"
    assert server.requests[0].headers["proxy-authorization"] == "Basic c29tZW9uZTpwYTU1d29yZA=="
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"someone:pa55word@127.0.0.1:{free_port}")
    error = failure(connect("http://arroyo.invalid", retry=ONCE), api.ping())
    assert "proxy" in str(error)
    assert "pa55word" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "host, no_proxy, is_passed_by",
    [
        ("[::1]:5115", "localhost,::1", True),
        ("[::1]", "::1", True),
        ("10.1.2.3:5115", "10.0.0.0/8", True),
        ("10.1.2.3:5115", "example.com, 10.1.2.0/24", True),
        ("11.1.2.3:5115", "10.0.0.0/8", False),
        ("arroyo.example.com:5115", "10.0.0.0/8,.example.com", True),
        ("arroyo.example.org:5115", "10.0.0.0/8,.example.com,x/y", False),
        ("[fd00::5]:5115", "fd00::/8", True),
    ],
)
def test_hosts_that_the_environments_proxy_is_not_for(
    host: str, no_proxy: str, is_passed_by: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    proxy = proxy_for(ClientSettings(base_url=f"http://{host}"))
    assert proxy == (None if is_passed_by else "http://other.invalid:3128")


def test_proxy_of_the_settings_goes_before_that_of_the_environment(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(reply("Pong"))
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    connect("http://arroyo.invalid", proxies={"http": server.url()}).call(api.ping())
    assert len(server.requests) == 1


def test_no_proxy_of_the_environment_is_heeded(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(reply("Pong"))
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    connect(server.url()).call(api.ping())
    assert server.requests[0].target == "/api/v1/ping"


def test_login_of_netrc_does_not_replace_the_key(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.play(reply("Pong"))
    connect(server.url(), api_key="k").call(api.ping())
    connect(server.url()).call(api.ping())
    assert [request.headers.get("authorization") for request in server.requests] == ["Bearer k", None]
