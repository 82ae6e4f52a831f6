"""The command that diagnoses a pipeline."""

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


def test_a_healthy_pipeline_is_reported_by_name_and_by_id(
    sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline_id = submit(sandbox)
    for name in ("orders", pipeline_id):
        assert main(["diagnose", "--observe", "0", name]) == 0
        printed = capsys.readouterr().out
        assert f"{name}: healthy\n" in printed
        assert f"/pipelines/{pipeline_id}" in printed


def test_a_problem_sets_the_exit_code(sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline_id = submit(sandbox)
    sandbox.faults.fail(pipeline_id, error="out of memory", domain="internal")
    sandbox.advance(30)
    assert main(["diagnose", "--observe", "0", "orders"]) == 1
    assert "out of memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given, message",
    [
        (["nothing"], "There is no pipeline named 'nothing' on this Arroyo. Check the name"),
        (["a/b"], "No pipeline has this id either."),
        ([".."], "No pipeline has this id either."),
        (["orders\n"], r"name must not have white space around it, got 'orders\n'"),
        (["--conn-id", "no_such_connection", "orders"], "no Airflow connection 'no_such_connection'"),
    ],
)
def test_the_message_about_a_pipeline_that_cannot_be_diagnosed(
    given: list[str], message: str, sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, message",
    [
        ([""], "argument NAME: must not be empty"),
        (["--observe", "nan", "orders"], "argument --observe: must be from 0 seconds to a day, got nan"),
        (["--observe", "-1", "orders"], "argument --observe: must be from 0 seconds to a day, got -1"),
        (["--observe", "inf", "orders"], "argument --observe: must be from 0 seconds to a day, got inf"),
    ],
)
def test_wrong_arguments_are_refused(
    given: list[str], message: str, sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    # An empty name would request the whole list, and Arroyo would return the first one.
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", *given])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert sandbox.requests.total == 0


def test_the_reason_why_a_diagnosis_is_unknown_is_named(
    sandbox: ArroyoSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(sandbox)
    sandbox.faults.status(403, path="*/checkpoints", times=None)
    assert main(["diagnose", "--observe", "0", "orders"]) == 2
    assert "Its checkpoints cannot be read: " in capsys.readouterr().out
