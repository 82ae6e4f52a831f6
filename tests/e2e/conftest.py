"""One real Airflow and one sandbox for all end-to-end tests: starting them takes most of a minute.

It is ``airflow standalone`` (SQLite, LocalExecutor). Where the environment variable ``ARROYO_E2E_EXECUTOR`` names an
executor, it runs on PostgreSQL with that executor and two triggerers, and the tests that kill processes are run, too.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from scripts import processes
from scripts.local_airflow import LocalAirflow
from scripts.local_arroyo import SandboxServer
from tests.cluster import QUICK_TAKEOVER, running
from tests.cluster.celery import NoRedisError
from tests.cluster.postgres import NoPostgresError
from tests.stats.server import StatsdServer
from tests.support import BROKEN

ROOT = Path(__file__).parent.parent.parent
EXECUTOR = os.environ.get("ARROYO_E2E_EXECUTOR")
# Airflow's command line runs a DAG without an executor.
collect_ignore = ["test_dags_test.py"] if EXECUTOR else ["test_survives_kills.py"]
SETTINGS = {
    **QUICK_TAKEOVER,
    # With a shorter time, a slow component would count as dead, and its tasks would be started again.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__CORE__PARALLELISM": "8",
    # With LocalExecutor, Airflow fails a task that resumes before its worker process has ended, which may take this
    # long.
    "AIRFLOW__ARROYO__DEFERRAL_HOLD": "20",
    # Airflow's default; the demo and other tests use another value.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
}
Runs = dict[str, str]
"""The ids of the runs, by DAG id."""

EXAMPLES = ("arroyo_submit_watch_stop", "arroyo_bounded_backfill")
LIFE_EXAMPLES = (
    "arroyo_maintenance",
    "arroyo_scale_for_backfill",
    "arroyo_quality_gate",
    "arroyo_wait_for_data",
)
DEPLOY_EXAMPLES = ("arroyo_deploy_on_merge", "arroyo_deploy_rollback", "arroyo_scale")
WATCHER = "arroyo_restart_on_failure"
OWN = (
    "e2e_held_open",
    "e2e_submit_defers",
    "e2e_ends_in_triggerer",
    "e2e_deploy_defers",
    "e2e_bad_sql",
    "e2e_fails_at_once",
    "e2e_fails_later",
)

FAILS_LATER = {
    "kind": "fail",
    "pipeline": "fails_later",
    "after": 8,
    "error": "the broker went away",
    "domain": "external",
}


SLOW_LIST = {"kind": "latency", "seconds": 3, "method": "GET", "path": "/api/v1/jobs", "times": 3}
"""Only triggerers request the list, so that a request that blocks an event loop blocks it for so long."""


def in_worker(dag_id: str) -> str:
    """Return the id of the copy of an example DAG that does not defer."""
    return f"{dag_id}_in_worker"


def copy_in_worker(example: Path, to: Path) -> None:
    """Copy an example DAG, changed only so that its tasks wait in the worker."""
    source = example.read_text()
    begin = f'dag_id="{example.stem}",'
    assert source.count(begin) == 1
    changed = f'dag_id="{in_worker(example.stem)}", default_args={{"deferrable": False}},'
    to.write_text(source.replace(begin, changed))


@pytest.fixture(scope="session")
def arroyo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """Return the sandbox, in its own process."""
    with SandboxServer(log=tmp_path_factory.mktemp("arroyo") / "sandbox.log") as server:
        yield server


@pytest.fixture(scope="session")
def bystander(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the file in which an idle event loop records delays that the machine causes."""
    log = tmp_path_factory.mktemp("bystander") / "late"
    mark = uuid.uuid4().hex
    script = Path(__file__).parent / "bystander.py"
    processes.start([sys.executable, str(script)], log=log, mark=mark, cwd=log.parent)
    yield log
    processes.stop_marked(mark)


@pytest.fixture(scope="session")
def statsd() -> Iterator[StatsdServer]:
    """Return the server that gets Airflow's metrics."""
    server = StatsdServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def airflow(
    arroyo: SandboxServer, bystander: Path, statsd: StatsdServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """Return a running Airflow with the example DAGs, copies of them that do not defer, and our own DAGs."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copytree(ROOT / "example_dags", dags, dirs_exist_ok=True)
    shutil.copytree(Path(__file__).parent / "dags", dags, dirs_exist_ok=True)
    for name in EXAMPLES:
        copy_in_worker(ROOT / "example_dags" / f"{name}.py", dags / f"{in_worker(name)}.py")
    env = {
        "AIRFLOW_CONN_ARROYO_DEFAULT": arroyo.airflow_connection(),
        "AIRFLOW_CONN_ARROYO_DEFERRED": arroyo.airflow_connection(),
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        **statsd.settings,
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }
    home = tmp_path_factory.mktemp("airflow")
    starting: AbstractContextManager[LocalAirflow]
    if EXECUTOR:
        env |= SETTINGS
        starting = running(EXECUTOR, home=home, dags_folder=dags, env=env)
    else:
        starting = LocalAirflow(home=home, dags_folder=dags, env=env)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(starting)
        except (NoPostgresError, NoRedisError) as error:
            pytest.exit(str(error), returncode=1)
        if not EXECUTOR:
            server.prioritise_triggerer()
        yield server
    assert server.processes_left() == []


@pytest.fixture(scope="session")
def broken(airflow: LocalAirflow, arroyo: SandboxServer) -> str:
    """Return the id of a pipeline that always fails, which a DAG watches from now on."""
    body = {"name": "orders_kept_alive", "query": BROKEN, "parallelism": 1}
    pipeline_id = arroyo.call("POST", "/api/v1/pipelines", body)["id"]
    # Its watcher begins with the first parse of the DAG's file after that.
    airflow.unpause(WATCHER)
    return str(pipeline_id)


@pytest.fixture(scope="session")
def runs(airflow: LocalAirflow, arroyo: SandboxServer, broken: str) -> Runs:
    """Start a run of every DAG, all at once, and return the run ids by DAG id."""
    for fault in (FAILS_LATER, SLOW_LIST):
        arroyo.call("POST", "/sandbox/faults", fault)
    dag_ids = (*EXAMPLES, *map(in_worker, EXAMPLES), *DEPLOY_EXAMPLES, *LIFE_EXAMPLES, *OWN)
    for dag_id in dag_ids:
        airflow.unpause(dag_id)
    return {dag_id: airflow.trigger(dag_id) for dag_id in dag_ids}
