"""The package's lowest room on its own: without Airflow, without the other client, on any event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import trustme

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.tls import make_ssl_context
from tests.arroyo.conftest import server_context
from tests.arroyo.server import HANG, Server, reply

WITHOUT_AIRFLOW = """
import asyncio, sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "airflow":
            raise ImportError("airflow was imported: " + name)

sys.meta_path.insert(0, NoAirflow())

from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.settings import ClientSettings

settings = ClientSettings(base_url=sys.argv[1])
with ArroyoClient(settings) as client:
    print(client.get_pipeline("pl_1").name)

async def main():
    async with ArroyoAsyncClient(settings) as client:
        print((await client.get_pipeline("pl_1")).name)

asyncio.run(main())
"""


def run(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_calls_work_where_airflow_cannot_be_imported(server: Server) -> None:
    server.play(reply({"id": "pl_1", "name": "orders", "query": "SELECT 1"}))
    assert run(WITHOUT_AIRFLOW, server.url()) == "orders\norders\n"


def test_descriptions_of_calls_need_no_http_library() -> None:
    modules = ["api", "call", "details", "models", "settings", "spec"]
    imports = "\n".join(f"import airflow_provider_arroyo.arroyo.{name}" for name in modules)
    code = f"import sys\n{imports}\nimport airflow_provider_arroyo.exceptions\n" + (
        "print([n for n in ('requests', 'aiohttp', 'urllib3', 'ssl', 'airflow') if n in sys.modules])"
    )
    assert run(code) == "[]\n"


@pytest.mark.parametrize("client, other", [("client", "aiohttp"), ("async_client", "requests")])
def test_no_client_loads_the_other_ones_library(client: str, other: str) -> None:
    code = f"import sys, airflow_provider_arroyo.arroyo.{client}; print({other!r} in sys.modules)"
    assert run(code) == "False\n"


def test_one_client_for_many_threads(server: Server) -> None:
    server.play(reply({"data": []}))
    with ArroyoClient(ClientSettings(base_url=server.url())) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: client.list_jobs(), range(64))) == [()] * 64
    assert len(server.requests) == 64


def test_one_async_client_for_several_loops(server: Server) -> None:
    server.play(reply("Pong"))
    client = ArroyoAsyncClient(ClientSettings(base_url=server.url()))

    async def ping_and_close() -> None:
        await client.ping()
        await client.aclose()

    asyncio.run(client.ping())
    asyncio.run(ping_and_close())
    assert len(server.requests) == 2


async def test_many_calls_at_once_share_a_session(server: Server) -> None:
    server.play(reply({"data": []}))
    async with ArroyoAsyncClient(ClientSettings(base_url=server.url())) as client:
        answers = await asyncio.gather(*(client.list_jobs() for _ in range(20)))
        again = server.connections
        await client.list_jobs()
    assert answers == [()] * 20
    assert server.connections == again


async def test_a_closed_client_opens_again(server: Server) -> None:
    server.play(reply("Pong"))
    client = ArroyoAsyncClient(ClientSettings(base_url=server.url()))
    await client.ping()
    await client.aclose()
    await client.aclose()
    await client.ping()
    await client.aclose()
    assert server.connections == 2


async def test_certificates_are_read_once_and_off_the_loop(
    authority: trustme.CA, ca_cert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def watched(settings: ClientSettings) -> object:
        threads.append(threading.current_thread())
        return make_ssl_context(settings)

    monkeypatch.setattr(f"{ArroyoAsyncClient.__module__}.make_ssl_context", watched)
    with Server([reply("Pong")], tls=server_context(authority, "127.0.0.1")) as server:
        async with ArroyoAsyncClient(ClientSettings(base_url=server.url(), ca_cert=ca_cert)) as client:
            for _ in range(3):
                await client.call(api.ping())
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_call_that_is_cancelled_stays_cancelled(server: Server) -> None:
    server.play(HANG)
    async with ArroyoAsyncClient(ClientSettings(base_url=server.url())) as client:
        call = asyncio.create_task(client.ping())
        assert await asyncio.to_thread(server.asked.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_settings_are_not_shown_by_a_client() -> None:
    settings = ClientSettings(api_key="s3cret", headers={"X-Y": "s3cret"})
    assert "s3cret" not in repr(ArroyoClient(settings)) + repr(ArroyoAsyncClient(settings))


def test_a_session_that_was_given_stays_open(server: Server) -> None:
    server.play(reply("Pong"))
    with requests.Session() as session:
        with ArroyoClient(ClientSettings(base_url=server.url()), session=session) as client:
            client.ping()
        assert session.get(server.url()).text == '"Pong"'
    assert server.connections == 1
