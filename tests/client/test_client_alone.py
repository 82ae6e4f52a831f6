"""The client on its own: without Airflow, in many threads, and without secrets in its representation."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from tests.client.conftest import PIPELINE
from tests.client.server import Server, reply

WITHOUT_AIRFLOW = """
import sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "airflow":
            raise ImportError("airflow was imported: " + name)

sys.meta_path.insert(0, NoAirflow())

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings

with ArroyoClient(ClientSettings(base_url=sys.argv[1])) as client:
    print(client.get_pipeline("pl_1").name)
"""


def run(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_client_works_where_airflow_cannot_be_imported(server: Server) -> None:
    server.play(reply(PIPELINE))
    assert run(WITHOUT_AIRFLOW, server.url()) == "orders\n"


def test_describing_a_request_loads_no_http_library() -> None:
    modules = ["client.endpoints", "client.request", "client.details", "client.models", "client.settings"]
    imports = "\n".join(f"import airflow_provider_arroyo.{name}" for name in [*modules, "exceptions"])
    code = f"import sys\n{imports}\n" + (
        "print([n for n in ('requests', 'aiohttp', 'urllib3', 'ssl', 'tenacity', 'airflow') if n in sys.modules])"
    )
    assert run(code) == "[]\n"


def test_many_threads_can_share_a_client(client: ArroyoClient, server: Server) -> None:
    server.play(reply({"data": []}))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: len(client.list_jobs()), range(64))) == [0] * 64
    assert len(server.requests) == 64
    assert server.connections <= 8


def test_client_shows_its_address_and_no_secret() -> None:
    settings = ClientSettings(base_url="http://arroyo:5115", api_key="s3cret", headers={"X-Y": "s3cret"})
    assert repr(ArroyoClient(settings)) == "ArroyoClient('http://arroyo:5115')"
