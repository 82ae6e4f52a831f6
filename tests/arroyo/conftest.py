from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import trustme

from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.call import Call, Exchange
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.details import OutputBatch, Page
from airflow_provider_arroyo.arroyo.listing import Dated
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from tests.arroyo.server import Server

T = TypeVar("T")
Item = TypeVar("Item", bound=Dated)


class Clock:
    """A clock that only moves when somebody sleeps by it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Driver(Protocol):
    """What both clients can do, without their difference of kind."""

    settings: ClientSettings

    def call(self, call: Call[T], *, deadline: float | None = None) -> T: ...

    def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]: ...

    def first_items(self, call: Call[Page[Item]], count: int) -> list[Item]: ...

    def stream(
        self, pipeline_id: str, job_id: str, *, deadline: float | None = None
    ) -> list[OutputBatch]: ...

    def method(self, name: str, *args: Any, **kwargs: Any) -> Any: ...

    def close(self) -> None: ...

    def text(self) -> str: ...


class SyncDriver:
    def __init__(self, settings: ClientSettings, clock: Clock, options: dict[str, Any]) -> None:
        self.settings = settings
        self.client = ArroyoClient(settings, **{"sleep": clock.sleep, "clock": clock, **options})

    def call(self, call: Call[T], *, deadline: float | None = None) -> T:
        return self.client.call(call, deadline=deadline)

    def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]:
        return self.client.exchange(call, deadline=deadline)

    def first_items(self, call: Call[Page[Item]], count: int) -> list[Item]:
        return [item for item, _ in zip(self.client.pages(call), range(count), strict=False)]

    def stream(self, pipeline_id: str, job_id: str, *, deadline: float | None = None) -> list[OutputBatch]:
        return list(self.client.stream_output(pipeline_id, job_id, deadline=deadline))

    def method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.client, name)(*args, **kwargs)

    def close(self) -> None:
        self.client.close()

    def text(self) -> str:
        return f"{self.client!r} {self.client.settings!r}"


class AsyncDriver:
    def __init__(self, settings: ClientSettings, clock: Clock, options: dict[str, Any]) -> None:
        self.settings = settings
        self._loop = asyncio.new_event_loop()
        self.client = ArroyoAsyncClient(settings, **{"sleep": clock.sleep_async, "clock": clock, **options})

    def call(self, call: Call[T], *, deadline: float | None = None) -> T:
        return self._loop.run_until_complete(self.client.call(call, deadline=deadline))

    def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]:
        return self._loop.run_until_complete(self.client.exchange(call, deadline=deadline))

    def first_items(self, call: Call[Page[Item]], count: int) -> list[Item]:
        async def collect() -> list[Item]:
            items: list[Item] = []
            async for item in self.client.pages(call):
                items.append(item)
                if len(items) == count:
                    break
            return items

        return self._loop.run_until_complete(collect())

    def stream(self, pipeline_id: str, job_id: str, *, deadline: float | None = None) -> list[OutputBatch]:
        async def collect() -> list[OutputBatch]:
            stream = self.client.stream_output(pipeline_id, job_id, deadline=deadline)
            return [batch async for batch in stream]

        return self._loop.run_until_complete(collect())

    def method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._loop.run_until_complete(getattr(self.client, name)(*args, **kwargs))

    def close(self) -> None:
        self._loop.run_until_complete(self.client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def text(self) -> str:
        return f"{self.client!r} {self.client.settings!r}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


Connect = Callable[..., Driver]


@pytest.fixture(params=["requests", "aiohttp"])
def connect(
    request: pytest.FixtureRequest, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connect]:
    """Make clients of either kind; those of one test are closed after it."""
    for variable in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    kind = SyncDriver if request.param == "requests" else AsyncDriver
    made: list[SyncDriver | AsyncDriver] = []

    def make(base_url: str, **given: Any) -> Driver:
        options: dict[str, Any] = {name: given.pop(name) for name in ("retry", "clock") if name in given}
        driver = kind(ClientSettings(base_url=base_url, **given), clock, options)
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def client(connect: Connect, server: Server) -> Driver:
    """A client of the server, with the usual retries."""
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
    """Return TLS for a server with a certificate for ``names``, that asks for one where ``client_ca`` is given."""
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
