"""``airflow dags test``: example DAGs, deferrable, with a connection in Airflow's metadata database, and lineage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

LIMIT_SECONDS = 300
DAG_IDS = ("arroyo_submit_watch_stop", "arroyo_bounded_backfill", "arroyo_wait_for_data")


class CommandLine:
    """Airflow's command line with its own home and database; no component is running.

    :param home: a folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            # No scheduler is running that an early event could confuse.
            "AIRFLOW__ARROYO__DEFERRAL_HOLD": "0",
            # Airflow drops an event that takes longer, 10 seconds by default, which a busy machine may need.
            "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "120",
        }
        self.lineage = home / "lineage"

    def copied(self, home: Path) -> CommandLine:
        """Return another one, with a copy of this one's database."""
        shutil.copytree(self.home, home)
        return CommandLine(home)

    def run(self, *arguments: str, lineage_of: str = "") -> str:
        """Run a command and return its output; a failure fails the test.

        :param lineage_of: the file in ``lineage`` to which Airflow's listener emits events; without it, none are
            emitted.
        """
        if lineage_of:
            self.lineage.mkdir(exist_ok=True)
            transport = {"type": "file", "log_file_path": str(self.lineage / lineage_of), "append": True}
            self.env["AIRFLOW__OPENLINEAGE__TRANSPORT"] = json.dumps(transport)
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
    """Return a command line with the connection ``arroyo_default`` in its database."""
    command = CommandLine(tmp_path_factory.mktemp("dags_test"))
    command.run("db", "migrate")
    where = urlsplit(arroyo.url)
    command.run(
        *("connections", "add", "arroyo_default", "--conn-type", "arroyo"),
        *("--conn-host", str(where.hostname), "--conn-port", str(where.port)),
    )
    return command


@dataclass
class Inline:
    """A run of a DAG by the command line.

    :param command: the command line that runs it.
    :param printed: what it has printed, once it has ended.
    """

    command: CommandLine
    printed: Future[str]


@pytest.fixture(scope="module")
def inline(
    airflow_command: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Inline]]:
    """Run the DAGs at the same time, since they mostly wait; with SQLite, each needs its own database."""
    folder = tmp_path_factory.mktemp("inline")
    with ThreadPoolExecutor(len(DAG_IDS)) as pool:
        found = {}
        for dag_id in DAG_IDS:
            command = airflow_command.copied(folder / dag_id)
            found[dag_id] = Inline(
                command, pool.submit(command.run, "dags", "test", dag_id, lineage_of=dag_id)
            )
        yield found


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_an_example_dag_runs_inline(dag_id: str, inline: dict[str, Inline]) -> None:
    command, printed = inline[dag_id].command, inline[dag_id].printed.result()
    if dag_id == "arroyo_submit_watch_stop":  # the other one ends before it would defer
        assert "running trigger in line" in printed
    assert "There is no Airflow connection" not in printed
    # The other one's wait goes on, so its run does not end.
    ends = dag_id != "arroyo_wait_for_data"
    if ends and find_spec("airflow.providers.openlineage") is not None:
        check_lineage(dag_id, command.lineage / dag_id)


def test_a_pipeline_is_diagnosed_by_a_connection_of_the_database(airflow_command: CommandLine) -> None:
    ended = subprocess.run(  # our own arguments
        [sys.executable, "-m", "airflow_provider_arroyo", "diagnose", "nothing"],
        env=airflow_command.env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 2
    assert "There is no pipeline named 'nothing' on this Arroyo." in ended.stderr


def check_lineage(dag_id: str, path: Path) -> None:
    """Check the events that Airflow's own listener emitted, including those of tasks that deferred and resumed."""
    from tests.openlineage import events

    emitted = events.read(path)
    pipelines = events.of_pipelines(emitted)
    assert [event["eventType"] for event in pipelines] == ["START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in pipelines}) == 1
    for event in pipelines:
        assert event["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
        assert "CREATE TABLE" in event["job"]["facets"]["sql"]["query"]
        assert event["run"]["facets"]["arroyo_pipeline"]["state"] in ("Running", "Stopped", "Finished")
        assert event["run"]["facets"]["parent"]["root"]["job"]["name"] == dag_id
    tasks = [event for event in emitted if event["job"]["name"] in (f"{dag_id}.submit", f"{dag_id}.backfill")]
    assert [event["eventType"] for event in tasks] == ["START", "COMPLETE"]
    assert tasks[1]["run"]["runId"] == pipelines[0]["run"]["facets"]["parent"]["run"]["runId"]
