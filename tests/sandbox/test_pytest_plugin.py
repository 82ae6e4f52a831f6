"""The fixture for tests of other projects."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PLUGIN = "airflow_provider_arroyo.sandbox.pytest_plugin"


def run_pytest(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run a test file of another project, with the plugin."""
    (folder / "test_others.py").write_text(textwrap.dedent(test))
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider"]
    command += [] if plugin_is_installed() else ["-p", PLUGIN]
    return subprocess.run(
        [*command, "--rootdir", str(folder), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def plugin_is_installed() -> bool:
    """Whether pytest finds the plugin by itself."""
    from importlib.metadata import entry_points

    return any(item.value == PLUGIN for item in entry_points(group="pytest11"))


def test_the_fixture_gives_a_sandbox_and_a_connection(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        import os
        import pytest
        import requests

        def test_default(arroyo_sandbox):
            assert requests.get(f"{arroyo_sandbox.url}/api/v1/ping").json() == "Pong"
            assert os.environ["AIRFLOW_CONN_ARROYO_DEFAULT"] == arroyo_sandbox.airflow_connection_uri()
            assert arroyo_sandbox.requests.count("GET", "*/ping") == 1

        @pytest.mark.arroyo_sandbox(arroyo_version="0.15", api_key="k", conn_id="mine")
        def test_marked(arroyo_sandbox):
            assert arroyo_sandbox.arroyo_version == "0.15"
            assert requests.get(f"{arroyo_sandbox.url}/api/v1/ping").status_code == 401
            assert ":k@" in os.environ["AIRFLOW_CONN_MINE"]
            assert "AIRFLOW_CONN_ARROYO_DEFAULT" not in os.environ
        """,
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_the_closest_marker_decides_and_bad_options_are_said_in_words(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        import pytest

        pytestmark = pytest.mark.arroyo_sandbox(arroyo_version="0.15", api_key="module")

        @pytest.mark.arroyo_sandbox(api_key="class")
        class TestMerged:
            @pytest.mark.arroyo_sandbox(pipelines=2)
            def test_it(self, arroyo_sandbox):
                assert (arroyo_sandbox.arroyo_version, arroyo_sandbox.api_key) == ("0.15", "class")
                assert arroyo_sandbox.state("pipeline-2") == "Running"

        @pytest.mark.arroyo_sandbox("0.15")
        def test_position(arroyo_sandbox):
            pass

        @pytest.mark.arroyo_sandbox(foo=1)
        def test_unknown(arroyo_sandbox):
            pass

        @pytest.mark.arroyo_sandbox(pipelines="3")
        def test_kind(arroyo_sandbox):
            pass

        @pytest.mark.arroyo_sandbox(conn_id=5)
        def test_connection(arroyo_sandbox):
            pass

        @pytest.mark.arroyo_sandbox(host="192.0.2.1", port=5115)
        def test_address(arroyo_sandbox):
            pass
        """,
    )
    assert "1 passed, 5 errors" in result.stdout, result.stdout + result.stderr
    for words in (
        "arroyo_sandbox: takes its options by name, such as arroyo_version='0.15', not '0.15'",
        "unexpected keyword argument 'foo'",
        "arroyo_sandbox: pipelines must be a whole number, not '3'",
        "arroyo_sandbox: conn_id must be text, not 5",
        "cannot listen on 192.0.2.1:5115: ",
    ):
        assert words in result.stdout
    assert "Traceback" not in result.stdout


def test_without_the_extra_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        import sys

        sys.modules["h11"] = None

        def test_theirs():
            pass

        def test_with_a_sandbox(arroyo_sandbox):
            pass
        """,
    )
    assert "1 passed, 1 error" in result.stdout, result.stdout + result.stderr
    assert "During handling" not in result.stdout
    assert "needs h11: pip install 'airflow-provider-arroyo[sandbox]'" in result.stdout


@pytest.mark.parametrize("heavy", ["h11", "sqlglot", "airflow", "requests", "sqlite3"])
def test_the_plugin_imports_nothing_heavy(heavy: str) -> None:
    code = f"import {PLUGIN}, sys; sys.exit({heavy!r} in sys.modules)"
    # pytest itself may import what it likes.
    bare = subprocess.run(
        [sys.executable, "-c", f"import pytest, sys; sys.exit({heavy!r} in sys.modules)"], check=False
    )
    result = subprocess.run([sys.executable, "-c", code], check=False)
    assert result.returncode == bare.returncode
