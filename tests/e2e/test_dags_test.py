"""``airflow dags test``: example DAGs, deferrable, with a connection in Airflow's metadata database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

LIMIT_SECONDS = 300


class CommandLine:
    """Airflow's command line, with a home and a database of its own, and nothing that runs.

    :param home: a folder.
    """

    def __init__(self, home: Path) -> None:
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            # No scheduler is there that an early event could confuse.
            "AIRFLOW__ARROYO__DEFERRAL_HOLD": "0",
        }

    def run(self, *arguments: str) -> str:
        """Run a command, and return what it printed; a test fails where it fails."""
        ended = subprocess.run(  # our own arguments
            [sys.executable, "-m", "airflow", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        printed = ended.stdout + ended.stderr
        assert ended.returncode == 0, printed[-5000:]
        return printed


@pytest.fixture(scope="module")
def airflow_command(arroyo: SandboxServer, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Return a command line whose database has the connection ``arroyo_default``."""
    command = CommandLine(tmp_path_factory.mktemp("dags_test"))
    command.run("db", "migrate")
    where = urlsplit(arroyo.url)
    command.run(
        *("connections", "add", "arroyo_default", "--conn-type", "arroyo"),
        *("--conn-host", str(where.hostname), "--conn-port", str(where.port)),
    )
    return command


@pytest.mark.parametrize(
    "dag_id", ["arroyo_submit_watch_stop", "arroyo_bounded_backfill", "arroyo_wait_for_data"]
)
def test_an_example_dag_runs_inline(dag_id: str, airflow_command: CommandLine) -> None:
    printed = airflow_command.run("dags", "test", dag_id)
    if dag_id == "arroyo_submit_watch_stop":  # the other one is over before it would be deferred
        assert "running trigger in line" in printed
    assert "There is no Airflow connection" not in printed
