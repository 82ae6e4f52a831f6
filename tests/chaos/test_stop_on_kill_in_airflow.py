"""stop_on_kill in a real Airflow: a pipeline is stopped only if its task really ended."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import wait_until
from tests.cluster.airflow import Triggerers

from .dags.stop_on_kill import CASES

pytestmark = pytest.mark.e2e

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(seed=1) as server:
        yield server


@pytest.fixture(scope="module")
def airflow(sandbox: ArroyoSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triggerers]:
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(DAGS / "stop_on_kill.py", dags)
    connection = json.dumps({"conn_type": "arroyo", "host": sandbox.url})
    server = Triggerers(
        home=tmp_path_factory.mktemp("airflow"),
        dags_folder=dags,
        env={"AIRFLOW_CONN_ARROYO_DEFAULT": connection},
    )
    with server:
        yield server


@pytest.fixture(scope="module")
def runs(airflow: Triggerers, sandbox: ArroyoSandbox) -> dict[str, str]:
    """Start all runs at once, and return their ids as soon as every task waits and its pipeline runs."""
    sandbox.faults.show_state("killed_too_late", "Rescaling")
    for case in CASES:
        airflow.unpause(f"stop_on_kill_{case}")
    started = {case: airflow.trigger(f"stop_on_kill_{case}") for case in CASES}
    for case in CASES:
        if case != "killed_too_late":
            wait_until(
                lambda case=case: sandbox.state(case) == "Running",  # type: ignore[misc]  # mypy knows no default
                what=f"pipeline {case} to run",
                timeout_seconds=180,
            )
        if not case.endswith("worker"):
            airflow.wait_for_task(
                f"stop_on_kill_{case}", started[case], "submit", "deferred", timeout_seconds=180
            )
            wait_for_log(airflow, case, started[case], "is ", trigger=True)
    return started


def log_of(airflow: Triggerers, case: str, run_id: str, attempt: int = 1) -> str:
    return airflow.logs_on_disk(f"stop_on_kill_{case}", run_id, "submit", attempt)


def wait_for_log(
    airflow: Triggerers, case: str, run_id: str, text: str, *, attempt: int = 1, trigger: bool = False
) -> None:
    """Wait until the log of a try contains a text; with ``trigger``, until a triggerer has written to it."""

    def has_text() -> bool:
        if trigger:
            files = airflow.task_log_files(f"stop_on_kill_{case}", run_id, "submit")
            return any(".trigger." in path.name and path.stat().st_size > 0 for path in files)
        return text in log_of(airflow, case, run_id, attempt)

    wait_until(has_text, what=f"{text!r} in the log of {case}", timeout_seconds=180)


def stops_of(sandbox: ArroyoSandbox, case: str) -> list[str]:
    """Return the modes of the stops that were requested for a pipeline."""
    ids = [pipeline.id for pipeline in sandbox.store.pipelines.values() if pipeline.name == case]
    return [
        request.json["stop"]
        for request in sandbox.requests.find("PATCH")
        if request.path.rsplit("/", 1)[-1] in ids and "stop" in request.json
    ]


@pytest.mark.parametrize("where", ["triggerer", "worker"])
def test_a_task_that_is_marked_failed_stops_its_pipeline(
    where: str, airflow: Triggerers, sandbox: ArroyoSandbox, runs: dict[str, str]
) -> None:
    case = f"marked_in_{where}"
    airflow.mark_failed(f"stop_on_kill_{case}", runs[case], "submit")
    wait_until(
        lambda: sandbox.state(case) == "Stopped", what=f"pipeline {case} to be stopped", timeout_seconds=180
    )
    wait_for_log(airflow, case, runs[case], "Stop requested (checkpoint), because its task ended")
    assert stops_of(sandbox, case) == ["checkpoint"]


@pytest.mark.parametrize("where", ["triggerer", "worker"])
def test_a_task_that_is_cleared_leaves_its_pipeline_to_the_next_try(
    where: str, airflow: Triggerers, sandbox: ArroyoSandbox, runs: dict[str, str]
) -> None:
    case = f"cleared_in_{where}"
    airflow.clear(f"stop_on_kill_{case}", runs[case], "submit")
    # When a triggerer kills the old wait, the new try may have started already.
    wait_for_log(airflow, case, runs[case], "keeps running")
    wait_for_log(airflow, case, runs[case], "Running, created by an earlier try: ", attempt=2)
    assert sandbox.state(case) == "Running"
    assert stops_of(sandbox, case) == []


# Last, since it freezes the first triggerer.
def test_a_triggerer_that_continues_after_a_freeze_stops_nothing(
    airflow: Triggerers, sandbox: ArroyoSandbox, runs: dict[str, str]
) -> None:
    """One wait was only taken over; the task of the other was cleared and has succeeded since then."""
    moved, late = "taken_over", "killed_too_late"
    airflow.start_triggerer(2)
    airflow.signal_triggerer(1, signal.SIGSTOP)
    airflow.clear(f"stop_on_kill_{late}", runs[late], "submit")
    sandbox.faults.release(late)
    airflow.wait_for_task(f"stop_on_kill_{late}", runs[late], "submit", "success", timeout_seconds=180)
    assert airflow.try_number(f"stop_on_kill_{late}", runs[late], "submit") == 2

    def logs() -> int:
        files = airflow.task_log_files(f"stop_on_kill_{moved}", runs[moved], "submit")
        return sum(".trigger." in path.name for path in files)

    wait_until(lambda: logs() == 2, what="the wait to be taken over", timeout_seconds=240)
    airflow.signal_triggerer(1, signal.SIGCONT)
    wait_for_log(airflow, moved, runs[moved], "The wait continues in another triggerer")
    wait_for_log(airflow, late, runs[late], "a later try of its task has begun")
    for case in (moved, late):
        assert sandbox.state(case) == "Running"
        assert stops_of(sandbox, case) == []
    assert airflow.task_states(f"stop_on_kill_{moved}", runs[moved])["submit"] == "deferred"
