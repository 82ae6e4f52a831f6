"""How requests are sent: persistent connections, large bodies, proxies, and unwanted logins."""

from __future__ import annotations

import gzip
import tracemalloc
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_arroyo.client import transport
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.proxies import proxy_for
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.transport import MAX_RESPONSE_BYTES
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoForeignResponseError,
    ArroyoSettingsError,
    Disposition,
)
from tests.client.conftest import ONCE, PIPELINE, Clock, Connect
from tests.client.server import Server, reply

LOGIN = "Basic c29tZW9uZTpwYTU1d29yZA=="
"""``someone:pa55word``, as it is sent."""

TOO_LARGE = r"got a response of more than 1,000 bytes from .*, so it is not Arroyo's"


@pytest.fixture(autouse=True)
def _pong(server: Server) -> None:
    server.play(reply("Pong"))


def test_connection_is_kept(client: ArroyoClient, server: Server) -> None:
    for _ in range(5):
        client.ping()
    assert (len(server.requests), server.connections) == (5, 1)


def test_copies_share_the_connection(client: ArroyoClient, server: Server) -> None:
    client.ping()
    client.with_limits(max_elapsed_seconds=0).ping()
    assert server.connections == 1
    assert client.limits.max_elapsed_seconds == 15


def test_closed_client_opens_again(client: ArroyoClient, server: Server) -> None:
    with client:
        client.ping()
    client.ping()
    assert server.connections == 2


def test_large_sql_passes_unchanged(client: ArroyoClient, server: Server) -> None:
    query = "SELECT 'Zoë''s \"quoted\" <b>größe</b>\\n\t\n 漢字 🦆' -- " + "é" * 500_000
    server.play(reply({**PIPELINE, "name": "a\nb", "query": query}))
    assert client.create_pipeline(name="a\nb", query=query).query == query
    assert server.requests[0].json == {"name": "a\nb", "query": query, "parallelism": 1}
    assert len(server.requests[0].body) < 1_100_000


@pytest.mark.parametrize("by", ["settings", "environment", "environment, without scheme"])
def test_proxy(by: str, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://someone:pa55word@127.0.0.1:{server.port}"
    if by != "settings":
        monkeypatch.setenv("http_proxy", address if by == "environment" else address.removeprefix("http://"))
    proxies = {"http": address} if by == "settings" else {}
    connect("http://arroyo.invalid:5115/base", proxies=proxies, api_key="k").ping()
    request = server.requests[0]
    assert request.target == "http://arroyo.invalid:5115/base/api/v1/ping"
    # This is how a server behind an ingress without a DNS entry is reached.
    assert request.headers["host"] == "arroyo.invalid:5115"
    assert request.headers["proxy-authorization"] == LOGIN
    assert request.headers["authorization"] == "Bearer k"


def test_the_proxy_setting_overrides_the_environment(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    connect("http://arroyo.invalid", proxies={"http": server.url()}).ping()
    assert len(server.requests) == 1


def test_no_proxy(connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    connect(server.url()).ping()
    assert server.requests[0].target == "/api/v1/ping"


@pytest.mark.parametrize("by", ["settings", "environment"])
@pytest.mark.parametrize(
    "password, written",
    [
        *((one, quote(one, safe="")) for one in ("pässwörd", "漢字 🦆", "a:b@c/d?e#f%g")),
        ("pässwörd漢", "pässwörd漢"),
        ("a@b", "a@b"),
    ],
)
def test_the_password_of_a_proxy_may_contain_any_character(
    password: str, written: str, by: str, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://user:{written}@127.0.0.1:{server.port}"
    monkeypatch.setenv("http_proxy", address if by == "environment" else "")
    connect("http://arroyo.invalid", proxies={"http": address} if by == "settings" else {}).ping()
    sent = server.requests[0].headers["proxy-authorization"].removeprefix("Basic ")
    assert b64decode(sent).decode() == f"user:{password}"


@pytest.mark.parametrize(
    "variable, value",
    [
        ("all_proxy", "socks5://user:pa55word@proxy:1080"),
        ("ALL_PROXY", "socks5h://user:pa55word@proxy:1080"),
        ("http_proxy", "socks4://user:pa55word@proxy:1080"),
        ("HTTP_PROXY", "ftp://user:pa55word@proxy:21"),
        ("http_proxy", "http://[proxy"),
        ("http_proxy", "http://user:pa55word@proxy:port"),
        ("http_proxy", "http://user:pa55word@proxy:99999"),
        ("http_proxy", "http://"),
    ],
)
def test_an_invalid_proxy_of_the_environment_is_refused_at_once(
    variable: str, value: str, connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ArroyoSettingsError, match=f"environment variable {variable}: ") as caught:
        connect("http://arroyo.invalid")
    assert "pa55word" not in str(caught.value)
    assert "no_proxy" in str(caught.value)
    # It matters only for requests that go through it.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    connect(server.url()).ping()
    connect("http://arroyo.invalid", proxies={"http": server.url()}).ping()


def test_a_proxy_for_another_scheme_is_ignored(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://proxy")
    connect(server.url()).ping()


def test_cookies_of_gateways_are_not_stored(client: ArroyoClient, server: Server) -> None:
    server.play(reply("Pong", headers={"set-cookie": "session=x; path=/"}))
    client.ping()
    client.ping()
    assert "cookie" not in server.requests[1].headers


def test_a_response_that_is_far_too_large_is_not_read_to_its_end(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.client.transport.MAX_RESPONSE_BYTES", 1000)
    server.play(reply("x" * 100_000))
    with pytest.raises(ArroyoForeignResponseError, match=TOO_LARGE):
        connect(server.url(), limits=ONCE).ping()


def test_the_decoded_response_is_limited(connect: Connect, server: Server) -> None:
    """It is an outage, like any other response that is not Arroyo's."""
    packed = gzip.compress(b" " * 2 * MAX_RESPONSE_BYTES, 1)
    server.play(reply(packed, headers={"content-encoding": "gzip"}))
    client = connect(server.url(), limits=ONCE)
    tracemalloc.start()
    try:
        with pytest.raises(ArroyoForeignResponseError, match="more than 100,000,000 bytes") as caught:
            client.list_jobs()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.disposition is Disposition.OUTAGE
    # The body grows by reallocation, and what one chunk unpacks to is beside it.
    assert most < 3 * MAX_RESPONSE_BYTES


def test_a_refused_stream_is_limited_too(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.client.transport.MAX_RESPONSE_BYTES", 1000)
    server.play(reply("x" * 100_000, 400))
    with pytest.raises(ArroyoForeignResponseError, match=TOO_LARGE):
        list(connect(server.url(), limits=ONCE).stream_output("pl_1", "job_1"))


def test_a_body_that_keeps_coming_ends_with_its_try(
    connect: Connect, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast its parts come."""
    read = transport._read

    def slow(response: Any) -> bytes:
        clock.sleep(4)
        return read(response)[:1] or b"x"

    monkeypatch.setattr(transport, "_read", slow)
    server.play(reply("x" * 1000))
    began = clock()
    with pytest.raises(ArroyoConnectionError, match="did not respond"):
        connect(server.url(), limits=Limits(max_elapsed_seconds=0.0, first_try_seconds=10.0)).ping()
    assert 10 <= clock() - began <= 14


@pytest.mark.parametrize(
    "host, no_proxy, is_direct",
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
def test_hosts_without_a_proxy(
    host: str, no_proxy: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://other.invalid:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    proxy = proxy_for(ClientSettings(base_url=f"http://{host}"))
    assert proxy == (None if is_direct else "http://other.invalid:3128")


def test_login_of_netrc_does_not_replace_the_key(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    connect(server.url(), api_key="k").ping()
    connect(server.url()).ping()
    assert [request.headers.get("authorization") for request in server.requests] == ["Bearer k", None]
