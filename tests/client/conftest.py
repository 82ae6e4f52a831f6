from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError
from tests.client.server import Server

PIPELINE = {
    "id": "pl_1",
    "name": "orders",
    "query": "SELECT 1",
    "created_at": 1_795_573_005_000_000,
    "udfs": [],
}
"""The shortest pipeline that can be read."""

SPEC: dict[str, Any] = {"name": "orders", "query": "SELECT 1"}
"""What ``create_pipeline`` and ``put_pipeline`` need."""

ONCE = Limits(max_elapsed_seconds=0)
"""Limits with which every request is tried once."""

_CLIENT_OPTIONS = ("limits", "reload", "log", "sleep", "clock")

Connect = Callable[..., ArroyoClient]


class Clock:
    """A clock that moves only when the client sleeps, or a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def connect(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Make clients from arguments of the client and of its settings; close them after the test."""
    for variable in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    made: list[ArroyoClient] = []

    def make(base_url: str, **given: Any) -> ArroyoClient:
        options = {name: given.pop(name) for name in _CLIENT_OPTIONS if name in given}
        options = {"sleep": clock.sleep, "clock": clock, **options}
        made.append(ArroyoClient(ClientSettings(base_url=base_url, **given), **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Connect, server: Server) -> ArroyoClient:
    """A client of the scripted server, with the usual limits."""
    return connect(server.url())


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_cert(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority: trustme.CA, *names: str, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    """Return a TLS context with a certificate for ``names``; with ``client_ca`` it requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client_ca.configure_trust(context)
    return context


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[Server]:
    with Server(tls=server_context(authority, "127.0.0.1")) as running:
        yield running


def write_client_cert(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    """Write a client's certificate and key; return their paths."""
    made = authority.issue_cert("client@example.org")
    cert, key = folder / "client.pem", folder / "client.key"
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    return str(cert), str(key)


def failure(client: ArroyoClient, request: Request[Any]) -> ArroyoError:
    """Send a request that must fail; return the error."""
    with pytest.raises(ArroyoError) as caught:
        client.send(request)
    return caught.value


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port on which nothing listens; it is bound, so that no other process gets it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
