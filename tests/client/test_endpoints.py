"""What each request sends, over real HTTP."""

from __future__ import annotations

import gzip
import inspect
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo import __version__
from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import ArroyoError
from tests.client.conftest import PIPELINE, SPEC, Connect
from tests.client.server import Reply, Server, reply

UDF = Udf("fn f() {}", "rust")
FULL: dict[str, Any] = {
    **SPEC,
    "parallelism": 4,
    "checkpoint_interval": timedelta(seconds=1.5),
    "udfs": (UDF, Udf("def g(): ...")),
    "tags": {"team": "data", "empty": ""},
    "env_vars": {"A": "1"},
    "scheduler_config": {"kubernetes-scheduler": {"namespace": "x"}},
    "state_url": "s3://bucket/x",
}
FULL_BODY = {
    **{name: value for name, value in FULL.items() if name != "checkpoint_interval"},
    "checkpoint_interval_micros": 1_500_000,
    "udfs": [{"definition": "fn f() {}", "language": "rust"}, {"definition": "def g(): ..."}],
}
EMPTY_MAPS: dict[str, Any] = {"env_vars": {}, "scheduler_config": {}}
PATCH_ALL: dict[str, Any] = {**EMPTY_MAPS, "parallelism": 2, "checkpoint_interval": timedelta(hours=24)}
TABLE: dict[str, Any] = {
    "name": "t",
    "connector": "x",
    "config": {},
    "connection_profile_id": "cp",
    "schema": {},
}
UDF_FIELDS: dict[str, Any] = {
    "prefix": "/",
    "definition": "fn f() {}",
    "language": "rust",
    "description": "d",
}
LIST: dict[str, Any] = {"data": [], "hasMore": False}
CREATE = api.create_pipeline
PATCH = api.patch_pipeline


@pytest.mark.parametrize(
    "request_, line, body, response",
    [
        (CREATE(**SPEC), "POST /pipelines", {**SPEC, "parallelism": 1}, PIPELINE),
        (CREATE(**FULL), "POST /pipelines", FULL_BODY, PIPELINE),
        (
            api.put_pipeline("a/b c", **SPEC),
            "PUT /pipelines/a%2Fb%20c",
            {**SPEC, "parallelism": 1},
            {**PIPELINE, "id": "a/b c"},
        ),
        (PATCH("pl_1", stop="checkpoint"), "PATCH /pipelines/pl_1", {"stop": "checkpoint"}, PIPELINE),
        (PATCH("pl_1", stop=StopMode.NONE), "PATCH /pipelines/pl_1", {"stop": "none"}, PIPELINE),
        (PATCH("pl_1"), "PATCH /pipelines/pl_1", {}, PIPELINE),
        (
            PATCH("pl_1", **PATCH_ALL),
            "PATCH /pipelines/pl_1",
            {**EMPTY_MAPS, "parallelism": 2, "checkpoint_interval_micros": 86_400_000_000},
            PIPELINE,
        ),
        (api.restart_pipeline("pl_1"), "POST /pipelines/pl_1/restart", {}, PIPELINE),
        (
            api.restart_pipeline("pl_1", force=True, ignore_state=True),
            "POST /pipelines/pl_1/restart",
            {"force": True, "ignore_state": True},
            PIPELINE,
        ),
        (api.preview_query("SELECT 1"), "POST /pipelines/preview", {"query": "SELECT 1"}, PIPELINE),
        (
            api.preview_query("SELECT 1", udfs=[UDF], enable_sinks=True),
            "POST /pipelines/preview",
            {"query": "SELECT 1", "udfs": [UDF.to_api()], "enable_sinks": True},
            PIPELINE,
        ),
        *(
            (api.get_pipeline(name), f"GET /pipelines/{escaped}", None, {**PIPELINE, "id": name})
            for name, escaped in (
                ("é/%2F?#☃", "%C3%A9%2F%252F%3F%23%E2%98%83"),
                ("x" * 300, "x" * 300),
                ("...", "..."),
            )
        ),
        (
            api.validate_query(""),
            "POST /pipelines/validate_query",
            {"query": ""},
            {"errors": [], "graph": None},
        ),
        (api.list_pipelines(), "GET /pipelines", None, LIST),
        (
            api.list_pipelines(limit=5, starting_after="a/b c&d=é"),
            "GET /pipelines?limit=5&starting_after=a%2Fb%20c%26d%3D%C3%A9",
            None,
            LIST,
        ),
        (api.list_jobs(), "GET /jobs", None, LIST),
        (
            api.list_operator_checkpoints("p", "j/1", 7),
            "GET /pipelines/p/jobs/j%2F1/checkpoints/7/operator_checkpoint_groups",
            None,
            LIST,
        ),
        (
            catalog.create_udf(**UDF_FIELDS),
            "POST /udfs",
            UDF_FIELDS,
            {"id": "u_1", "name": "f", "definition": "fn f() {}"},
        ),
        (catalog.delete_udf("u/1"), "DELETE /udfs/u%2F1", None, None),
        (
            catalog.create_connection_table(**TABLE),
            "POST /connection_tables",
            TABLE,
            {"id": "ct_1", "name": "t", "connector": "impulse", "table_type": "source"},
        ),
        (catalog.delete_connection_table("ct 1"), "DELETE /connection_tables/ct%201", None, None),
        (catalog.delete_connection_profile("cp_1"), "DELETE /connection_profiles/cp_1", None, None),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Request) else "",
)
def test_each_request_is_sent_as_documented(
    request_: Request[Any], line: str, body: Any, response: Any, client: ArroyoClient, server: Server
) -> None:
    server.play(reply(response), *(reply({"error": words}, 404) for words in request_.gone[:1]))
    client.send(request_)
    received = server.requests[0]
    assert len(server.requests) == (2 if request_.method == "DELETE" else 1)
    assert f"{received.method} {received.target}" == line.replace(" ", " /api/v1", 1)
    if body is None:
        assert received.body == b""
        assert "content-type" not in received.headers
    else:
        assert received.json == body
        assert received.headers["content-type"] == "application/json"


def test_headers(connect: Connect, server: Server) -> None:
    server.play(reply("Pong"))
    connect(server.url(), api_key="k", headers={"X-Org": "blue", "authorization": "Basic x"}).ping()
    headers = server.requests[0].headers
    assert headers["user-agent"] == f"airflow-provider-arroyo/{__version__}"
    assert headers["authorization"] == "Bearer k"
    assert headers["x-org"] == "blue"
    assert headers["accept"].startswith("application/json")


def test_base_path(connect: Connect, server: Server) -> None:
    server.play(reply("Pong"))
    connect(server.url() + "/gate/arroyo").ping()
    assert server.requests[0].target == "/gate/arroyo/api/v1/ping"


def test_compressed_response(client: ArroyoClient, server: Server) -> None:
    server.play(reply(gzip.compress(b'{"data": []}'), headers={"content-encoding": "gzip"}))
    assert list(client.list_jobs()) == []


def test_chunked_response_keeps_the_connection(client: ArroyoClient, server: Server) -> None:
    server.play(
        Reply(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            b'6\r\n{"data\r\n6\r\n": []}\r\n0\r\n\r\n'
        )
    )
    for _ in range(3):
        assert list(client.list_jobs()) == []
    assert server.connections == 1


def test_the_newest_job_is_returned(client: ArroyoClient, server: Server) -> None:
    jobs = [{"id": name, "state": "Running", "run_id": 1} for name in ("job_2", "job_1")]
    server.play(reply({"data": jobs}), reply(LIST))
    job = client.get_job("pl_1")
    assert job is not None
    assert job.id == "job_2"
    assert client.get_job("pl_1") is None
    assert server.requests[0].target == "/api/v1/pipelines/pl_1/jobs"


@pytest.mark.parametrize("wrong", [{"id": ""}, {"id": ".."}, {"state": " "}])
def test_a_job_without_id_or_state_is_not_arroyos(
    client: ArroyoClient, server: Server, wrong: dict[str, str]
) -> None:
    server.play(reply({"data": [{"id": "job_1", "state": "Running", "run_id": 1, **wrong}]}))
    with pytest.raises(ArroyoError, match=rf"something that is not Arroyo's \({next(iter(wrong))} must"):
        client.with_limits(max_elapsed_seconds=0.0).get_job("pl_1")


def test_every_endpoint_is_a_method_of_the_client() -> None:
    # The stream has a method that yields it as it arrives.
    makers = {
        name: make
        for module in (api, catalog)
        for name, make in inspect.getmembers(module, inspect.isfunction)
        if make.__module__ == module.__name__ and not name.startswith("_") and name != "output"
    }
    assert len(makers) == 27
    for name, make in makers.items():
        method = getattr(ArroyoClient, name)
        assert method.__doc__ == make.__doc__, name
        first, *others = inspect.signature(method).parameters.values()
        assert (first.name, others) == ("self", [*inspect.signature(make).parameters.values()]), name


def test_methods_send_their_requests(client: ArroyoClient, server: Server) -> None:
    server.play(reply(PIPELINE))
    assert client.get_pipeline("pl_1").id == "pl_1"
    assert client.patch_pipeline("pl_1", stop="none").id == "pl_1"
    assert client.put_pipeline("pl_1", **SPEC).id == "pl_1"
    assert [request.method for request in server.requests] == ["GET", "PATCH", "PUT"]


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: api.get_pipeline(""), "pipeline_id"),
        (lambda: api.get_pipeline("."), "pipeline_id"),
        (lambda: api.put_pipeline("..", **FULL), "pipeline_id"),
        (lambda: api.list_checkpoints("pl_1", " "), "job_id"),
        (lambda: api.list_pipelines(limit=0), "limit"),
        (lambda: CREATE(name=" ", query="SELECT 1"), "name"),
        (lambda: CREATE(name="orders", query=""), "query"),
        (lambda: PATCH("pl_1", stop="softly"), "none, checkpoint, graceful, immediate, force"),
        (lambda: PATCH("pl_1", parallelism=0), "parallelism"),
        (lambda: PATCH("pl_1", checkpoint_interval=timedelta(0)), "checkpoint_interval"),
        (lambda: PATCH("pl_1", env_vars={"A": 1}), "env_vars"),  # type: ignore[dict-item]  # the wrong type
        (lambda: CREATE(**{**SPEC, "env_vars": {"A": 1}}), "env_vars"),
        (lambda: CREATE(**{**SPEC, "tags": {"A": 1}}), "tags"),
        (lambda: api.put_pipeline("pl_1", **{**SPEC, "tags": ["A"]}), "tags"),
        (lambda: api.preview_query(" "), "query"),
        (lambda: catalog.create_udf(prefix="/", definition=""), "definition"),
        (lambda: catalog.create_connection_table(name="", connector="x", config={}), "name"),
        (lambda: catalog.create_connection_profile(name="x", connector="", config={}), "connector"),
    ],
)
def test_invalid_arguments_are_named(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        make()


@pytest.mark.parametrize(
    "request_, what",
    [
        (PATCH("pl_1", scheduler_config={"x": "\ud800"}), "not a valid character"),
        (PATCH("pl_1", scheduler_config={"x": object()}), "JSON"),
        (PATCH("pl_1", scheduler_config={"x": float("nan")}), "JSON"),
    ],
)
def test_bodies_that_cannot_be_encoded_are_refused(
    request_: Request[Any], what: str, client: ArroyoClient, server: Server
) -> None:
    server.play(reply(PIPELINE))
    with pytest.raises(ValueError, match=what):
        client.send(request_)
    assert server.requests == []
