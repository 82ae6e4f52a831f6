"""What the operators report to OpenLineage through Airflow's provider for it, and the resulting events."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow.providers.openlineage")

from airflow.providers.openlineage.extractors import ExtractorManager
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.providers.openlineage.plugins.listener import get_openlineage_listener
from airflow.providers.openlineage.utils.utils import TaskInfoComplete
from airflow.utils.state import TaskInstanceState
from openlineage.client import OpenLineageClient
from openlineage.client.transport.file import FileConfig, FileTransport

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoDeployPipelineOperator,
    ArroyoPreviewQueryOperator,
    ArroyoPrunePipelinesOperator,
    ArroyoRestartPipelineOperator,
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from tests import canaries
from tests.openlineage import events
from tests.support import ENDLESS
from tests.tasks.conftest import Arrange
from tests.tasks.harness import FakeTaskInstance, context, defer, fire
from tests.tasks.test_decorators import made

SECRETS = ("hunter2secret", "tok3n-value", "s3cr3t-login", "Xq7TzPa9LmWe4RvK")
SQL = """\
CREATE TABLE orders (id BIGINT, at TIMESTAMP NOT NULL) WITH (connector = 'kafka', type = 'source', format = 'json',
  topic = 'orders', bootstrap_servers = 'broker:9092', 'auth.type' = 'sasl', 'auth.protocol' = 'SASL_SSL',
  'auth.mechanism' = 'PLAIN', 'auth.username' = 'me', 'auth.password' = 'hunter2secret');
CREATE TABLE hook (id BIGINT) WITH (connector = 'webhook', format = 'json',
  endpoint = 'https://s3cr3t-login@hooks.example.com/orders/Xq7TzPa9LmWe4RvK?token=tok3n-value');
CREATE VIEW large AS SELECT id FROM orders;
INSERT INTO hook SELECT id FROM large;"""
INPUT, OUTPUT = ("kafka://broker:9092", "orders"), ("https://hooks.example.com", "/orders/***")


@dataclass
class TaskInstance(FakeTaskInstance):
    """The part of a task instance that Airflow's OpenLineage provider uses, besides what tasks use."""

    start_date: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    dag_run: Any = field(
        default_factory=lambda: SimpleNamespace(
            logical_date=datetime(2026, 1, 1, tzinfo=UTC), conf={}, clear_number=0, run_id="a_run"
        )
    )

    def get_template_context(self) -> dict[str, Any]:
        return {"dag_run": self.dag_run}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file to which Airflow's listener emits events."""
    path = tmp_path / "events.jsonl"
    # Without a transport, OpenLineage is disabled.
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps({"type": "console"}))
    transport = FileTransport(FileConfig(log_file_path=str(path), append=True))
    adapter = OpenLineageAdapter(client=OpenLineageClient(transport=transport))
    monkeypatch.setattr(get_openlineage_listener(), "adapter", adapter)
    # However slow the machine is, nothing is left out.
    monkeypatch.setattr("airflow_provider_arroyo.openlineage.events.EMIT_SECONDS", 60.0)
    monkeypatch.setattr("airflow_provider_arroyo.openlineage.facts.LOOK_UP_SECONDS", 60.0)
    return path


def submit(query: str = SQL, **more: Any) -> Any:
    given = {"pipeline_name": "orders", "query": query, "stable_for": 0.2, "timeout": 20, **more}
    return ArroyoSubmitPipelineOperator(task_id="a_task", **given)


def deploy(query: str = SQL, **more: Any) -> Any:
    given = {"checkpoint_interval": 1, "stable_for": 0.2, "timeout": 20, "allow_state_loss": True, **more}
    return ArroyoDeployPipelineOperator(
        task_id="a_task", **{"pipeline_name": "orders", "query": query, **given}
    )


def completed(operator: Any, ti: TaskInstance | None = None) -> Any:
    """Run a task, and return its lineage."""
    ti = ti or TaskInstance()
    operator.execute(context(ti))
    return operator.get_openlineage_facets_on_complete(ti)


def names(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(one.namespace, one.name) for one in datasets]


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_the_lineage_of_a_submit(sandbox: ArroyoSandbox, file: Path) -> None:
    operator = submit()
    begun = operator.get_openlineage_facets_on_start()
    assert (names(begun.inputs), names(begun.outputs)) == ([INPUT], [OUTPUT])
    assert begun.run_facets == {}
    ended = completed(operator)
    assert (names(ended.inputs), names(ended.outputs)) == ([INPUT], [OUTPUT])
    columns = [(one.name, one.type) for one in ended.inputs[0].facets["schema"].fields]
    assert columns == [("id", "BIGINT"), ("at", "TIMESTAMP")]
    assert ended.job_facets["jobType"].processingType == "STREAMING"
    assert "'auth.password' = '***'" in ended.job_facets["sql"].query
    found = ended.run_facets["arroyo_pipeline"]
    assert (found.pipelineName, found.runId, found.state, found.action) == ("orders", 1, "Running", "created")
    (event,) = events.read(file)
    assert events.kinds([event]) == [("START", "orders")]
    assert event["job"]["namespace"] == sandbox.url.replace("http", "arroyo")
    assert event["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
    assert event["inputs"][0]["name"] == "orders"
    assert event["run"]["facets"]["parent"]["job"]["name"] == "a_dag.a_task"
    shown = f"{begun}{ended}{file.read_text()}"
    assert not [one for one in SECRETS if one in shown]


def test_no_secret_is_reported(sandbox: ArroyoSandbox, file: Path) -> None:
    operator = submit(canaries.SQL)
    begun, ended = operator.get_openlineage_facets_on_start(), completed(operator)
    shown = f"{begun}{ended}{file.read_text()}"
    assert "'auth.password' = '***'" in shown
    assert not canaries.leaked(shown)


ROWS = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10'); SELECT counter AS seen FROM impulse"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ArroyoPreviewQueryOperator(task_id="a_task", query=ROWS, max_rows=1, timeout=20),
        lambda: submit(ENDLESS),
        lambda: ArroyoPipelineSensor(task_id="a_task", pipeline_id="pl_1", if_missing="fail", timeout=20),
    ],
)
def test_the_full_info_of_a_task_has_neither_its_result_nor_its_context(
    sandbox: ArroyoSandbox, make: Any
) -> None:
    task, result = make(), None
    with suppress(ArroyoTaskError):
        result = task.execute({**context(), "params": {"a": "only in the context"}})
    # With [openlineage] include_full_task_info, Airflow shows every attribute of a task.
    shown = str(TaskInfoComplete(task))
    assert "only in the context" not in shown
    assert result is None or str(result) not in shown
    assert "'seen'" not in shown


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_one_run_from_submit_to_deletion(sandbox: ArroyoSandbox, file: Path) -> None:
    ti = TaskInstance()
    created = submit().execute(context(ti))["pipeline_id"]
    which: dict[str, Any] = {"task_id": "a_task", "pipeline_id": created, "timeout": 20}
    stop = ArroyoStopPipelineOperator(**which)
    stopped = completed(stop)
    assert "auth.password" not in str(TaskInfoComplete(stop))
    assert (names(stopped.inputs), names(stopped.outputs)) == ([INPUT], [OUTPUT])
    # On 0.15, the server's SQL contains a label.
    assert stopped.job_facets["sql"].query.startswith("CREATE TABLE orders")
    assert stopped.run_facets["arroyo_pipeline"].checkpointEpoch > 0
    completed(ArroyoRestartPipelineOperator(stable_for=0.2, **which))
    completed(ArroyoUpdatePipelineOperator(parallelism=2, stable_for=0.2, **which))
    deleted = completed(ArroyoDeletePipelineOperator(**which))
    assert names(deleted.inputs) == [INPUT]
    emitted = events.read(file)
    assert [kind for kind, _ in events.kinds(emitted)] == ["COMPLETE", "RUNNING", "RUNNING", "COMPLETE"]
    assert len({event["run"]["runId"] for event in emitted}) == 1


@pytest.mark.parametrize(
    "kind, asks, event_type",
    [
        (ArroyoSubmitPipelineOperator, 0, "START"),
        (ArroyoRestartPipelineOperator, 1, "RUNNING"),
        (ArroyoStopPipelineOperator, 1, "COMPLETE"),
    ],
)
def test_the_lineage_of_a_task_that_is_resumed_in_another_process(
    sandbox: ArroyoSandbox, arrange: Arrange, file: Path, kind: Any, asks: int, event_type: str
) -> None:
    given: dict[str, Any] = {"pipeline_name": "orders", "query": SQL, "stable_for": 1}
    if kind is not ArroyoSubmitPipelineOperator:
        given = {"pipeline_id": arrange.pipeline("Running", query=SQL)}
    if kind is ArroyoRestartPipelineOperator:
        given["stable_for"] = 1
    elif kind is ArroyoStopPipelineOperator:
        # In progress until it is released, however slow the machine is.
        sandbox.faults.show_state(given["pipeline_id"], "Hibernating")

    def task() -> Any:
        return kind(task_id="a_task", deferrable=True, defer_after=0, timeout=30, **given)

    ti = TaskInstance()
    trigger = defer(task(), ti)
    sandbox.faults.release()
    (event,) = asyncio.run(fire(trigger))
    resumed = task()
    which = resumed.execute_complete(context(ti), event=event)["pipeline_id"]
    asked = sandbox.requests.count("GET", f"*/pipelines/{which}")
    lineage = resumed.get_openlineage_facets_on_complete(ti)
    assert (names(lineage.inputs), names(lineage.outputs)) == ([INPUT], [OUTPUT])
    assert sandbox.requests.count("GET", f"*/pipelines/{which}") == asked + asks
    assert events.kinds(events.read(file)) == [(event_type, "orders")]


TABLE: dict[str, Any] = {
    "name": "customers",
    "connector": "kafka",
    "config": {"topic": "customers", "type": {"offset": "latest"}},
}
FIELDS = [{"name": "name", "type": "string", "required": True, "sql_name": "TEXT"}]


def test_the_lineage_of_connection_tables_and_profiles(
    sandbox: ArroyoSandbox, client: ArroyoClient, file: Path
) -> None:
    config = {"bootstrapServers": "shared:9092", "authentication": {"password": "hunter2secret"}}
    profile = client.create_connection_profile(name="shared", connector="kafka", config=config)
    schema = {"format": {"json": {}}, "fields": FIELDS}
    client.create_connection_table(**TABLE, connection_profile_id=profile.id, schema=schema)
    query = (
        "CREATE TABLE out (name TEXT) WITH (connector = 'kafka', type = 'sink', format = 'json', topic = 'out', "
        "connection_profile = 'shared'); INSERT INTO out SELECT name FROM customers;"
    )
    operator = submit(query)
    assert names(operator.get_openlineage_facets_on_start().inputs) == []
    lineage = completed(operator)
    assert names(lineage.inputs) == [("kafka://shared:9092", "customers")]
    assert [(one.name, one.type) for one in lineage.inputs[0].facets["schema"].fields] == [("name", "TEXT")]
    assert names(lineage.outputs) == [("kafka://shared:9092", "out")]
    assert "hunter2secret" not in f"{lineage}{file.read_text()}"


def test_a_hanging_server_delays_a_task_for_seconds_at_most(
    sandbox: ArroyoSandbox, client: ArroyoClient, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = client.create_connection_profile(name="shared", connector="kafka", config={})
    schema = {"format": {"json": {}}, "fields": FIELDS}
    client.create_connection_table(**TABLE, connection_profile_id=profile.id, schema=schema)
    operator, ti = submit("SELECT name FROM customers"), TaskInstance()
    operator.execute(context(ti))
    sandbox.faults.hang(path="*/connection_tables", times=None)
    monkeypatch.setattr("airflow_provider_arroyo.openlineage.facts.LOOK_UP_SECONDS", 2.0)
    began = time.monotonic()
    lineage = operator.get_openlineage_facets_on_complete(ti)
    # The read timeout is 30 seconds.
    assert time.monotonic() - began < 20
    assert lineage.inputs == []
    assert "sql" in lineage.job_facets


def test_the_lineage_of_a_failed_pipeline(sandbox: ArroyoSandbox, file: Path) -> None:
    sandbox.faults.fail("orders", error="topic is gone", domain="external")
    operator, ti = submit(), TaskInstance()
    with pytest.raises(Exception, match="topic is gone"):
        operator.execute(context(ti))
    lineage = operator.get_openlineage_facets_on_failure(ti)
    assert names(lineage.inputs) == [INPUT]
    assert "topic is gone" in lineage.run_facets["errorMessage"].message
    assert lineage.run_facets["arroyo_pipeline"].state in ("Failing", "Failed")
    (event,) = events.read(file)
    assert events.kinds([event]) == [("FAIL", "orders")]
    assert event["run"]["facets"]["errorMessage"]["message"] == "topic is gone"


@pytest.mark.parametrize("state", ["Failed", "Stopped", None])
def test_a_deleted_pipeline_is_complete_however_it_ended(
    arrange: Arrange, file: Path, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    pipeline_id = arrange.pipeline("Running")
    if state == "Failed":
        arrange.sandbox.faults.fail("orders", after=0)
        arrange.until(pipeline_id, "Failed")
    elif state is None:
        # A pipeline without a job, such as one that was created only in part.
        monkeypatch.setattr(ArroyoClient, "get_job", lambda *_: None)
        monkeypatch.setattr(ArroyoClient, "delete_pipeline", lambda *_: None)
    deleted = completed(ArroyoDeletePipelineOperator(task_id="a_task", pipeline_id=pipeline_id))
    assert deleted.run_facets["arroyo_pipeline"].state == state
    (event,) = events.read(file)
    assert events.kinds([event]) == [("COMPLETE", "orders")]
    assert "errorMessage" not in event["run"]["facets"]


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_the_lineage_of_a_deployment_and_its_generations(sandbox: ArroyoSandbox, file: Path) -> None:
    completed(deploy())
    completed(deploy())
    second = SQL.replace("'orders', b", "'orders_v2', b")
    completed(deploy(second, dry_run=True))
    lineage = completed(deploy(second))
    found = lineage.run_facets["arroyo_pipeline"]
    assert (found.group, found.generation, found.action) == ("default", 2, "replaced")
    assert names(lineage.inputs) == [("kafka://broker:9092", "orders_v2")]
    completed(deploy(pipeline_name="other"))
    completed(ArroyoPrunePipelinesOperator(task_id="a_task", keep=["orders"]))
    emitted = events.read(file)
    assert events.kinds(emitted) == [
        ("START", "orders"),
        ("RUNNING", "orders"),
        ("COMPLETE", "orders"),
        ("START", "orders"),
        ("START", "other"),
        ("COMPLETE", "other"),
    ]
    # Including replaced and pruned pipelines, about which nothing else is known.
    for event in emitted:
        assert event["job"]["facets"]["jobType"]["processingType"] == "STREAMING"
        assert event["run"]["facets"]["arroyo_pipeline"]["pipelineName"] == event["job"]["name"]
    first, same, old, new, *other = (event["run"]["runId"] for event in emitted)
    assert first == same == old != new
    assert len(set(other)) == 1


def test_the_lineage_of_a_decorated_function(sandbox: ArroyoSandbox, file: Path) -> None:
    def orders() -> str:
        return SQL

    operator = made(orders)
    assert operator.get_openlineage_facets_on_start().inputs == []
    assert names(completed(operator).inputs) == [INPUT]


def test_unreadable_sql_has_no_lineage(
    sandbox: ArroyoSandbox, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = submit("SELEC hunter2secret FROM orders")
    for reason in ("the parser does not know it", "pip install"):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "airflow_provider_arroyo"):
            lineage = operator.get_openlineage_facets_on_start()
        assert (lineage.inputs, lineage.outputs, set(lineage.job_facets)) == ([], [], {"jobType"})
        (line,) = [one for one in caplog.records if one.name.startswith("airflow_provider_arroyo")]
        assert line.levelname == "DEBUG"
        assert reason in line.getMessage()
        assert "hunter2secret" not in line.getMessage()
        # The second time, sqlglot is missing.
        monkeypatch.setitem(sys.modules, "airflow_provider_arroyo.sql.lineage", None)


def test_no_error_fails_the_task(sandbox: ArroyoSandbox, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, ti = submit(), TaskInstance()
    operator.execute(context(ti))
    # Without a task instance of Airflow, the pipeline's event has no parent.
    assert names(operator.get_openlineage_facets_on_complete(None).inputs) == [INPUT]
    assert events.read(file) == []
    monkeypatch.setattr("airflow_provider_arroyo.openlineage.report.redact_sql", lambda sql: 1 / 0)
    assert operator.get_openlineage_facets_on_complete(ti) is None


def test_the_event_that_airflow_makes_of_the_task(sandbox: ArroyoSandbox, file: Path) -> None:
    operator, ti = submit(), TaskInstance()
    operator.execute(context(ti))
    metadata = ExtractorManager().extract_metadata(
        ti.dag_run, operator, TaskInstanceState.SUCCESS, task_instance=ti
    )
    get_openlineage_listener().adapter.complete_task(
        run_id="01a22233-c155-7a37-baab-878424540cbc",
        job_name="a_dag.a_task",
        end_time="2026-01-01T00:00:00+00:00",
        task=metadata,
        nominal_start_time=None,
        nominal_end_time=None,
        owners=["me"],
        tags=["shop"],
        job_description=None,
    )
    pipeline, task = events.read(file)
    assert events.of_pipelines([pipeline, task]) == [pipeline]
    assert pipeline["inputs"] == task["inputs"]
    assert task["outputs"][0]["namespace"] == OUTPUT[0]
    # Airflow has its own facets of these names.
    assert task["job"]["facets"]["jobType"]["integration"] == "AIRFLOW"
    assert task["run"]["facets"]["arroyo_pipeline"]["pipelineName"] == "orders"


@pytest.mark.parametrize("hangs_at", [0, 1])
def test_a_hanging_backend_delays_a_task_only_up_to_its_limit(
    hangs_at: int, sandbox: ArroyoSandbox, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Airflow's own event of the task follows those about pipelines, within one limit for all."""
    monkeypatch.setattr("airflow_provider_arroyo.openlineage.events.EMIT_SECONDS", 0.3)
    ends, emitted = threading.Event(), []

    def emit(event: Any) -> None:
        emitted.append(event)
        if len(emitted) > hangs_at:
            ends.wait(60)

    monkeypatch.setattr(get_openlineage_listener().adapter, "emit", emit)
    assert completed(deploy(), TaskInstance(run_id="1")) is not None
    lineage = completed(
        deploy(SQL.replace("id BIGINT", "id INT"), until_checkpoint=False), TaskInstance(run_id="2")
    )
    ends.set()
    assert names(lineage.inputs) == [INPUT]
    assert "has not accepted the events of pipelines within 0.30 s" in caplog.text
    # The events of the second deploy: the old pipeline has ended, and the new one has started and runs.
    assert len(emitted) <= 2 + hangs_at
