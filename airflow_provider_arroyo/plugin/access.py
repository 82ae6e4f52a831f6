"""Access checks: Airflow's own permissions on connections and DAGs, and protection against other sites."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.providers.common.compat.sdk import conf
from airflow.utils.session import create_session
from fastapi import HTTPException, Request
from sqlalchemy import select

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

ACTION_HEADER = "X-Arroyo-Action"
"""Required for every change. A page of another site cannot send it: the browser would ask first, and be refused."""

_ENVIRONMENT = "AIRFLOW_CONN_"
_TEAMS_EXIST = "team_name" in {field.name for field in fields(ConnectionDetails)}
"""Whether this Airflow has teams (3.2 and later)."""

Method = Literal["GET", "PUT"]


def refuse_foreign_pages(request: Request) -> None:
    """Refuse a request that a page of another origin may have sent with the user's cookie.

    :raises HTTPException: 403 in that case.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if ACTION_HEADER.lower() not in request.headers or site != "same-origin":
        raise HTTPException(
            403, f"A change must come from Airflow's own pages, with the header {ACTION_HEADER}."
        )


def _has_teams() -> bool:
    return _TEAMS_EXIST and conf.getboolean("core", "multi_team", fallback=False)


def may_use_connection(connection_id: str, method: Method, user: BaseUser) -> bool:
    """Return whether a user may read (``GET``) or edit (``PUT``) a connection."""
    details: dict[str, Any] = {"conn_id": connection_id}
    if _has_teams():
        details["team_name"] = Connection.get_team_name(connection_id)
    manager = get_auth_manager()
    return manager.is_authorized_connection(method=method, details=ConnectionDetails(**details), user=user)


def may_edit_dag(dag_id: str, user: BaseUser) -> bool:
    """Return whether a user may edit a DAG; also if Airflow has no such DAG, so that it belongs to nobody."""
    with create_session() as session:
        if session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == dag_id)) is None:
            return True
    return get_auth_manager().is_authorized_dag(method="PUT", details=_dag(dag_id), user=user)


def readable_dags(user: BaseUser) -> set[str]:
    """Return the DAGs that a user may read, by the same single check that Airflow uses to filter its own lists."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def may_read_tasks(dag_id: str, user: BaseUser) -> bool:
    """Return whether a user may read a DAG's task instances and their XComs."""
    manager, details = get_auth_manager(), _dag(dag_id)
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
        for entity in (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
    )


def _dag(dag_id: str) -> DagDetails:
    details: dict[str, Any] = {"id": dag_id}
    if _has_teams():
        details["team_name"] = DagModel.get_team_name(dag_id)
    return DagDetails(**details)


def readable_connections(user: BaseUser) -> list[str]:
    """Return the connections of type Arroyo that a user may read.

    Only those in Airflow's database and in the environment: other secrets backends cannot be listed.
    """
    names = {*_in_database(), *_in_environment()}
    return sorted(name for name in names if may_use_connection(name, "GET", user))


def _in_database() -> Iterable[str]:
    with create_session() as session:
        of_arroyo = select(Connection.conn_id).where(Connection.conn_type == ArroyoHook.conn_type)
        return session.scalars(of_arroyo).all()


def _in_environment() -> Iterable[str]:
    for variable, value in os.environ.items():
        if variable.startswith(_ENVIRONMENT) and _is_arroyo(value):
            yield variable.removeprefix(_ENVIRONMENT).lower()


def _is_arroyo(value: str) -> bool:
    try:
        connection = Connection.from_json(value) if value.lstrip().startswith("{") else Connection(uri=value)
    except Exception:  # noqa: BLE001  # whatever Airflow cannot read is no connection of ours
        return False
    return connection.conn_type == ArroyoHook.conn_type
