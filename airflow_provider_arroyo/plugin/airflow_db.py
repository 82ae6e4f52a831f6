"""What Airflow's database holds for the pages: a task instance's pipeline, which owners are gone, the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_arroyo.hooks.arroyo import DEFAULT_CONN_ID
from airflow_provider_arroyo.monitoring.transitions import MAX_TRANSITIONS, TRANSITIONS_XCOM_KEY

_KEYS = ("return_value", "pipeline_id", "pipeline_name", TRANSITIONS_XCOM_KEY)
_MAX_EVENT = 60
_MAX_IN = 500
"""How many values a query may compare with; some databases bound it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstanceKey:
    """Which task instance.

    :param map_index: -1 where the task is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def pipeline_of_task(key: TaskInstanceKey) -> dict[str, Any]:
    """Return what a task instance left about its pipeline.

    :returns: ``connection_id``, ``pipeline_id`` and ``pipeline_name`` (None where it has none), ``transitions``
        (as the task pushed them), and ``state`` of the task instance.
    """
    of_task = {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id, "map_index": key.map_index}
    with create_session() as session:
        values = {
            name: _plain(value)
            for name, value in session.execute(
                select(XComModel.key, XComModel.value).filter_by(**of_task).where(XComModel.key.in_(_KEYS))
            )
        }
        fields = session.scalar(select(RenderedTaskInstanceFields.rendered_fields).filter_by(**of_task))
        state = session.scalar(select(TaskInstance.state).filter_by(**of_task))
    result = values.get("return_value")
    result = result if isinstance(result, Mapping) else {}
    connection = fields.get("arroyo_conn_id") if isinstance(fields, Mapping) else None
    transitions = values.get(TRANSITIONS_XCOM_KEY)
    return {
        "connection_id": connection if isinstance(connection, str) and connection else DEFAULT_CONN_ID,
        "pipeline_id": _text(values.get("pipeline_id")) or _text(result.get("pipeline_id")),
        "pipeline_name": _text(values.get("pipeline_name")) or _text(result.get("pipeline_name")),
        "transitions": transitions[-MAX_TRANSITIONS:] if isinstance(transitions, list) else [],
        "state": state,
    }


def _plain(value: Any) -> Any:
    """Return an XCom value; one that is stored as JSON text is read."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def missing_owners(owners: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return for each owner what of it is gone from Airflow: ``dag``, ``run``, ``task`` or None.

    :param owners: each with ``dag``, ``run``, ``task`` and ``deployment``; a deployment outlives the run that made
        it, so it misses only its DAG.
    """
    dag_ids = {owner["dag"] for owner in owners}
    with create_session() as session:
        dags: set[str] = set()
        runs: set[tuple[str, str]] = set()
        tasks: set[tuple[str, str, str]] = set()
        for part in _parts(sorted(dag_ids)):
            dags |= set(
                session.scalars(
                    select(DagModel.dag_id).where(DagModel.dag_id.in_(part), ~DagModel.is_stale)
                ).all()
            )
        for part in _parts(sorted({owner["run"] for owner in owners})):
            of_runs = select(DagRun.dag_id, DagRun.run_id).where(DagRun.run_id.in_(part))
            runs |= {(dag_id, run_id) for dag_id, run_id in session.execute(of_runs)}
            of_tasks = select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id).where(
                TaskInstance.run_id.in_(part), TaskInstance.dag_id.in_(dag_ids)
            )
            tasks |= {(dag_id, run_id, task_id) for dag_id, run_id, task_id in session.execute(of_tasks)}
    found: list[str | None] = []
    for owner in owners:
        dag, run, task = owner["dag"], owner["run"], owner["task"]
        if dag not in dags:
            found.append("dag")
        elif owner.get("deployment"):
            found.append(None)
        elif (dag, run) not in runs:
            found.append("run")
        else:
            found.append(None if (dag, run, task) in tasks else "task")
    return found


def _parts(values: list[str]) -> Iterable[list[str]]:
    return (values[start : start + _MAX_IN] for start in range(0, len(values), _MAX_IN))


def write_audit_log(
    event: str, *, user_name: str, owner: Mapping[str, Any] | None, extra: Mapping[str, Any]
) -> None:
    """Write one row into Airflow's audit log.

    :param event: what was done, such as ``arroyo.stop``.
    :param user_name: who did it.
    :param owner: whose pipeline it was; the row then belongs to that task instance.
    :param extra: what it was done to, and the outcome.
    """
    task = {}
    if owner:
        task = {
            "dag_id": owner["dag"],
            "run_id": owner["run"],
            "task_id": owner["task"],
            "map_index": owner["map_index"],
        }
    with create_session() as session:
        session.add(
            Log(
                event[:_MAX_EVENT],
                owner=user_name,
                owner_display_name=user_name,
                extra=json.dumps(extra),
                **task,
            )
        )
