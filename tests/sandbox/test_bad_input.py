"""Bad input to a sandbox: it is refused with a clear message, or handled."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.sandbox.support import Caller
from tests.support import ENDLESS


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
        lambda text: text.replace('"run_id": ', '"run_id": "x", "y": '),
        lambda text: text.replace('"name": "kept"', '"name": "left"'),
        lambda text: text.replace('"format": ', '"format": 1'),
        lambda text: text[:-1],
        lambda text: text + "\n",
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "null",
        lambda text: "\x00\x01",
    ],
)
def test_a_damaged_file_is_refused_with_a_message(kept: Path, damage: Callable[[str], str]) -> None:
    damaged = damage(kept.read_text())
    assert damaged != kept.read_text()
    kept.write_text(damaged)
    with pytest.raises(ValueError, match=r"data: .*sandbox\.json is damaged \("):
        ArroyoSandbox(data=kept.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"tables": ', '"table": '),
        lambda text: text.replace('"run_id": ', '"another_field": 1, "run_id": '),
        lambda text: text.replace('"checkpoints": [', '"checkpoints": [1, '),
        lambda text: text.replace('"run_started": ', '"run_started": "x", "left": '),
        lambda text: text.partition("\n")[0] + "\n[]\n",
        lambda text: text.partition("\n")[0],
        lambda text: text + "\n{}",
        lambda text: text + "\nnull",
        lambda text: "5\n" + text,
    ],
)
def test_content_of_another_shape_is_refused_with_a_message(kept: Path, change: Callable[[str], str]) -> None:
    changed = change(kept.read_text().rpartition("\n")[0]) + "\n"
    kept.write_text(changed + hashlib.sha256(changed.encode()).hexdigest())
    with pytest.raises(ValueError, match=r"data: .*sandbox\.json is damaged \("):
        ArroyoSandbox(data=kept.parent)


def test_a_file_that_is_no_text(kept: Path) -> None:
    kept.write_bytes(b"\xff\xfe" * 1000)
    with pytest.raises(ValueError, match="is damaged"):
        ArroyoSandbox(data=kept.parent)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_not_a_file(kept: Path, make: Callable[[Path], None]) -> None:
    kept.unlink()
    make(kept)
    with pytest.raises(ValueError, match=r"cannot be used: .*sandbox\.json is not a file"):
        ArroyoSandbox(data=kept.parent)


def test_a_folder_belongs_to_one_sandbox_at_a_time(kept: Path) -> None:
    with (
        ArroyoSandbox(data=kept.parent),
        pytest.raises(ValueError, match=r"data: .* is in use by another sandbox"),
    ):
        ArroyoSandbox(data=kept.parent)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        ArroyoSandbox(data=kept.parent, port=taken.getsockname()[1]).start()
    with ArroyoSandbox(data=kept.parent):
        pass


def test_a_held_state_is_not_kept(kept: Path) -> None:
    with ArroyoSandbox(clock=ManualClock(), data=kept.parent) as sandbox:
        sandbox.faults.show_state("kept", "Hibernating")
        sandbox.advance(1)
        assert sandbox.state("kept") == "Hibernating"
    with ArroyoSandbox(clock=ManualClock(), data=kept.parent) as sandbox:
        assert sandbox.state("kept") != "Hibernating"


def test_data_is_written_after_a_change_and_not_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.sandbox.persistence._PAUSE_SECONDS", 3600)
    file = tmp_path / "sandbox.json"
    with ArroyoSandbox(clock=ManualClock(), data=tmp_path) as sandbox, requests.Session() as session:
        written = [file.stat().st_mtime_ns]

        def is_written() -> bool:
            assert sandbox._persistence is not None
            sandbox._persistence._write()
            written.append(file.stat().st_mtime_ns)
            return written[-1] != written[-2]

        call = Caller(session, sandbox.url)
        call.create("kept")
        assert is_written()
        call("GET", "/pipelines")
        assert not is_written()
        call("POST", "/connection_profiles", {"name": "p", "connector": "kafka", "config": {}})
        assert is_written()
        sandbox.faults.delete("kept")
        sandbox.advance(1)
        assert is_written()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"pipelines": "3"}, "pipelines must be a whole number, not '3'"),
        ({"port": 1.5}, "port must be a whole number, not 1.5"),
        ({"allowed_restarts": True}, "allowed_restarts must be a whole number"),
        ({"log_size": -1}, "log_size must not be below 0"),
        ({"speed": "2"}, "speed must be a number, not '2'"),
        ({"host": ""}, "host must be one line of text"),
        ({"data": ""}, "data must be one line of text"),
        ({"api_key": ""}, "api_key must be one line of text"),
        ({"api_key": 5}, "api_key must be one line of text and not empty, not 5"),
        ({"data": 5}, "data must be one line of text and not empty, not 5"),
        ({"clock": 5}, "clock must be a RealClock or a ManualClock, not 5"),
        ({"arroyo_version": 0.16}, "arroyo_version must be one of '0.15', '0.16', not 0.16"),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        ArroyoSandbox(**options)


def test_data_of_another_version_is_not_read(kept: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds what a sandbox of Arroyo 0\.16 kept; name .* arroyo_version 0"
    ):
        ArroyoSandbox(data=kept.parent, arroyo_version="0.15")


def test_data_of_another_format_is_named_and_left(kept: Path) -> None:
    content = kept.read_text().rpartition("\n")[0].replace('"format": ', '"format": 1') + "\n"
    kept.write_text(content + hashlib.sha256(content.encode()).hexdigest())
    before = kept.read_bytes()
    words = r"sandbox\.json has the format 1\d, and this .* reads \d; name another folder, or use the version that"
    with pytest.raises(ValueError, match=words):
        ArroyoSandbox(data=kept.parent)
    assert kept.read_bytes() == before


def test_what_cannot_be_kept_is_said_once_and_tried_again(
    kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider_arroyo.sandbox.persistence._PAUSE_SECONDS", 0.01)
    caplog.set_level("WARNING", "airflow_provider_arroyo.sandbox")
    with ArroyoSandbox(clock=ManualClock(), data=kept.parent) as sandbox, requests.Session() as session:
        tries = itertools.count(1)
        tried_thrice = threading.Event()

        def full(*_: object) -> None:
            if next(tries) == 3:
                tried_thrice.set()
            raise OSError(28, "no space left")

        monkeypatch.setattr(type(kept), "replace", full)
        Caller(session, sandbox.url).create("later")
        assert tried_thrice.wait(60)
        monkeypatch.undo()
    (line,) = caplog.messages
    assert line == "Changes cannot be kept, and are tried again: [Errno 28] no space left"
    with ArroyoSandbox(clock=ManualClock(), data=kept.parent) as sandbox:
        assert sandbox.state("later") is not None


def test_a_megabyte_of_sql_is_planned_while_the_rest_goes_on(sandbox: ArroyoSandbox, call: Caller) -> None:
    many = "".join(
        f"CREATE TABLE s{number} (n BIGINT) WITH (connector = 'blackhole');\n" for number in range(3000)
    )
    query = f"-- {'x' * (1_000_000 - len(many))}\n{many}{ENDLESS}"
    assert call("POST", "/pipelines/validate_query", {"query": query}).json()["errors"] == []
    nested = ENDLESS.replace("SELECT counter", f"SELECT {'(' * 100_000}counter{')' * 100_000}")
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
        overview = requests.get(f"{sandbox.url}/sandbox/overview", timeout=60).json()
        assert (overview["total"], len(overview["pipelines"])) == (10_000, 200)
        last = requests.get(f"{sandbox.url}/sandbox/overview?from=9990", timeout=60).json()["pipelines"]
        assert [item["name"] for item in last] == [f"pipeline-{number}" for number in range(10, 0, -1)]
        assert requests.get(f"{sandbox.url}/sandbox/overview?from=-1", timeout=60).status_code == 400
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
