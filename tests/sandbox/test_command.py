"""The command line: says where it is, and refuses bad use in one line with exit code 2."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_arroyo.sandbox.__main__ import main
from tests.support import ENDLESS

COMMAND = [sys.executable, "-m", "airflow_provider_arroyo.sandbox"]


@contextlib.contextmanager
def running(*arguments: str, code: int = 0) -> Iterator[str]:
    """A sandbox started from the command line; yields its address, and checks its exit code."""
    process = subprocess.Popen([*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"at (https?://\S+)", line)
        assert found, line
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait(10)


def test_it_prints_what_it_is_and_ends_at_a_signal() -> None:
    with running("--arroyo-version", "0.15", "--pipelines", "30", "--fault", "status,status=502") as url:
        assert requests.get(f"{url}/api/v1/ping", timeout=60).status_code == 502
        assert len(requests.get(f"{url}/api/v1/jobs", timeout=60).json()["data"]) == 30
        assert requests.get(f"{url}/sandbox", timeout=60).json()["arroyo_version"] == "0.15"


def test_data_outlives_the_process(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    body = {"name": "kept", "query": ENDLESS, "parallelism": 1}
    with running("--data", folder) as url:
        made = requests.post(f"{url}/api/v1/pipelines", json=body, timeout=60).json()
        table = {"name": "t", "connector": "impulse", "config": {"event_rate": 1}}
        requests.post(f"{url}/api/v1/connection_tables", json=table, timeout=60)
        before = requests.get(f"{url}/api/v1/jobs", timeout=60).json()["data"][0]
    with running("--data", folder) as url:
        again = requests.get(f"{url}/api/v1/pipelines/{made['id']}", timeout=60).json()
        assert {**again, "action_in_progress": None} == {**made, "action_in_progress": None}
        assert requests.get(f"{url}/api/v1/jobs", timeout=60).json()["data"][0]["id"] == before["id"]
        assert requests.get(f"{url}/api/v1/connection_tables", timeout=60).json()["data"][0]["name"] == "t"
    result = subprocess.run(
        [*COMMAND, "--data", folder, "--arroyo-version", "0.15"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert "holds what a sandbox of Arroyo 0.16 kept" in result.stderr


def test_a_data_folder_that_is_gone_at_the_end_is_said_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running("--data", str(tmp_path / "kept"), code=2):
        shutil.rmtree(tmp_path / "kept")
    said = capfd.readouterr().err
    assert "data: the last changes could not be kept: [Errno 2] No such file or directory" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--arroyo-version", "0.17"], "invalid choice: '0.17' (choose from"),
        (["--port", "http"], "invalid int value: 'http'"),
        (["--port", "70000"], "port must be 0 to 65535"),
        (["--speed", "0"], "speed must be above 0"),
        (["--speed", "inf"], "speed must be above 0 and at most 1,000,000, not inf"),
        (["--speed", "1e300"], "speed must be above 0 and at most 1,000,000, not 1e+300"),
        (["--speed", "nan"], "speed must be above 0"),
        (["--data", ""], "data must be one line of text and not empty"),
        (["--host", ""], "host must be one line of text and not empty"),
        (["--api-key", "a\nb"], "api_key must be one line of text and not empty"),
        (["--fault", "api_away"], "seconds: must be given, or nothing could bring the API back"),
        (["--fault", "api_away,seconds=none"], "seconds: must be given"),
        (["--fault", "flood"], "kind: 'flood' is not one of status,"),
        (["--fault", "reset", "--fault", "hang,times=0"], "--fault hang,times=0: times: must be from 1 to"),
        (["--fault", "status,times"], "'times' is not FIELD=VALUE"),
        (["--tls-key", "x.pem"], "tls_key and tls_client_ca need tls_cert"),
        (["--tls-cert", "/nonexistent.pem"], "cannot be read"),
        (["--data", "/proc/nope"], "data: /proc/nope cannot be used"),
        (["--pipelines", "-1"], "pipelines must not be below 0"),
        (["--job-controller", "worker", "--arroyo-version", "0.15"], "from version 0.16 on"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's own stay
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_port_in_use_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, check=False, timeout=60
        )
    assert result.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; name another --host" in result.stderr
    assert result.stderr.count("\n") == 1
