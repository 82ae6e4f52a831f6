"""Data in Airflow's database for the pages: a task instance's pipeline, missing owners, the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, astuple, dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import Text, and_, cast, false, func, or_, select

from airflow_provider_arroyo.hooks.arroyo import DEFAULT_CONN_ID
from airflow_provider_arroyo.links import RESULT_XCOM_KEY, TRANSITIONS_XCOM_KEY
from airflow_provider_arroyo.monitoring.result import MAX_TRANSITIONS
from airflow_provider_arroyo.plugin.facts import is_storable
from airflow_provider_arroyo.text import visible

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

MAX_TASKS = 50
"""How many task instances are listed for a pipeline."""

_ID_KEY = "pipeline_id"
_KEYS = (RESULT_XCOM_KEY, _ID_KEY, "pipeline_name", TRANSITIONS_XCOM_KEY)
_MAX_DAGS = 5000
_MAX_CHECKED = 200
_MAX_EVENT = 60
_MAX_IN = 500
"""How many values a query may compare with; some databases limit this."""


@dataclass(frozen=True, slots=True)
class TaskInstanceKey:
    """Identifies a task instance.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param task_id: its task.
    :param map_index: -1 if the task is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def pipeline_of_task(key: TaskInstanceKey) -> dict[str, Any]:
    """Return what a task instance stored about its pipeline.

    :returns: ``connection_id``, ``pipeline_id`` and ``pipeline_name`` (None if it has none), ``transitions`` (as the
        task pushed them), and ``state`` of the task instance.
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
    result = values.get(RESULT_XCOM_KEY)
    result = result if isinstance(result, Mapping) else {}
    connection = fields.get("arroyo_conn_id") if isinstance(fields, Mapping) else None
    name = _text(values.get("pipeline_name")) or _text(result.get("pipeline_name"))
    return {
        "connection_id": connection if isinstance(connection, str) and connection else DEFAULT_CONN_ID,
        "pipeline_id": _text(values.get(_ID_KEY)) or _text(result.get("pipeline_id")),
        "pipeline_name": None if name is None else visible(name),
        "transitions": _transitions(values.get(TRANSITIONS_XCOM_KEY)),
        "state": state,
    }


def _plain(value: Any) -> Any:
    """Return an XCom value; JSON text is parsed."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def tasks_of_pipeline(
    pipeline_id: str,
    *,
    connection_id: str,
    owner: Mapping[str, Any] | None,
    readable: Callable[[], Set[str]],
    may_read: Callable[[str], bool],
) -> dict[str, Any]:
    """Return the task instances that touched a pipeline: those that stored its id as an XCom, and its owner.

    The newest 50 are from the 50 DAGs that touched it last, so no more DAGs are checked.

    :param pipeline_id: id of the pipeline.
    :param connection_id: the connection to its Arroyo. A task whose rendered fields name another connection had
        another pipeline.
    :param owner: the task instance that created it, by its label; None if there is none in this Airflow.
    :param readable: returns all DAGs that may be read; called only if too many touched the pipeline to check each
        one.
    :param may_read: whether the task instances and XComs of a DAG may be read; called for at most 200 DAGs.
    :returns: ``tasks``, newest first, and whether there are ``more``.
    """
    is_theirs = and_(XComModel.key == _ID_KEY, _holds(pipeline_id))
    newest_first = (
        select(XComModel.dag_id)
        .where(is_theirs)
        .group_by(XComModel.dag_id)
        .order_by(func.max(XComModel.dag_run_id).desc(), XComModel.dag_id)
        .limit(_MAX_DAGS)
    )
    with create_session() as session:
        touching = session.scalars(newest_first).all()
    dags = list(dict.fromkeys([owner["dag"], *touching] if owner else touching))
    if len(dags) > _MAX_CHECKED:
        known = readable()
        dags = [dag_id for dag_id in dags if dag_id in known]
    has_unchecked = len(dags) > _MAX_CHECKED
    dags = list(islice(filter(may_read, dags[:_MAX_CHECKED]), MAX_TASKS + 1))
    if not dags:
        return {"tasks": [], "more": has_unchecked}
    columns = (
        *_TASK_KEY,
        TaskInstance.operator,
        TaskInstance.state,
        TaskInstance.start_date,
        TaskInstance.end_date,
    )
    with create_session() as session:
        left = session.execute(
            select(*columns, XComModel.value)
            .join(XComModel, and_(*(getattr(XComModel, one.key) == one for one in _TASK_KEY)))
            .where(is_theirs, XComModel.dag_id.in_(dags))
            .order_by(XComModel.dag_run_id.desc(), XComModel.task_id, XComModel.map_index)
            .limit(2 * MAX_TASKS)
        ).all()
        # Databases compare JSON differently, and some ignore case.
        found = {TaskInstanceKey(*row[:4]): row for row in left if _plain(row.value) == pipeline_id}
        elsewhere = {
            key
            for key, fields in _of_tasks(session, RenderedTaskInstanceFields, "rendered_fields", found)
            if isinstance(fields, Mapping) and fields.get("arroyo_conn_id", connection_id) != connection_id
        }
        found = {key: row for key, row in found.items() if key not in elsewhere}
        creator = None
        if owner and owner["dag"] in dags:
            creator = TaskInstanceKey(owner["dag"], owner["run"], owner["task"], owner["map_index"])
            of_owner = select(*columns).where(
                *(one == value for one, value in zip(_TASK_KEY, astuple(creator), strict=True))
            )
            if creator not in found and (row := session.execute(of_owner).first()) is not None:
                found[creator] = row
        transitions = dict(
            _of_tasks(session, XComModel, "value", found, XComModel.key == TRANSITIONS_XCOM_KEY)
        )
    # Task instances that have not started yet come first.
    rows = sorted(found.items(), key=lambda item: -(_seconds(item[1].start_date) or float("inf")))
    return {
        "tasks": [
            {
                **asdict(key),
                "operator": row.operator,
                "state": row.state,
                "start": _seconds(row.start_date),
                "end": _seconds(row.end_date),
                "via": "owner" if key == creator else "xcom",
                "transitions": _transitions(_plain(transitions.get(key))),
            }
            for key, row in rows[:MAX_TASKS]
        ],
        "more": has_unchecked or len(rows) > MAX_TASKS or len(left) == 2 * MAX_TASKS,
    }


_TASK_KEY = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)


def _holds(pipeline_id: str) -> ColumnElement[bool]:
    """Return whether an XCom contains an id, as far as any database can tell: as JSON, or as JSON text in JSON."""
    if not is_storable(pipeline_id):
        return false()
    needles = set()
    for is_ascii in (True, False):
        # With quotes, so that ids that merely contain it do not fill the list.
        once = json.dumps(pipeline_id, ensure_ascii=is_ascii)
        needles |= {once, json.dumps(once, ensure_ascii=is_ascii)[1:-1]}
    text = cast(XComModel.value, Text)
    return or_(*(text.contains(needle, autoescape=True) for needle in sorted(needles)))


def _of_tasks(
    session: Session,
    model: type[Any],
    column: str,
    keys: Collection[TaskInstanceKey],
    *where: ColumnElement[bool],
) -> list[tuple[TaskInstanceKey, Any]]:
    """Return a column of the rows that belong to task instances."""
    if not keys:
        return []
    key_columns = [getattr(model, one.key) for one in _TASK_KEY]
    values = zip(*(astuple(key) for key in keys), strict=True)
    near = (one.in_(sorted(set(some))) for one, some in zip(key_columns, values, strict=True))
    rows = session.execute(select(*key_columns, getattr(model, column)).where(*near, *where))
    return [(key, row[4]) for row in rows if (key := TaskInstanceKey(*row[:4])) in keys]


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _transitions(value: Any) -> list[Any]:
    return value[-MAX_TRANSITIONS:] if isinstance(value, list) else []


def missing_owners(owners: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return for each owner which part no longer exists in Airflow: ``dag``, ``run``, ``task`` or None.

    :param owners: each with ``dag``, ``run``, ``task`` and ``deployment``; a deployment outlives the run that made
        it, so it needs only its DAG.
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
    """Write one row to Airflow's audit log.

    :param event: the action, such as ``arroyo.stop``.
    :param user_name: who requested it.
    :param owner: the pipeline's owner; the row then belongs to that task instance.
    :param extra: the pipeline, the options and the outcome.
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
