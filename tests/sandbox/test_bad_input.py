"""What nobody should do to a sandbox: refused in words, or coped with."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.sandbox.support import IMPULSE, Caller


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file of a sandbox that kept a pipeline."""
    with ArroyoSandbox(clock=ManualClock(), data=tmp_path) as sandbox, requests.Session() as session:
        Caller(session, sandbox.url).create("kept")
    return tmp_path / "sandbox.json"


def test_kept_data_is_read_again(kept: Path) -> None:
    with ArroyoSandbox(clock=ManualClock(), data=kept.parent) as sandbox:
        sandbox.advance(2)
        assert sandbox.state("kept") == "Running"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"saved_at": ', '"saved_at": "soon", "x": '),
        lambda text: text.replace('"run_id"', '"walk_id"'),
        lambda text: text.replace('"name": "kept"', '"name": 5'),
        lambda text: text.replace('"udfs": [', '"udfs": [7, '),
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "null",
        lambda text: "\x00\x01",
    ],
)
def test_a_damaged_file_is_refused_in_words(kept: Path, damage: Callable[[str], str]) -> None:
    kept.write_text(damage(kept.read_text()))
    with pytest.raises(ValueError, match=r"data: .*sandbox\.json is damaged \("):
        ArroyoSandbox(data=kept.parent)


def test_a_file_that_is_no_text_and_one_that_is_a_folder(kept: Path) -> None:
    kept.write_bytes(b"\xff\xfe" * 1000)
    with pytest.raises(ValueError, match="is damaged"):
        ArroyoSandbox(data=kept.parent)
    kept.unlink()
    kept.mkdir()
    with pytest.raises(ValueError, match="cannot be used"):
        ArroyoSandbox(data=kept.parent)


def test_data_of_another_version_is_not_read(kept: Path) -> None:
    with pytest.raises(ValueError, match=r"holds what a sandbox of Arroyo 0\.16 kept"):
        ArroyoSandbox(data=kept.parent, arroyo_version="0.15")


def test_a_megabyte_of_sql_is_planned_while_the_rest_goes_on(sandbox: ArroyoSandbox, call: Caller) -> None:
    many = "".join(
        f"CREATE TABLE s{number} (n BIGINT) WITH (connector = 'blackhole');\n" for number in range(3000)
    )
    query = f"-- {'x' * (1_000_000 - len(many))}\n{many}{IMPULSE}"
    assert call("POST", "/pipelines/validate_query", {"query": query}).json()["errors"] == []
    nested = IMPULSE.replace("SELECT counter", f"SELECT {'(' * 100_000}counter{')' * 100_000}")
    assert call("POST", "/pipelines", {"name": "x", "query": nested, "parallelism": 1}).status_code in (
        200,
        400,
    )
    assert call("GET", "/ping").status_code == 200


def test_ten_thousand_pipelines_to_begin_with() -> None:
    began = time.monotonic()
    with ArroyoSandbox(clock=ManualClock(), pipelines=10_000) as sandbox, requests.Session() as session:
        call = Caller(session, sandbox.url)
        sandbox.advance(3600)
        assert len(call("GET", "/jobs").json()["data"]) == 10_000
        assert len(call("GET", "/pipelines?limit=1000").json()["data"]) == 1000
        first = call("GET", "/pipelines").json()["data"][0]["id"]
        call("PATCH", f"/pipelines/{first}", {"stop": "checkpoint"})
        sandbox.advance(2)
        assert call.job(first)["state"] == "Stopped"
        overview = requests.get(f"{sandbox.url}/sandbox/overview", timeout=10).json()
        assert (overview["total"], len(overview["pipelines"])) == (10_000, 200)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("missing", ["h11", "sqlglot"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, missing: str) -> None:
    """Neither importing the package nor a test run that has the plugin needs the extra."""
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        import airflow_provider_arroyo.sandbox.pytest_plugin
        import airflow_provider_arroyo.sandbox.__main__ as command
        from airflow_provider_arroyo import sandbox
        try:
            sandbox.ArroyoSandbox()
        except ImportError as error:
            print("python:", error)
        command.main(["--port", "0"])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    words = "pip install 'airflow-provider-arroyo[sandbox]'"
    assert f"needs {missing}: {words}" in ran.stdout, ran.stderr
    assert (ran.returncode, ran.stderr.count("\n"), words in ran.stderr) == (2, 1, True)
