"""The routes of a pipeline's own page, on the sandbox: rights, missing pipelines, hostile names and texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowPlugin

if not hasattr(AirflowPlugin, "react_apps"):
    pytest.skip("this Airflow has no pages of plugins", allow_module_level=True)

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security
from airflow.models.dag import DagModel

from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel
from airflow_provider_arroyo.plugin import access, airflow_db
from airflow_provider_arroyo.text import visible
from tests import canaries
from tests.support import ENDLESS

from .test_api import CONN, Site, site

__all__ = ["site"]

AUTH = {"Authorization": "Bearer very-secret-key", "Content-Type": "application/json"}


def live(site: Site, pipeline_id: str) -> dict[str, Any]:
    response = site.get("pipeline/live", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.status_code == 200, response.text
    return dict(response.json())


def create(site: Site, body: str) -> str:
    response = requests.post(f"{site.sandbox.url}/api/v1/pipelines", data=body, headers=AUTH, timeout=30)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def test_the_page_has_every_field_of_its_type(site: Site) -> None:
    found = live(site, site.ids()["pipeline-1"])
    status = {
        "now",
        "seen_at",
        "error",
        "console",
        "namespace",
        "may_act",
        "began",
        "row",
        "details",
        "sentence",
        "diagnosis",
    }
    drawn = {"missing", "changes", "nodes", "rates", "checkpoints", "errors"}
    assert set(found) == status | drawn
    assert found["row"]["name"] == "pipeline-1"
    assert found["may_act"] is True
    assert found["missing"] == []


def test_orphans_are_not_shown_before_all_pipelines_are_known(site: Site) -> None:
    site.sandbox.faults.status(503, path="*/v1/pipelines", times=1)
    response = site.get("orphans", connection_id=CONN)
    assert (response.status_code, "503" in response.json()["detail"]) == (502, True)


@pytest.mark.parametrize(
    "pipeline_id", ["pl_gone", "..", "a/b", "x" * 1000, "<img src=x onerror=alert(1)>", "a\0b"]
)
def test_a_missing_pipeline_is_reported_in_a_sentence(site: Site, pipeline_id: str) -> None:
    site.ids()
    found = live(site, pipeline_id)
    assert found["row"] is None
    assert "There is no pipeline" in found["sentence"]
    assert "deleted" in found["sentence"]
    assert len(found["sentence"]) < 300
    response = site.get("pipeline/definition", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.status_code == 404
    assert response.json()["detail"] == found["sentence"]


def test_before_arroyo_has_responded_no_pipeline_counts_as_missing(site: Site) -> None:
    site.sandbox.faults.status(503, path="*/jobs")
    found = live(site, "pl_1")
    assert found["row"] is None
    assert "There is no pipeline" not in found["sentence"]
    assert "503" in found["error"]
    response = site.get("pipeline/definition", connection_id=CONN, pipeline_id="pl_1")
    assert response.status_code == 502
    assert "503" in response.json()["detail"]


@pytest.mark.parametrize("path", ["pipeline/live", "pipeline/definition", "pipeline/tasks"])
@pytest.mark.parametrize("pipeline_id", ["", "x" * 1001])
def test_an_impossible_id_is_refused(site: Site, path: str, pipeline_id: str) -> None:
    assert site.get(path, connection_id=CONN, pipeline_id=pipeline_id).status_code == 422


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "whole \\ud83d\\ude00 pair",
        "line\\nbreak\\u0000",
        "\\u202egnp.exe",
        "x" * 5000,
    ],
)
def test_hostile_names_are_treated_as_text(site: Site, name: str) -> None:
    pipeline_id = create(site, f'{{"name": "{name}", "query": {json.dumps(ENDLESS)}, "parallelism": 1}}')
    site.client.get("/api/pipelines", params={"connection_id": CONN})
    expected = visible(json.loads(f'"{name}"')[:300])
    assert live(site, pipeline_id)["row"]["name"] == expected
    assert site.ids()[expected] == pipeline_id
    response = site.get("pipeline/definition", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["sql"] == ENDLESS


@pytest.mark.parametrize(
    "path, body",
    [
        (
            "*/operator_metric_groups",
            '{"data": [{"node_id": 0, "metric_groups": [{"name": "messages_sent", "subtasks": [{"index": 0,'
            ' "metrics": [{"time": 1, "value": NaN}, {"time": 9e99, "value": 1e999}]}]}]}]}',
        ),
        ("*/operator_metric_groups", f'{{"data": {"[" * 500}{"]" * 500}}}'),
        (
            "*/errors",
            '{"data": [{"id": "1", "created_at": -9, "message": "\\ud800<script>", "operator_id": null}]}',
        ),
        ("*/checkpoints", '{"data": [{"epoch": 1, "start_time": 1, "finish_time": 0, "events": "none"}]}'),
    ],
)
def test_an_invalid_part_does_not_break_the_page(site: Site, path: str, body: str) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    site.sandbox.faults.not_json(path=path, body=body, content_type="application/json", times=None)
    found = live(site, pipeline_id)
    assert found["row"]["state"] == "Running"
    assert isinstance(found["missing"], list)


def test_an_invalid_definition_is_an_error_with_a_message(site: Site) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    site.sandbox.faults.not_json(path=f"*/pipelines/{pipeline_id}", times=None)
    response = site.get("pipeline/definition", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.status_code == 502
    assert len(response.json()["detail"]) > 20


@pytest.mark.parametrize("status", [400, 404, 500])
def test_errors_are_shown_without_the_secrets_of_the_sql(site: Site, status: int) -> None:
    option = "'kafka', topic = 't', type = 'sink', format = 'json', 'auth.password' = 'hunter2hunter2'"
    query = ENDLESS.replace("'blackhole'", f"{option}, bootstrap_servers = 'b', 'auth.type' = 'sasl'")
    pipeline_id = create(site, json.dumps({"name": "p", "query": query, "parallelism": 1}))
    site.ids()
    echo = {"times": None, "error": "login with hunter2hunter2 refused"}
    site.sandbox.faults.status(status, path=f"*/pipelines/{pipeline_id}*", **echo)
    responses = [
        site.get("pipeline/definition", connection_id=CONN, pipeline_id=pipeline_id),
        site.act("stop", pipeline_id),
        site.act("restart", pipeline_id),
        site.get("pipeline/live", connection_id=CONN, pipeline_id=pipeline_id),
    ]
    site.sandbox.faults.status(status, path="*/jobs", **echo)
    site.act("stop", pipeline_id)  # after which the list is fetched again
    responses.append(site.get("pipeline/live", connection_id=CONN, pipeline_id=pipeline_id))
    assert responses[-1].json()["error"]
    shown = [
        *(response.text for response in responses),
        *(row["extra"].get("arroyo_response", "") for row in site.audit),
    ]
    assert sum("login with *** refused" in text for text in shown) >= 6
    assert not any("hunter" in text for text in shown)


@pytest.mark.parametrize("map_index", [-2, 2**31, 10**30])
def test_an_invalid_map_index_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, map_index: int) -> None:
    monkeypatch.setattr(DagModel, "get_team_name", lambda *_args, **_kwargs: None)
    monkeypatch.setattr(security, "get_auth_manager", SimpleAuthManager)
    assert site.get("task", dag_id="d", run_id="r", task_id="t", map_index=map_index).status_code == 422


def test_an_incomplete_pipeline_is_an_error_without_its_secrets(site: Site) -> None:
    pipeline_id = site.ids()["pipeline-1"]
    options = "'auth.password' = 'hunter2hunter2', url = 'https://me:marlin99@example.com'"
    half = json.dumps({"name": "n", "query": f"CREATE TABLE t WITH ({options}); " * 20})
    site.sandbox.faults.not_json(
        path=f"*/pipelines/{pipeline_id}", body=half, content_type="application/json", times=None
    )
    response = site.get("pipeline/definition", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.status_code == 502
    detail = response.json()["detail"]
    assert "auth.password" in detail
    assert "hunter" not in detail
    assert "marlin" not in detail


def test_no_secret_of_the_connection_or_the_sql_reaches_the_browser(site: Site) -> None:
    udf = {"definition": canaries.planted(canaries.UDF)}
    body = {"name": "p", "query": canaries.SQL, "parallelism": 1, "udfs": [udf]}
    pipeline_id = create(site, json.dumps(body))
    first = canaries.leaked(canaries.SQL)[0]
    site.sandbox.faults.fail("p", after=0, error=f"login with {first} refused: {canaries.SQL}")
    site.pipelines()
    texts = []
    for _ in range(3):
        texts += [
            site.get(path, connection_id=CONN, pipeline_id=pipeline_id).text
            for path in ("pipeline/live", "pipeline/definition")
        ]
    site.sandbox.faults.status(401, path="*", times=None, error=f"{first} very-secret-key {canaries.SQL}")
    texts.append(site.get("pipeline/live", connection_id=CONN, pipeline_id=pipeline_id).text)
    assert not any(canaries.leaked(text) or "very-secret-key" in text for text in texts)
    assert "login with *** refused" in texts[0]
    assert "auth.password" in texts[1]


def owned(site: Site, monkeypatch: pytest.MonkeyPatch, namespace: str) -> str:
    """Create a pipeline with an owner in that namespace; this Airflow's is "here"."""
    connection = {"conn_type": "arroyo", "host": site.sandbox.url, "password": "very-secret-key"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_ARROYO_TESTED", json.dumps({**connection, "extra": {"namespace": "here"}})
    )
    task = Owner(dag_id="shop", task_id="submit", run_id="r1", namespace=namespace)
    tags = OwnershipLabel(task=task, try_number=1, package_version="1").to_tags()
    return create(site, json.dumps({"name": "p", "query": ENDLESS, "parallelism": 1, "tags": tags}))


@pytest.mark.parametrize("namespace, is_ours", [("here", True), ("elsewhere", False)])
def test_the_tasks_are_those_of_an_owner_in_this_airflow_that_the_user_may_read(
    site: Site, monkeypatch: pytest.MonkeyPatch, namespace: str, is_ours: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def tasks_of_pipeline(pipeline_id: str, **about: Any) -> dict[str, Any]:
        asked.append(about)
        return {"tasks": [], "more": about["may_read"]("shop")}

    monkeypatch.setattr(airflow_db, "tasks_of_pipeline", tasks_of_pipeline)
    monkeypatch.setattr(
        access, "may_read_tasks", lambda dag_id, user: (dag_id, user.username) == ("shop", "jane")
    )
    pipeline_id = owned(site, monkeypatch, namespace)
    response = site.get("pipeline/tasks", connection_id=CONN, pipeline_id=pipeline_id)
    assert response.json() == {"tasks": [], "more": True}
    (about,) = asked
    assert about["connection_id"] == CONN
    assert (about["owner"] is not None) == is_ours


@pytest.mark.parametrize("namespace, is_ours", [("here", True), ("elsewhere", False)])
def test_an_action_is_logged_for_the_owner_in_this_airflow_but_needs_its_right_in_any_case(
    site: Site, monkeypatch: pytest.MonkeyPatch, namespace: str, is_ours: bool
) -> None:
    """An owner in another namespace may be a DAG of this Airflow from before its namespace was changed."""
    pipeline_id = owned(site, monkeypatch, namespace)
    assert site.act("stop", pipeline_id).status_code == 200
    expected = {"dag": "shop", "task": "submit", "run": "r1", "map_index": -1}
    found = site.audit[0]["owner"]
    assert (found is not None) == is_ours
    assert found is None or expected.items() <= found.items()
    monkeypatch.setattr(access, "may_edit_dag", lambda dag_id, _user: dag_id != "shop")
    assert site.act("stop", pipeline_id).status_code == 403


def test_reading_tasks_needs_the_rights_to_task_instances_and_xcoms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed: set[DagAccessEntity] = set()

    class Manager:
        def is_authorized_dag(self, *, method: str, access_entity: DagAccessEntity, **_: Any) -> bool:
            return method == "GET" and access_entity in allowed

        def get_authorized_dag_ids(self, *, user: Any, method: str) -> set[str]:
            return {"shop"} if (user.username, method) == ("jane", "GET") else set()

    monkeypatch.setattr(access, "get_auth_manager", Manager)
    user = SimpleAuthManagerUser(username="jane", role="viewer")
    assert access.readable_dags(user) == {"shop"}
    for entity in (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM):
        assert not access.may_read_tasks("shop", user)
        allowed.add(entity)
    assert access.may_read_tasks("shop", user)
