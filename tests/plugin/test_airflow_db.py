"""What the pages read from Airflow's database, with a real SQLite database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import create_engine, event, insert, select
from sqlalchemy.orm import Session, sessionmaker

from airflow_provider_arroyo.links import TRANSITIONS_XCOM_KEY
from airflow_provider_arroyo.monitoring.result import MAX_TRANSITIONS
from airflow_provider_arroyo.plugin import airflow_db
from airflow_provider_arroyo.plugin.airflow_db import MAX_TASKS, TaskInstanceKey

# Tables refer to each other by name.
import_all_models()  # type: ignore[no-untyped-call]  # Airflow gives it no types

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CONN = "arroyo_default"


TABLES: tuple[Any, ...] = (DagModel, DagRun, Log, RenderedTaskInstanceFields, TaskInstance, XComModel)


class Database:
    """Airflow's tables, and what tasks wrote into them."""

    def __init__(self, folder: Path) -> None:
        self.engine = create_engine(f"sqlite:///{folder / 'airflow.db'}")
        event.listen(self.engine, "connect", lambda conn, _: conn.execute("PRAGMA synchronous = OFF"))
        Base.metadata.create_all(self.engine, tables=[one.__table__ for one in TABLES])
        self.make_session = sessionmaker(self.engine)
        self.statements: list[str] = []
        self.runs: dict[tuple[str, str], int] = {}
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    def session(self) -> AbstractContextManager[Session]:
        return self.make_session.begin()

    def add(self, model: Any, **values: Any) -> None:
        known = {one.name for one in model.__table__.columns}
        with self.session() as session:
            session.execute(insert(model).values(**{k: v for k, v in values.items() if k in known}))

    def task(
        self, dag_id: str, run_id: str = "r1", task_id: str = "submit", map_index: int = -1, **values: Any
    ) -> dict[str, Any]:
        """Add a task instance; return its key."""
        key = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        self.add(
            TaskInstance,
            **key,
            **{"state": "success", "operator": "Submit", "pool": "p", "pool_slots": 1, **values},
        )
        return key

    def xcom(self, key: dict[str, Any], name: str, value: Any) -> None:
        run_number = self.runs.setdefault((key["dag_id"], key["run_id"]), len(self.runs))
        self.add(XComModel, **key, key=name, value=value, dag_run_id=run_number, timestamp=T0)

    def rendered(self, key: dict[str, Any], **fields: Any) -> None:
        self.add(RenderedTaskInstanceFields, **key, rendered_fields=fields)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    found = Database(tmp_path)
    monkeypatch.setattr(airflow_db, "create_session", found.session)
    yield found
    found.engine.dispose()


def touched(
    pipeline_id: str = "pl_1",
    owner: dict[str, Any] | None = None,
    may_read: Callable[[str], bool] = lambda _dag_id: True,
    readable: Callable[[], set[str]] = set,
) -> dict[str, Any]:
    return airflow_db.tasks_of_pipeline(
        pipeline_id, connection_id=CONN, owner=owner, readable=readable, may_read=may_read
    )


def names(found: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    return [(one["dag_id"], one["run_id"], one["task_id"], one["map_index"]) for one in found["tasks"]]


def owner(dag: str = "shop", run: str = "r1", task: str = "submit", **fields: Any) -> dict[str, Any]:
    return {"dag": dag, "run": run, "task": task, "map_index": -1, "deployment": None, **fields}


@pytest.mark.parametrize("stored", ["pl_1", json.dumps("pl_1")], ids=["as JSON", "as JSON text in JSON"])
def test_tasks_with_an_xcom_of_the_id_are_found_with_their_states(database: Database, stored: str) -> None:
    key = database.task("shop", state="failed", start_date=T0, end_date=T0 + timedelta(seconds=5))
    database.xcom(key, "pipeline_id", stored)
    database.xcom(key, TRANSITIONS_XCOM_KEY, [{"state": "Running"}] * 99)
    for other in ("pl_10", "xpl_1", "PL_1", "pl%1", None, 7, {"pl_1": "pl_1"}, ["pl_1"]):
        database.xcom(database.task("shop", task_id=f"other-{other}"), "pipeline_id", other)
    database.xcom(database.task("shop", task_id="under another key"), "return_value", "pl_1")
    (task,) = touched()["tasks"]
    assert task == {
        **key,
        "operator": "Submit",
        "state": "failed",
        "start": T0.timestamp(),
        "end": T0.timestamp() + 5,
        "via": "xcom",
        "transitions": [{"state": "Running"}] * MAX_TRANSITIONS,
    }


@pytest.mark.parametrize("pipeline_id", ['a"b', "a\\b", "a%b_c/d", "äé☃", "a\nb", "x" * 300])
def test_ids_of_any_text_are_found(database: Database, pipeline_id: str) -> None:
    for number, stored in enumerate((pipeline_id, json.dumps(pipeline_id))):
        database.xcom(database.task("shop", task_id=f"t{number}"), "pipeline_id", stored)
    assert len(touched(pipeline_id)["tasks"]) == 2


@pytest.mark.parametrize("pipeline_id", ["a\0b", "a\ud800b"])
def test_ids_that_no_database_can_store_belong_to_no_task(database: Database, pipeline_id: str) -> None:
    assert touched(pipeline_id) == {"tasks": [], "more": False}


def test_the_owner_is_found_once_even_without_an_xcom(database: Database) -> None:
    key = database.task("shop", state="running", start_date=T0)
    assert [one["via"] for one in touched(owner=owner())["tasks"]] == ["owner"]
    database.xcom(key, "pipeline_id", "pl_1")
    assert [one["via"] for one in touched(owner=owner())["tasks"]] == ["owner"]
    assert touched(owner=owner(run="cleared long ago"))["tasks"][0]["via"] == "xcom"
    assert touched("pl_2", owner=owner(dag="gone"))["tasks"] == []


def test_a_task_on_another_connection_is_left_out(database: Database) -> None:
    for number, fields in enumerate(
        [{"arroyo_conn_id": CONN}, {"arroyo_conn_id": "staging"}, {"sql": "SELECT 1"}, None]
    ):
        key = database.task("shop", task_id=f"t{number}")
        database.xcom(key, "pipeline_id", "pl_1")
        if fields is not None:
            database.rendered(key, **fields)
    assert sorted(one[2] for one in names(touched())) == ["t0", "t2", "t3"]


def test_only_dags_that_the_user_may_read_are_shown(database: Database) -> None:
    for dag_id in ("shop", "secret"):
        database.xcom(database.task(dag_id), "pipeline_id", "pl_1")
    asked: list[str] = []

    def may_read(dag_id: str) -> bool:
        asked.append(dag_id)
        return dag_id == "shop"

    assert names(touched(owner=owner(dag="secret"), may_read=may_read)) == [("shop", "r1", "submit", -1)]
    assert asked == ["secret", "shop"]
    assert touched(may_read=lambda _: False) == {"tasks": [], "more": False}


def crowd(database: Database, dags: int) -> None:
    """Let one task of each of that many DAGs touch the pipeline."""
    with database.session() as session:
        keys = [
            {"dag_id": f"dag-{number:03}", "run_id": "r1", "task_id": "submit", "map_index": -1}
            for number in range(dags)
        ]
        session.execute(
            insert(TaskInstance),
            [{**key, "state": "success", "pool": "p", "pool_slots": 1, "start_date": T0} for key in keys],
        )
        session.execute(
            insert(XComModel),
            [
                {**key, "key": "pipeline_id", "value": "pl_1", "dag_run_id": number, "timestamp": T0}
                for number, key in enumerate(keys)
            ],
        )


@pytest.mark.parametrize("dags", [150, 250, 1000])
@pytest.mark.parametrize("wanted", ["dag-000", "dag-100"])
def test_many_unreadable_dags_do_not_hide_a_readable_one(database: Database, dags: int, wanted: str) -> None:
    crowd(database, dags)
    asked: list[str] = []

    def may_read(dag_id: str) -> bool:
        asked.append(dag_id)
        return dag_id == wanted

    found = touched(may_read=may_read, readable=lambda: {wanted, "unrelated"})
    assert (names(found), found["more"]) == ([(wanted, "r1", "submit", -1)], False)
    assert len(asked) <= 200


def test_the_readable_dags_that_touched_it_last_are_shown(database: Database) -> None:
    crowd(database, 300)
    asked: list[str] = []

    def may_read(dag_id: str) -> bool:
        asked.append(dag_id)
        return True

    found = touched(may_read=may_read, readable=lambda: {f"dag-{n:03}" for n in range(300)})
    assert {dag_id for dag_id, *_ in names(found)} == {f"dag-{n}" for n in range(250, 300)}
    assert (len(asked), found["more"]) == (MAX_TASKS + 1, True)
    # If the user may read DAGs but not their XComs, only a limited number is checked, and the result states it.
    found = touched(may_read=lambda _: False, readable=lambda: {f"dag-{n:03}" for n in range(300)})
    assert found == {"tasks": [], "more": True}


def test_tasks_that_have_not_started_come_first_then_the_newest(database: Database) -> None:
    for number in range(3):
        key = database.task("shop", run_id=f"r{number}", start_date=T0 + timedelta(days=number))
        database.xcom(key, "pipeline_id", "pl_1")
    database.xcom(database.task("shop", run_id="r9", state="queued"), "pipeline_id", "pl_1")
    assert [run for _, run, *_ in names(touched())] == ["r9", "r2", "r1", "r0"]


def test_the_number_of_tasks_shown_and_of_queries_is_limited(database: Database) -> None:
    for number in range(3 * MAX_TASKS):
        key = database.task(
            "shop", task_id="mapped", map_index=number, start_date=T0 + timedelta(hours=number)
        )
        database.xcom(key, "pipeline_id", "pl_1")
    del database.statements[:]
    found = touched(owner=owner())
    assert (len(found["tasks"]), found["more"]) == (MAX_TASKS, True)
    assert len(database.statements) <= 6
    assert all("LIMIT" in one or " IN " in one or "task_id =" in one for one in database.statements)


def test_longer_ids_do_not_displace_an_exact_match(database: Database) -> None:
    database.xcom(database.task("shop", run_id="r0"), "pipeline_id", "pl_1")
    for number in range(2 * MAX_TASKS + 1):
        database.xcom(database.task("shop", run_id=f"x{number}"), "pipeline_id", f"pl_1{number}")
    found = touched()
    assert (names(found), found["more"]) == ([("shop", "r0", "submit", -1)], False)


def test_the_index_on_the_key_is_used(database: Database) -> None:
    touched()
    with database.session() as session:
        plan = session.connection().exec_driver_sql(
            f"EXPLAIN QUERY PLAN {database.statements[0]}", ("pipeline_id", "pl/_1", "pl/_1", 5000, 0)
        )
        assert "idx_xcom_key" in str(plan.all())


def test_the_pipeline_of_a_task_is_read_from_its_xcoms(database: Database) -> None:
    key = database.task("shop", state="deferred")
    database.xcom(key, "return_value", {"pipeline_id": "pl_9", "pipeline_name": "orders"})
    database.xcom(key, TRANSITIONS_XCOM_KEY, "not a list")
    assert airflow_db.pipeline_of_task(TaskInstanceKey(**key)) == {
        "connection_id": CONN,
        "pipeline_id": "pl_9",
        "pipeline_name": "orders",
        "transitions": [],
        "state": "deferred",
    }
    database.xcom(key, "pipeline_id", json.dumps("pl_1"))
    database.rendered(key, arroyo_conn_id="staging")
    found = airflow_db.pipeline_of_task(TaskInstanceKey(**key))
    assert (found["pipeline_id"], found["connection_id"]) == ("pl_1", "staging")


def test_a_task_without_a_pipeline_has_no_link(database: Database) -> None:
    found = airflow_db.pipeline_of_task(TaskInstanceKey("shop", "r1", "t", -1))
    assert (found["pipeline_id"], found["pipeline_name"], found["state"]) == (None, None, None)


def test_missing_parts_of_an_owner(database: Database) -> None:
    for dag_id, is_stale in (("shop", False), ("old", True)):
        database.add(
            DagModel,
            dag_id=dag_id,
            is_stale=is_stale,
            bundle_name="b",
            max_active_tasks=1,
            max_consecutive_failed_dag_runs=0,
            has_task_concurrency_limits=False,
        )
    database.add(
        DagRun,
        dag_id="shop",
        run_id="r1",
        state="success",
        run_type="manual",
        run_after=T0,
        log_template_id=1,
    )
    database.task("shop")
    deployment = {"group": "g", "name": "n", "generation": 1}
    owners = [
        owner(),
        owner(task="renamed"),
        owner(run="purged"),
        owner(run="purged", deployment=deployment),
        owner(dag="old"),
        owner(dag="unknown"),
    ]
    assert airflow_db.missing_owners(owners) == [None, "task", "run", None, "dag", "dag"]
    assert airflow_db.missing_owners([]) == []
    many = [owner(run=f"r{number}") for number in range(1200)]
    assert airflow_db.missing_owners(many).count("run") == 1199


def test_the_audit_log_names_the_user_the_action_and_the_owner(database: Database) -> None:
    airflow_db.write_audit_log(
        "arroyo.stop" * 10, user_name="jane", owner=owner(), extra={"arroyo_response": "accepted"}
    )
    airflow_db.write_audit_log("arroyo.stop", user_name="jane", owner=None, extra={})
    with database.session() as session:
        first, second = session.execute(
            select(Log.event, Log.owner, Log.dag_id, Log.run_id, Log.task_id, Log.map_index, Log.extra)
        ).all()
    assert first == (
        ("arroyo.stop" * 10)[:60],
        "jane",
        "shop",
        "r1",
        "submit",
        -1,
        '{"arroyo_response": "accepted"}',
    )
    assert second == ("arroyo.stop", "jane", None, None, None, None, "{}")
