"""The command that says what is wrong with a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.__main__ import main
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.support import ENDLESS


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(clock=ManualClock(), seed=3) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


def submit(sandbox: ArroyoSandbox) -> str:
    with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
        made = client.create_pipeline(name="orders", query=ENDLESS)
    sandbox.advance(30)
    return made.id


def test_a_healthy_pipeline_by_name_and_by_id(
    sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline_id = submit(sandbox)
    for name in ("orders", pipeline_id):
        assert main(["diagnose", "--observe", "0", name]) == 0
        printed = capsys.readouterr().out
        assert f"{name}: healthy\n" in printed
        assert f"/pipelines/{pipeline_id}" in printed


def test_a_problem_is_the_exit_code(sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline_id = submit(sandbox)
    sandbox.faults.fail(pipeline_id, error="out of memory", domain="internal")
    sandbox.advance(30)
    assert main(["diagnose", "--observe", "0", "orders"]) == 1
    assert "out of memory" in capsys.readouterr().out


@pytest.mark.parametrize("conn_id, name", [("arroyo_default", "nothing"), ("no_such_connection", "orders")])
def test_what_cannot_be_diagnosed(
    conn_id: str, name: str, sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "--conn-id", conn_id, name]) == 2
    assert (
        name in capsys.readouterr().err
        or conn_id in capsys.readouterr().err
        or conn_id == "no_such_connection"
    )
