"""The routes behind the pages. They return what the watches know, and never wait long for an Arroyo.

Every route except static files requires a logged-in user, and the right to read or edit its connection. No route
takes an address or a path to fetch.
"""

from __future__ import annotations

import json
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.hooks.arroyo import namespace_of
from airflow_provider_arroyo.monitoring.plan import UnreadablePlanError
from airflow_provider_arroyo.plugin import access, airflow_db, outcomes
from airflow_provider_arroyo.plugin.actions import Acted, Action, ActionOptions, request_for
from airflow_provider_arroyo.plugin.audit import Audit
from airflow_provider_arroyo.plugin.facts import Facts
from airflow_provider_arroyo.plugin.live import NOT_LISTED, absent, live
from airflow_provider_arroyo.plugin.reader import MAX_SHOWN
from airflow_provider_arroyo.plugin.service import Service
from airflow_provider_arroyo.plugin.snapshot import Row
from airflow_provider_arroyo.plugin.watch import Watch

_MAX_ID = 1000
ConnectionId = Annotated[str, Query(min_length=1, max_length=250)]
Shown = Annotated[list[str], Query(max_length=MAX_SHOWN)]
MapIndex = Annotated[int, Query(ge=-1, lt=2**31)]
PipelineId = Annotated[str, Query(min_length=1, max_length=_MAX_ID)]


def _readable(connection_id: ConnectionId, user: GetUserDep) -> str:
    if not access.may_use_connection(connection_id, "GET", user):
        raise HTTPException(403, f"You may not read the Airflow connection {connection_id!r}.")
    return connection_id


def _editable(connection_id: Annotated[str, Depends(_readable)], user: GetUserDep) -> str:
    if not access.may_use_connection(connection_id, "PUT", user):
        raise HTTPException(
            403,
            f"You need the right to edit the Airflow connection {connection_id!r} for this.",
        )
    return connection_id


Readable = Annotated[str, Depends(_readable)]
Editable = Annotated[str, Depends(_editable)]


class _Json(JSONResponse):
    """JSON in ASCII, since a server may send unpaired surrogates; nobody may keep it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers["Cache-Control"] = "no-store"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class _VersionedFiles(StaticFiles):
    """Files with a version in their addresses, so that a browser can cache them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def make_app() -> FastAPI:
    """Return the app that Airflow's API server mounts."""
    # Without documentation pages, which everyone could open.
    app = FastAPI(title="Arroyo", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_router(Service()), prefix="/api")
    app.mount("/static", _VersionedFiles(directory=Path(__file__).parent / "static", check_dir=False))
    return app


def _router(service: Service) -> APIRouter:
    router, audit = APIRouter(default_response_class=_Json), Audit(service.watch)

    @router.get("/connections")
    def connections(user: GetUserDep) -> dict[str, Any]:
        return {"connections": access.readable_connections(user)}

    @router.get("/pipelines")
    async def pipelines(
        connection_id: Readable,
        user: GetUserDep,
        shown: Shown = [],  # noqa: B006  # FastAPI copies it
        new: Shown = [],  # noqa: B006  # as above
        epoch: str = "",
        version: int = 0,
    ) -> dict[str, Any]:
        watch = service.watch(connection_id)
        await watch.refresh(shown)
        changes = watch.snapshot.changes_since(epoch, version, shown=shown, new=new)
        return {**await _status(watch, connection_id, user), **changes}

    @router.get("/pipeline/live")
    async def live_pipeline(
        connection_id: Readable, pipeline_id: PipelineId, user: GetUserDep
    ) -> dict[str, Any]:
        watch = service.watch(connection_id)
        await watch.refresh(opened=pipeline_id)
        row = watch.snapshot.rows.get(pipeline_id)
        what = live(
            row or Row(Facts(pipeline_id=pipeline_id)), now=time.time(), server_time=watch.server_time
        )
        if row is None:
            what["sentence"] = absent(pipeline_id, known=_known(watch))
        return {
            **await _status(watch, connection_id, user),
            "began": watch.snapshot.began,
            "row": row.to_json() if row else None,
            "details": row.details if row else None,
            **what,
        }

    @router.get("/pipeline/definition")
    async def pipeline_definition(connection_id: Readable, pipeline_id: PipelineId) -> dict[str, Any]:
        watch = service.watch(connection_id)
        try:
            found = await watch.definition(pipeline_id)
        except (ArroyoError, ValueError) as error:
            # The server's message may repeat the SQL.
            row = watch.snapshot.rows.get(pipeline_id)
            text = row.facts.shown(str(error)) if row else str(error)
            raise HTTPException(404 if isinstance(error, ArroyoNotFoundError) else 502, text) from error
        if found is None:
            raise _no_pipeline(watch, pipeline_id)
        return found

    @router.get("/pipeline/tasks")
    async def pipeline_tasks(
        connection_id: Readable, pipeline_id: PipelineId, user: GetUserDep
    ) -> dict[str, Any]:
        watch = service.watch(connection_id)
        await watch.refresh()
        row = watch.snapshot.rows.get(pipeline_id)
        owner = _own_task(row.facts, _namespace(watch)) if row else None
        return await run_in_threadpool(
            airflow_db.tasks_of_pipeline,
            pipeline_id,
            connection_id=connection_id,
            owner=owner,
            readable=lambda: access.readable_dags(user),
            may_read=lambda dag_id: access.may_read_tasks(dag_id, user),
        )

    @router.get("/orphans")
    async def orphans(connection_id: Readable) -> dict[str, Any]:
        watch = service.watch(connection_id)
        await watch.refresh()
        namespace = _namespace(watch)
        if _known(watch) is None:
            # A part of them would look like all of them.
            raise HTTPException(502, watch.error or NOT_LISTED)
        # Only their own Airflow knows whether owners in other namespaces still exist.
        owners = {
            row.pipeline_id: owner
            for row in watch.snapshot.rows.values()
            if (owner := _own_task(row.facts, namespace))
        }
        missing = await run_in_threadpool(airflow_db.missing_owners, list(owners.values()))
        found = [{"id": one, "missing": what} for one, what in zip(owners, missing, strict=True) if what]
        return {"orphans": found}

    @router.get("/task", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))])
    def task(
        dag_id: str, run_id: str, task_id: str, user: GetUserDep, map_index: MapIndex = -1
    ) -> MutableMapping[str, Any]:
        key = airflow_db.TaskInstanceKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
        found = airflow_db.pipeline_of_task(key)
        found["may_read"] = access.may_use_connection(found["connection_id"], "GET", user)
        return found

    @router.post("/actions/{action}", dependencies=[Depends(access.refuse_foreign_pages)])
    async def act(
        action: Action,
        connection_id: Editable,
        pipeline_id: PipelineId,
        user: GetUserDep,
        options: Annotated[ActionOptions, Body()],
    ) -> dict[str, Any]:
        try:
            request = request_for(action, pipeline_id, options)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        watch = service.watch(connection_id)
        await watch.refresh([pipeline_id])
        row = watch.snapshot.rows.get(pipeline_id)
        if row is None:
            raise _no_pipeline(watch, pipeline_id)
        if not row.is_described:
            raise HTTPException(409, "This pipeline was just replaced. Try again in a few seconds.")
        # Also for an owner in another namespace: this Airflow may have had another one before.
        owner = row.facts.owner
        if owner and not await run_in_threadpool(access.may_edit_dag, owner["dag"], user):
            raise HTTPException(403, f"You need the right to edit the DAG {owner['dag']!r} for this.")
        failure: ArroyoError | None = None
        facts, before, at = row.facts, row.job, time.time()
        try:
            await watch.send(request)
        except ArroyoError as error:
            failure = error
        watch.expect_change()
        acted = Acted(
            action=action,
            options=options,
            connection_id=connection_id,
            user_name=user.get_name(),
            facts=facts,
            owner=_own_task(facts, _namespace(watch)),
            before=before,
            at=at,
            failure=failure,
        )
        await audit.record(acted)
        if failure is not None and not acted.is_unknown:
            raise HTTPException(_status_of(failure), acted.response)
        return {"arroyo_response": acted.response, **outcomes.first_response(acted, watch.server)}

    @router.post("/outcome")
    async def outcome(connection_id: Readable, one: Annotated[outcomes.Followed, Body()]) -> dict[str, Any]:
        watch = service.watch(connection_id)
        await watch.refresh()
        try:
            return outcomes.next_response(one, watch, time.time())
        except UnreadablePlanError as error:
            raise HTTPException(422, str(error)) from error

    return router


def _namespace(watch: Watch) -> str:
    """Return this Airflow's namespace on an Arroyo.

    :raises HTTPException: 502 if the connection is missing or invalid.
    """
    if watch.client is None:
        raise HTTPException(502, watch.error or "Airflow has not looked up the connection yet.")
    return namespace_of(watch.client.settings).name


def _own_task(facts: Facts, namespace: str) -> dict[str, Any] | None:
    """Return the task of this Airflow that owns a pipeline; None if there is none.

    A DAG of the same name in another Airflow is a different one.

    :param facts: the pipeline's facts.
    :param namespace: this Airflow's.
    """
    return facts.owner if facts.owner and facts.owner["namespace"] == namespace else None


def _known(watch: Watch) -> int | None:
    """Return how many pipelines are known; None if the list was never read."""
    return None if watch.seen_at is None else len(watch.snapshot.rows)


def _no_pipeline(watch: Watch, pipeline_id: str) -> HTTPException:
    """Return the error for a pipeline that is not in the list, or not yet because the list was never read."""
    known = _known(watch)
    text = absent(pipeline_id, known=known)
    return HTTPException(502, watch.error or text) if known is None else HTTPException(404, text)


async def _status(watch: Watch, connection_id: str, user: Any) -> dict[str, Any]:
    """Return how fresh the data is, where it is from, and whether the user may act."""
    settings = watch.client.settings if watch.client else None
    return {
        "now": time.time(),
        "seen_at": watch.seen_at,
        "error": watch.error,
        "console": (settings.console_url or settings.shown_url) if settings else None,
        "namespace": namespace_of(settings).name if settings else None,
        "may_act": await run_in_threadpool(access.may_use_connection, connection_id, "PUT", user),
    }


def _status_of(error: ArroyoError) -> int:
    if isinstance(error, ArroyoNotFoundError):
        return 404
    # Arroyo's own refusals; other failures are not caused by this page.
    return 409 if isinstance(error, ArroyoApiError) and 400 <= error.status < 500 else 502
