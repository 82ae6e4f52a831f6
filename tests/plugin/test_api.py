"""The routes, with Airflow's own simple auth manager, on the sandbox: rights and responses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_arroyo.sandbox import ArroyoSandbox

if not hasattr(AirflowPlugin, "react_apps"):
    pytest.skip("this Airflow has no pages of plugins", allow_module_level=True)

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from fastapi import HTTPException
from fastapi.testclient import TestClient

from airflow_provider_arroyo.exceptions import ArroyoConnectionError, Disposition
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.plugin import access, airflow_db, api, reader, service, watch

HEADERS = {access.ACTION_HEADER: "1"}
CONN = "arroyo_tested"


class Site:
    """The routes as one user's browser uses them, and the audit log."""

    def __init__(self, client: TestClient, sandbox: ArroyoSandbox) -> None:
        self.client = client
        self.sandbox = sandbox
        self.role: str | None = "admin"
        self.audit: list[dict[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/{path}", params=query)

    def pipelines(self, **query: Any) -> dict[str, Any]:
        response = self.get("pipelines", connection_id=CONN, **query)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def ids(self) -> dict[str, str]:
        return {row["name"]: row["id"] for row in self.pipelines()["rows"]}

    def act(self, action: str, pipeline_id: str, headers: dict[str, str] = HEADERS, **options: Any) -> Any:
        query = {"connection_id": CONN, "pipeline_id": pipeline_id}
        return self.client.post(f"/api/actions/{action}", params=query, headers=headers, json=options)

    def outcome(self, follow: Any) -> Any:
        return self.client.post("/api/outcome", params={"connection_id": CONN}, json=follow)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ArroyoSandbox(pipelines=2, api_key="very-secret-key", seed=1) as sandbox:
        connection = {"conn_type": "arroyo", "host": sandbox.url, "password": "very-secret-key"}
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_TESTED", json.dumps(connection))
        # On a busy machine, the sandbox may take longer than a page would wait.
        monkeypatch.setattr(watch, "WAIT_SECONDS", 60.0)
        monkeypatch.setattr(reader, "ROUND_WAIT_SECONDS", 60.0)
        monkeypatch.setattr(service, "REQUEST_SECONDS", 60.0)
        monkeypatch.setattr(access, "get_auth_manager", SimpleAuthManager)
        monkeypatch.setattr(access, "may_edit_dag", lambda _dag_id, _user: True)
        app = api.make_app()
        with TestClient(app) as client:
            found = Site(client, sandbox)
            monkeypatch.setattr(
                airflow_db,
                "write_audit_log",
                lambda event, **what: found.audit.append({"event": event, **what}),
            )

            def user() -> SimpleAuthManagerUser:
                if found.role is None:
                    raise HTTPException(401, "Not authenticated")
                return SimpleAuthManagerUser(username="jane", role=found.role)

            app.dependency_overrides[get_user] = user
            yield found


ROUTES = (
    ("GET", "connections"),
    ("GET", "pipelines"),
    ("GET", "pipeline/live"),
    ("GET", "pipeline/definition"),
    ("GET", "pipeline/tasks"),
    ("GET", "orphans"),
    ("GET", "task"),
    ("POST", "actions/stop"),
    ("POST", "outcome"),
)
READING = ("pipelines", "pipeline/live", "pipeline/definition", "pipeline/tasks", "orphans")
QUERY = {
    "connection_id": CONN,
    "pipeline_id": "pl_1",
    "dag_id": "shop",
    "run_id": "r",
    "task_id": "t",
}


def test_the_table_lists_every_route(site: Site) -> None:
    routes = {(method, path) for method, path in ROUTES}
    app: Any = site.client.app
    known = {(m, r.path.removeprefix("/api/")) for r in app.routes for m in getattr(r, "methods", None) or ()}
    assert {(method, path.replace("{action}", "stop")) for method, path in known} == routes


@pytest.mark.parametrize("method, path", ROUTES)
def test_every_route_needs_a_logged_in_user(site: Site, method: str, path: str) -> None:
    site.role = None
    body: dict[str, Any] | None = {} if method == "POST" else None
    response = site.client.request(method, f"/api/{path}", params=QUERY, headers=HEADERS, json=body)
    assert response.status_code == 401


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize("role", ["viewer", "user"])
def test_reading_needs_the_right_to_read_the_connection(site: Site, path: str, role: str) -> None:
    site.role = role
    response = site.get(path, connection_id=CONN, pipeline_id="pl_1")
    assert response.status_code == 403
    assert CONN in response.json()["detail"]
    assert site.outcome(None).status_code == 403
    assert len(site.sandbox.requests) == 0


def test_the_right_to_read_does_not_allow_actions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (pipeline_id, *_) = site.ids().values()
    monkeypatch.setattr(access, "may_use_connection", lambda _id, method, _user: method == "GET")
    assert site.pipelines()["may_act"] is False
    response = site.act("stop", pipeline_id)
    assert response.status_code == 403
    assert "right to edit" in response.json()["detail"]
    assert site.sandbox.requests.count("PATCH") == 0
    assert site.audit == []


@pytest.mark.parametrize(
    "headers",
    [{}, {**HEADERS, "Sec-Fetch-Site": "same-site"}, {**HEADERS, "Sec-Fetch-Site": "cross-site"}],
    ids=["without our header", "another port", "another site"],
)
def test_a_page_of_another_origin_cannot_act(site: Site, headers: dict[str, str]) -> None:
    (pipeline_id, *_) = site.ids().values()
    assert site.act("stop", pipeline_id, headers=headers).status_code == 403
    assert site.sandbox.requests.count("PATCH") == 0


@pytest.mark.parametrize("role, expected", [("admin", [CONN]), ("op", [CONN]), ("viewer", []), ("user", [])])
def test_the_connections_are_those_that_a_user_may_read(
    site: Site, role: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://db.example.com")
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", "{")
    monkeypatch.setattr(access, "_in_database", list)
    site.role = role
    assert site.get("connections").json() == {"connections": expected}


def test_a_connection_of_another_type_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "http", "host": site.sandbox.url}
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_TESTED", json.dumps(connection))
    assert "not of type Arroyo" in site.pipelines()["error"]
    assert len(site.sandbox.requests) == 0


# Reading tasks from Airflow's database needs no connection.
@pytest.mark.parametrize("path", sorted({*READING} - {"pipeline/tasks"}))
def test_a_missing_connection_is_named(site: Site, path: str) -> None:
    response = site.get(path, connection_id="nowhere", pipeline_id="pl_1")
    assert response.status_code in (200, 502)
    assert "no Airflow connection 'nowhere'" in response.text


def test_no_secret_reaches_the_browser(site: Site) -> None:
    (pipeline_id, *_) = site.ids().values()
    site.sandbox.faults.status(401, path="*")
    texts = [site.get("pipelines", connection_id=CONN, shown=[pipeline_id]).text, site.get("orphans").text]
    texts.append(site.act("stop", pipeline_id).text)
    assert all("very-secret-key" not in text for text in texts)


def test_the_whole_list_is_sent_first_and_then_only_changes(site: Site) -> None:
    response = site.get("pipelines", connection_id=CONN)
    assert response.headers["cache-control"] == "no-store"
    first = response.json()
    assert first["namespace"] == ""
    assert {row["name"] for row in first["rows"]} == {"pipeline-1", "pipeline-2"}
    assert first["totals"] == {"Running": 2}
    second = site.pipelines(epoch=first["epoch"], version=first["version"])
    assert (second["complete"], second["rows"]) == (False, [])


@pytest.mark.parametrize(
    "action, options, method, body",
    [
        ("stop", {"mode": "immediate"}, "PATCH", {"stop": "immediate"}),
        ("stop", {}, "PATCH", {"stop": "checkpoint"}),
        ("resume", {}, "PATCH", {"stop": "none"}),
        ("restart", {"force": True}, "POST", {"force": True}),
        ("rescale", {"parallelism": 3}, "PATCH", {"parallelism": 3}),
    ],
)
def test_an_action_is_one_request_and_is_logged_at_once(
    site: Site, action: str, options: dict[str, Any], method: str, body: dict[str, Any]
) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    assert site.act(action, pipeline_id, **options).status_code == 200
    sent = [request.json for request in site.sandbox.requests if request.method == method]
    assert sent == [body]
    row = site.audit[0]  # the next row has the outcome
    assert (row["event"], row["user_name"]) == (f"arroyo.{action}", "jane")
    assert row["extra"]["arroyo_response"] == "accepted"
    assert row["extra"]["outcome"] == "requested"
    assert row["extra"]["pipeline_name"] == "pipeline-1"


def test_a_page_gets_the_outcome_of_an_action(site: Site) -> None:
    # Otherwise, it never ends if a checkpoint happens to be in progress.
    message = site.act("restart", site.ids()["pipeline-1"], force=True).json()
    unknown = {**message["follow"], "plan": {**message["follow"]["plan"], "deadline": "soon"}}
    for wrong in (unknown, {**message["follow"], "action": "explode"}, {}):
        assert site.outcome(wrong).status_code == 422
    deadline = time.monotonic() + 60
    while message["outcome"] is None and time.monotonic() < deadline:
        response = site.outcome(message["follow"])
        assert response.status_code == 200, response.text
        message = response.json()
    assert message["outcome"] == {"ok": True, "text": "It is running again."}


@pytest.mark.parametrize(
    "fault, fields", [("status", {"status": 504, "error": None, "after_effect": True}), ("cut_short", {})]
)
def test_an_action_whose_response_was_lost_is_followed(
    site: Site, fault: str, fields: dict[str, Any]
) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    site.sandbox.faults.inject(fault, path=f"*/{pipeline_id}/restart", times=1, **fields)
    response = site.act("restart", pipeline_id, force=True)
    assert response.status_code == 200, response.text
    message = response.json()
    assert message["lost"] == message["arroyo_response"] != "accepted"
    assert site.audit[0]["extra"]["outcome"] == "unknown"
    deadline = time.monotonic() + 60
    while message["outcome"] is None and time.monotonic() < deadline:
        message = site.outcome(message["follow"]).json()
    assert message["outcome"] == {"ok": True, "text": "It is running again."}


def test_a_delete_whose_response_was_lost_is_not_called_refused(site: Site) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    site.sandbox.faults.status(504, path=f"*/pipelines/{pipeline_id}", method="DELETE", error=None)
    response = site.act("delete", pipeline_id)
    assert response.status_code == 200, response.text
    assert "504" in response.json()["lost"]
    assert response.json()["outcome"] == {"ok": False, "text": "Whether it was done is unknown."}


def test_a_request_that_was_never_sent_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline_id = site.ids()["pipeline-1"]

    async def unsent(*_args: Any) -> None:
        raise ArroyoConnectionError("refused", disposition=Disposition.RETRY)

    monkeypatch.setattr(watch.Watch, "send", unsent)
    response = site.act("stop", pipeline_id)
    assert (response.status_code, response.json()["detail"]) == (502, "refused")


def test_the_connection_is_looked_up_once_for_a_client(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look_up = ArroyoHook.get_connection

    def noted(_cls: type[ArroyoHook], conn_id: str) -> Any:
        asked.append(conn_id)
        return look_up(conn_id)

    monkeypatch.setattr(ArroyoHook, "get_connection", classmethod(noted))
    site.ids()
    assert asked == [CONN]


def test_a_refusal_is_shown_in_arroyos_words_and_logged(site: Site) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    response = site.act("delete", pipeline_id)
    assert response.status_code == 409
    (row,) = site.audit
    assert row["extra"]["arroyo_response"] == response.json()["detail"]
    assert row["extra"]["arroyo_response"] != "accepted"
    assert row["extra"]["outcome"] == "not_done"


@pytest.mark.parametrize(
    "action, options, status",
    [
        ("explode", {}, 422),
        ("stop", {"mode": "none"}, 422),
        ("stop", {"url": "http://example.com"}, 422),
        ("rescale", {}, 422),
        ("rescale", {"parallelism": 0}, 422),
        ("rescale", {"parallelism": 1e300}, 422),
    ],
)
def test_an_invalid_action_is_refused_before_any_request(
    site: Site, action: str, options: dict[str, Any], status: int
) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    assert site.act(action, pipeline_id, **options).status_code == status
    assert {request.method for request in site.sandbox.requests} == {"GET"}


def test_an_action_on_an_unknown_pipeline_is_refused(site: Site) -> None:
    response = site.act("delete", "pl_gone")
    assert response.status_code == 404
    assert "There is no pipeline 'pl_gone'" in response.json()["detail"]
    assert site.sandbox.requests.count("DELETE") == 0


def test_an_action_on_an_arroyo_that_is_away_says_so(site: Site) -> None:
    site.sandbox.faults.status(503, path="*/jobs")
    response = site.act("delete", "pl_1")
    assert response.status_code == 502
    assert "503" in response.json()["detail"]


def test_an_action_succeeds_if_the_audit_log_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(airflow_db, "write_audit_log", broken)
    assert site.act("stop", site.ids()["pipeline-1"]).status_code == 200
    assert "could not be written: arroyo.stop by jane" in caplog.text


def test_the_documentation_pages_of_fastapi_are_off(site: Site) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert site.client.get(path).status_code == 404
