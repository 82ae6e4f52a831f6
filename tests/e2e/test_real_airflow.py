"""Tasks in a real Airflow, as DAG authors see them: scheduler, workers, triggerer, REST API."""

from __future__ import annotations

import inspect
import re
import urllib.request
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.version import Version

from scripts import processes
from scripts.local_airflow import LocalAirflow, wait_until
from scripts.local_arroyo import SandboxServer
from tests.e2e.conftest import EXAMPLES, EXECUTOR, FAILS_LATER, Runs, in_worker
from tests.stats.server import StatsdServer

pytestmark = pytest.mark.e2e

RUN_TIMEOUT_SECONDS = 180
RESULT = {"pipeline_id", "pipeline_name", "job_id", "state", "run_id", "console_url"}
BLOCKED = "async thread was blocked for %.2f seconds"
BLOCKED_SECONDS = 1.0
"""Airflow warns from 0.2 s on, which a busy machine reaches; a blocking request would take 3 s (``SLOW_LIST``)."""


def finished(airflow: LocalAirflow, runs: Runs, dag_id: str) -> str:
    """Wait for the run of a DAG and return its state."""
    return airflow.wait_for_run(dag_id, runs[dag_id], timeout_seconds=RUN_TIMEOUT_SECONDS)


def succeeded(airflow: LocalAirflow, runs: Runs, dag_id: str) -> str:
    """Wait until the run of a DAG has succeeded, and return its id."""
    assert finished(airflow, runs, dag_id) == "success", airflow.task_states(dag_id, runs[dag_id])
    return runs[dag_id]


def trigger_logs(airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str) -> list[Path]:
    """Return the logs of the triggerers that ran the task's wait: each writes a file of its own."""
    return [path for path in airflow.task_log_files(dag_id, run_id, task_id) if ".trigger." in path.name]


def was_deferred(airflow: LocalAirflow, dag_id: str, run_id: str, task_id: str) -> bool:
    """Return whether a triggerer ran the task's wait."""
    return bool(trigger_logs(airflow, dag_id, run_id, task_id))


def results(airflow: LocalAirflow, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
    return {task_id: airflow.xcom(dag_id, run_id, task_id) for task_id in airflow.task_states(dag_id, run_id)}


# First, since its wait must be in progress while others run.
def test_a_wait_shows_its_link_and_outlives_its_triggerer(
    airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs
) -> None:
    dag_id, run_id = "e2e_held_open", runs["e2e_held_open"]
    airflow.wait_for_task(dag_id, run_id, "watch", "deferred", timeout_seconds=RUN_TIMEOUT_SECONDS)

    def triggerer() -> psutil.Process | None:
        return airflow.triggerer_of(trigger_logs(airflow, dag_id, run_id, "watch"))

    wait_until(lambda: triggerer() is not None, what="the trigger to start", timeout_seconds=180)
    pipeline_id = airflow.xcom(dag_id, run_id, "submit")["pipeline_id"]

    link = airflow.links(dag_id, run_id, "watch")["Arroyo console"]
    assert link == f"{arroyo.url}/pipelines/{pipeline_id}"
    with urllib.request.urlopen(str(link), timeout=60) as page:
        assert page.status == 200

    killed = triggerer()
    assert killed is not None
    processes.kill_tree(killed)
    airflow.start_component("triggerer")
    wait_until(
        lambda: triggerer() is not None, what="the wait to continue in another one", timeout_seconds=240
    )
    assert airflow.task_states(dag_id, run_id)["watch"] == "deferred"
    assert arroyo.pipeline_state(pipeline_id) == "Running"

    arroyo.call("PATCH", f"/api/v1/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    succeeded(airflow, runs, dag_id)
    assert airflow.task_instance(dag_id, run_id, "watch")["try_number"] == 1
    assert airflow.xcom(dag_id, run_id, "watch")["state"] == "Stopped"


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_an_example_succeeds_deferred_and_in_a_worker(airflow: LocalAirflow, runs: Runs, dag_id: str) -> None:
    for one in (dag_id, in_worker(dag_id)):
        succeeded(airflow, runs, one)
    deferred = results(airflow, dag_id, runs[dag_id])
    in_the_worker = results(airflow, in_worker(dag_id), runs[in_worker(dag_id)])
    for of in (set, lambda result: result["state"]):
        assert {task: of(result) for task, result in deferred.items()} == {
            task: of(result) for task, result in in_the_worker.items()
        }


def test_the_sensor_waits_in_the_triggerer_only_if_deferrable(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "arroyo_submit_watch_stop"
    for one in (dag_id, in_worker(dag_id)):
        finished(airflow, runs, one)
    assert was_deferred(airflow, dag_id, runs[dag_id], "watch")
    assert not was_deferred(airflow, in_worker(dag_id), runs[in_worker(dag_id)], "watch")


def test_each_operator_returns_its_result(airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs) -> None:
    dag_id = "arroyo_submit_watch_stop"
    finished(airflow, runs, dag_id)
    by_task = results(airflow, dag_id, runs[dag_id])
    assert {task: one["state"] for task, one in by_task.items()} == {
        "submit": "Running",
        "watch": "Running",
        "stop": "Stopped",
    }
    for one in by_task.values():
        assert set(one) >= RESULT
        assert one["pipeline_id"] == by_task["submit"]["pipeline_id"]
        assert one["pipeline_name"] == "orders_per_minute"
        assert one["console_url"] == f"{arroyo.url}/pipelines/{one['pipeline_id']}"
    assert by_task["stop"]["checkpoint"]["epoch"] >= 1
    assert arroyo.pipeline_state(by_task["submit"]["pipeline_id"]) == "Stopped"


def test_a_backfill_ends_with_its_pipeline(airflow: LocalAirflow, arroyo: SandboxServer, runs: Runs) -> None:
    dag_id = "arroyo_bounded_backfill"
    finished(airflow, runs, dag_id)
    result = airflow.xcom(dag_id, runs[dag_id], "backfill")
    assert result["finished"] is True
    assert arroyo.pipeline_state(result["pipeline_id"]) == "Finished"
    query = arroyo.call("GET", f"/api/v1/pipelines/{result['pipeline_id']}")["query"]
    assert "message_count = '200'" in query


def test_an_operator_defers_too(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "e2e_submit_defers"
    succeeded(airflow, runs, dag_id)
    assert was_deferred(airflow, dag_id, runs[dag_id], "submit")
    result = airflow.xcom(dag_id, runs[dag_id], "submit")
    assert result["state"] == "Running"
    assert result["action"] == "created"


def test_the_metrics_of_a_deferred_task_arrive_once(
    airflow: LocalAirflow, statsd: StatsdServer, runs: Runs
) -> None:
    finished(airflow, runs, "e2e_submit_defers")
    tags = ("operator=ArroyoSubmitPipelineOperator", "connection=arroyo_deferred")
    found = [one for one in statsd.take() if one.tags == tags]
    assert sorted(one.name for one in found) == [
        "arroyo.polls",
        "arroyo.time_to_running",
        "arroyo.waits.reached",
    ]
    sent = {one.name: one.value for one in found}
    # These include the triggerer's polls of at least 8 seconds.
    assert sent["arroyo.polls"] > 10
    assert sent["arroyo.waits.reached"] == 1
    assert 0 < sent["arroyo.time_to_running"] < RUN_TIMEOUT_SECONDS * 1000


def test_a_sensor_ends_in_the_triggerer(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id, run_id = "e2e_ends_in_triggerer", runs["e2e_ends_in_triggerer"]
    succeeded(airflow, runs, dag_id)
    assert was_deferred(airflow, dag_id, run_id, "watch")
    result = airflow.xcom(dag_id, run_id, "watch")
    assert set(result) >= RESULT
    assert (result["state"], result["pipeline_name"]) == ("Running", "ends_in_triggerer")
    # No worker resumed it.
    assert "The task resumes in" not in airflow.task_log(dag_id, run_id, "watch")


def test_refused_sql_fails_without_a_retry(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = "e2e_bad_sql"
    assert finished(airflow, runs, dag_id) == "failed"
    task = airflow.task_instance(dag_id, runs[dag_id], "submit")
    assert task["state"] == "failed"
    assert task["max_tries"] == 2
    assert task["try_number"] == 1
    assert "table 'nowhere' not found" in airflow.task_log(dag_id, runs[dag_id], "submit")


@pytest.mark.parametrize(
    "dag_id,domain,reason,deferred",
    [
        ("e2e_fails_at_once", "user", "failed to open file '/nonexistent/input.json'", False),
        ("e2e_fails_later", FAILS_LATER["domain"], FAILS_LATER["error"], True),
    ],
)
def test_a_failed_pipeline_shows_the_reason(
    airflow: LocalAirflow, runs: Runs, dag_id: str, domain: str, reason: str, deferred: bool
) -> None:
    assert finished(airflow, runs, dag_id) == "failed"
    assert was_deferred(airflow, dag_id, runs[dag_id], "submit") is deferred
    log = airflow.task_log(dag_id, runs[dag_id], "submit")
    assert re.search(rf"Arroyo's reason \(domain: {domain}\): [^\n]*{re.escape(reason)}", log)


def test_a_task_log_shows_each_change_once(airflow: LocalAirflow, runs: Runs) -> None:
    dag_id = in_worker("arroyo_submit_watch_stop")
    finished(airflow, runs, dag_id)
    log = airflow.task_log(dag_id, runs[dag_id], "submit")
    # "Scheduling → Running after 0.30 s: orders_per_minute (run 1)"; of the first poll, the state alone.
    states = re.findall(r'"event": "(?:\w+ → )?(\w+)(?: after [^:]+)?: orders_per_minute \(run', log)
    assert states[-1] == "Running"
    assert len(states) == len(set(states))


def test_the_connection_form_has_our_fields(airflow: LocalAirflow) -> None:
    forms = {form["connection_type"]: form for form in airflow.call("GET", "/ui/connections/hook_meta")}
    form = forms["arroyo"]
    assert form["hook_name"] == "Arroyo"
    if Version(version("apache-airflow")) < Version("3.2"):
        pytest.skip("before 3.2, Airflow asks for the fields by a library that is not installed here")
    assert {"base_path", "verify", "headers", "read_timeout"} <= set(form["extra_fields"])
    assert form["standard_fields"]["password"]["title"] == "API key"


def test_the_connection_test_button_accepts_only_arroyo(airflow: LocalAirflow, arroyo: SandboxServer) -> None:
    def press_test(url: str) -> Any:
        body = {"connection_id": "tested", "conn_type": "arroyo", "host": url}
        return airflow.call("POST", "/api/v2/connections/test", body)

    assert press_test(arroyo.url)["status"] is True
    # Airflow responds at this address, and it is not Arroyo.
    assert press_test(airflow.url)["status"] is False


# Last, after everything that could block the event loop.
@pytest.mark.skipif(bool(EXECUTOR), reason="the triggerers of these executors have no higher priority")
def test_no_event_loop_was_blocked(airflow: LocalAirflow, bystander: Path, runs: Runs) -> None:
    """A triggerer's loop is never blocked, except when the machine was so busy that an idle loop was delayed, too."""
    from airflow.jobs import triggerer_job_runner

    assert BLOCKED in inspect.getsource(triggerer_job_runner), "Airflow has changed the text of its warning"
    for dag_id in runs:
        finished(airflow, runs, dag_id)
    logs = [path for path in airflow.home.rglob("*") if path.is_file() and ".log" in path.name]
    assert {"standalone.log", "triggerer.log"} <= {path.name for path in logs}
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines()]
    busy = [float(line.split()[0]) for line in bystander.read_text().splitlines()]
    blocked = re.compile(re.escape(BLOCKED).replace("%\\.2f", r"([\d.]+)"))
    assert not [
        line
        for line in lines
        if (found := blocked.search(line))
        and float(found[1]) >= BLOCKED_SECONDS
        and not any(abs(at - time_of(line)) < 3 for at in busy)
    ]


def time_of(line: str) -> float:
    """Return the time of a log line, in seconds since the epoch."""
    # Airflow 3.0 writes no time zone.
    found = re.search(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?", line)
    assert found
    return datetime.fromisoformat(found[0]).timestamp()
