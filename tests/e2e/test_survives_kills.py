"""Tasks whose worker or triggerer is killed with SIGKILL, as when its machine dies.

Last by its name, since with LocalExecutor all tasks die with the scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import processes
from scripts.local_airflow import wait_until
from scripts.local_arroyo import SandboxServer
from tests.cluster.airflow import Cluster
from tests.cluster.celery import CeleryAirflow
from tests.e2e.dags.e2e_kills import ENDLESS, HELD
from tests.e2e.test_real_airflow import RUN_TIMEOUT_SECONDS

pytestmark = pytest.mark.e2e

TAKEOVER_SECONDS = 240
HANG = {"kind": "hang", "method": "PUT", "path": "*/pipelines/*", "after_effect": True}
REASON = "the disk is full"
# What Celery workers log if Redis delivers a message again after its visibility timeout.
OF_DEAD_TRY, OF_LIVING_TRY = "Task Instance not found", "Task already running elsewhere"


def pipelines(arroyo: SandboxServer, name: str) -> list[dict[str, Any]]:
    found = arroyo.call("GET", "/api/v1/pipelines?limit=1000")["data"]
    return [one for one in found if one["name"] == name]


def stops(arroyo: SandboxServer, pipeline_id: str) -> list[str]:
    """Return the requests that changed a pipeline after its creation."""
    found = arroyo.call("GET", f"/sandbox/requests?method=PATCH&path=/api/v1/pipelines/{pipeline_id}")
    return [one["body"] for one in found["data"]]


@pytest.mark.parametrize("case", ["waiting", "submitting"])
def test_a_killed_worker_leaves_one_pipeline_to_the_next_try(
    case: str, airflow: Cluster, arroyo: SandboxServer
) -> None:
    name, dag_id = f"killed_{case}", f"e2e_killed_{case}"
    arroyo.call("POST", "/sandbox/faults", {"kind": "show_state", "pipeline": name, "state": "Rescaling"})
    if case == "submitting":
        arroyo.call("POST", "/sandbox/faults", HANG)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id)

    def log(attempt: int) -> str:
        return airflow.logs_on_disk(dag_id, run_id, "submit", attempt)

    def is_there() -> bool:
        return bool(pipelines(arroyo, name)) and (case == "submitting" or "Rescaling" in log(1))

    wait_until(is_there, what="the pipeline", timeout_seconds=RUN_TIMEOUT_SECONDS)
    airflow.kill_worker(airflow.task_instance(dag_id, run_id, "submit")["pid"])
    assert ("Pipeline created: " in log(1)) == (case == "waiting")

    wait_until(
        lambda: any("Rescaling, created by an earlier try: " in log(attempt) for attempt in (1, 2)),
        what="another try that adopts the pipeline",
        timeout_seconds=TAKEOVER_SECONDS,
    )
    if isinstance(airflow, CeleryAirflow) and case == "waiting":
        for redelivered in (OF_DEAD_TRY, OF_LIVING_TRY):
            wait_until(
                lambda text=redelivered: text in airflow.worker_logs(),  # type: ignore[misc]  # mypy knows no default
                what=f"Redis to deliver a message again: {redelivered!r}",
                timeout_seconds=TAKEOVER_SECONDS,
            )
    arroyo.call("POST", "/sandbox/release", {"pipeline": name})
    assert airflow.wait_for_run(dag_id, run_id, timeout_seconds=RUN_TIMEOUT_SECONDS) == "success"
    result = airflow.xcom(dag_id, run_id, "submit")
    (pipeline,) = pipelines(arroyo, name)
    assert (result["action"], result["pipeline_id"]) == ("adopted", pipeline["id"])
    assert (result["state"], result["run_id"]) == ("Running", 1)
    assert arroyo.pipeline_state(pipeline["id"]) == "Running"
    assert stops(arroyo, pipeline["id"]) == []


def end(arroyo: SandboxServer, names: Sequence[str]) -> None:
    """End the pipelines: every second one fails, the others are stopped."""
    for name in names:
        if is_to_fail(name):
            fault = {"kind": "fail", "pipeline": name, "error": REASON, "domain": "external"}
            arroyo.call("POST", "/sandbox/faults", fault)
        else:
            (pipeline,) = pipelines(arroyo, name)
            arroyo.call("PATCH", f"/api/v1/pipelines/{pipeline['id']}", {"stop": "immediate"})


def is_to_fail(name: str) -> bool:
    return HELD.index(name) % 2 == 1


def test_a_killed_triggerer_loses_and_duplicates_no_wait(airflow: Cluster, arroyo: SandboxServer) -> None:
    dag_id = "e2e_held_in_triggerers"
    for name in HELD:
        arroyo.call("POST", "/api/v1/pipelines", {"name": name, "query": ENDLESS, "parallelism": 1})
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id)

    def logs(name: str) -> list[Path]:
        folder = f"map_index={HELD.index(name)}"
        return [path for path in airflow.task_log_files(dag_id, run_id, "watch") if folder in path.parts]

    def states() -> dict[str, str]:
        return {HELD[one["map_index"]]: one["state"] for one in airflow.task_instances(dag_id, run_id)}

    def are_held() -> bool:
        return all(any(".trigger." in path.name for path in logs(name)) for name in HELD)

    wait_until(are_held, what="20 waits in triggerers", timeout_seconds=TAKEOVER_SECONDS)
    killed = airflow.triggerer_of(logs(HELD[0]))
    assert killed is not None
    processes.kill_tree(killed)
    # While no triggerer polls this one and some others.
    end(arroyo, HELD[:10])
    wait_until(
        lambda: "deferred" not in {states()[name] for name in HELD[:10]},
        what="the other triggerer to see what has ended",
        timeout_seconds=TAKEOVER_SECONDS,
    )
    assert {states()[name] for name in HELD[10:]} == {"deferred"}
    end(arroyo, HELD[10:])
    assert airflow.wait_for_run(dag_id, run_id, timeout_seconds=TAKEOVER_SECONDS) == "failed"

    assert states() == {name: "failed" if is_to_fail(name) else "success" for name in HELD}
    assert {one["try_number"] for one in airflow.task_instances(dag_id, run_id)} == {1}
    for name in HELD:
        (log,) = [path.read_text() for path in logs(name) if ".trigger." not in path.name]
        if is_to_fail(name):
            assert (log.count("Task failed with exception"), REASON in log) == (1, True)
        else:
            assert log.count(f"Done, Stopped: {name} ") == 1
            result = airflow.xcom(dag_id, run_id, "watch", map_index=HELD.index(name))
            assert (result["pipeline_name"], result["state"]) == (name, "Stopped")
