"""What each call sends, over real HTTP, the same from both clients."""

from __future__ import annotations

import gzip
import inspect
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo import __version__
from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec, Udf
from tests.arroyo.conftest import Connect, Driver
from tests.arroyo.server import Reply, Server, reply

PIPELINE = {"id": "pl_1", "name": "orders", "query": "SELECT 1", "stop": "none", "graph": {}}
UDF = Udf("fn f() {}", "rust")
FULL = PipelineSpec(
    name="orders",
    query="SELECT 1",
    parallelism=4,
    checkpoint_interval=timedelta(seconds=10),
    udfs=(UDF, Udf("def g(): ...")),
    tags={"team": "data", "empty": ""},
    env_vars={"A": "1"},
    scheduler_config={"kubernetes-scheduler": {"namespace": "x"}},
)


@pytest.mark.parametrize(
    "call, request_line, body",
    [
        (
            api.create_pipeline(PipelineSpec(name="orders", query="SELECT 1")),
            "POST /pipelines",
            {"name": "orders", "query": "SELECT 1", "parallelism": 1},
        ),
        (
            api.create_pipeline(FULL, state_url="s3://bucket/x"),
            "POST /pipelines",
            {
                "name": "orders",
                "query": "SELECT 1",
                "parallelism": 4,
                "checkpoint_interval_micros": 10_000_000,
                "udfs": [{"definition": "fn f() {}", "language": "rust"}, {"definition": "def g(): ..."}],
                "tags": {"team": "data", "empty": ""},
                "env_vars": {"A": "1"},
                "scheduler_config": {"kubernetes-scheduler": {"namespace": "x"}},
                "state_url": "s3://bucket/x",
            },
        ),
        (
            api.put_pipeline("a/b c", PipelineSpec(name="orders", query="SELECT 1")),
            "PUT /pipelines/a%2Fb%20c",
            {"name": "orders", "query": "SELECT 1", "parallelism": 1},
        ),
        (api.patch_pipeline("pl_1", stop="checkpoint"), "PATCH /pipelines/pl_1", {"stop": "checkpoint"}),
        (api.patch_pipeline("pl_1", stop=StopMode.NONE), "PATCH /pipelines/pl_1", {"stop": "none"}),
        (api.patch_pipeline("pl_1"), "PATCH /pipelines/pl_1", {}),
        (
            api.patch_pipeline(
                "pl_1",
                parallelism=2,
                checkpoint_interval=timedelta(hours=24),
                env_vars={},
                scheduler_config={},
            ),
            "PATCH /pipelines/pl_1",
            {
                "parallelism": 2,
                "checkpoint_interval_micros": 86_400_000_000,
                "env_vars": {},
                "scheduler_config": {},
            },
        ),
        (api.restart_pipeline("pl_1"), "POST /pipelines/pl_1/restart", {}),
        (
            api.restart_pipeline("pl_1", force=True, ignore_state=True),
            "POST /pipelines/pl_1/restart",
            {"force": True, "ignore_state": True},
        ),
        (api.preview("SELECT 1"), "POST /pipelines/preview", {"query": "SELECT 1"}),
        (
            api.preview("SELECT 1", udfs=[UDF], enable_sinks=True),
            "POST /pipelines/preview",
            {
                "query": "SELECT 1",
                "udfs": [{"definition": "fn f() {}", "language": "rust"}],
                "enable_sinks": True,
            },
        ),
        (api.get_pipeline("pl_1"), "GET /pipelines/pl_1", None),
        (api.get_pipeline("é/%2F?#☃"), "GET /pipelines/%C3%A9%2F%252F%3F%23%E2%98%83", None),
        (api.get_pipeline("x" * 300), "GET /pipelines/" + "x" * 300, None),
        (api.get_pipeline("..."), "GET /pipelines/...", None),
    ],
)
def test_what_is_sent(call: Call[Any], request_line: str, body: Any, client: Driver, server: Server) -> None:
    server.play(reply(PIPELINE))
    client.call(call)
    method, path = request_line.split(" ", 1)
    request = server.requests[0]
    assert (request.method, request.target) == (method, f"/api/v1{path}")
    if body is None:
        assert request.body == b""
        assert "content-type" not in request.headers
    else:
        assert request.json == body
        assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "call, request_line, body, answer",
    [
        (api.validate_query(""), "POST /pipelines/validate_query", {"query": ""}, {"errors": []}),
        (api.list_pipelines(), "GET /pipelines", None, {"data": []}),
        (
            api.list_pipelines(limit=5, starting_after="pl_2"),
            "GET /pipelines?limit=5&starting_after=pl_2",
            None,
            {"data": []},
        ),
        (api.list_jobs(), "GET /jobs", None, {"data": []}),
        (
            api.operator_checkpoints("p", "j/1", 7),
            "GET /pipelines/p/jobs/j%2F1/checkpoints/7/operator_checkpoint_groups",
            None,
            {"data": []},
        ),
        (
            api.create_udf(prefix="/", definition="fn f() {}", language="rust", description="d"),
            "POST /udfs",
            {"prefix": "/", "definition": "fn f() {}", "language": "rust", "description": "d"},
            {"id": "u_1", "name": "f", "definition": "fn f() {}"},
        ),
        (api.delete_udf("u/1"), "DELETE /udfs/u%2F1", None, None),
        (
            api.create_connection_table(
                name="t", connector="impulse", config={"rate": 1}, connection_profile_id="cp_1", schema={}
            ),
            "POST /connection_tables",
            {
                "name": "t",
                "connector": "impulse",
                "config": {"rate": 1},
                "connection_profile_id": "cp_1",
                "schema": {},
            },
            {"id": "ct_1", "name": "t", "connector": "impulse", "table_type": "source"},
        ),
        (api.delete_connection_table("ct 1"), "DELETE /connection_tables/ct%201", None, None),
        (api.delete_connection_profile("cp_1"), "DELETE /connection_profiles/cp_1", None, None),
    ],
)
def test_what_rarer_calls_send(
    call: Call[Any], request_line: str, body: Any, answer: Any, client: Driver, server: Server
) -> None:
    server.play(reply(answer))
    client.call(call)
    request = server.requests[0]
    assert f"{request.method} {request.target}" == request_line.replace(" ", " /api/v1", 1)
    assert (request.json if request.body else None) == body


def test_headers(connect: Connect, server: Server) -> None:
    server.play(reply("Pong"))
    connect(server.url(), api_key="k", headers={"X-Org": "blue", "authorization": "Basic x"}).call(api.ping())
    headers = server.requests[0].headers
    assert headers["user-agent"] == f"airflow-provider-arroyo/{__version__}"
    assert headers["authorization"] == "Bearer k"
    assert headers["x-org"] == "blue"
    assert headers["accept"].startswith("application/json")


def test_base_path(connect: Connect, server: Server) -> None:
    server.play(reply("Pong"))
    connect(server.url() + "/gate/arroyo").call(api.ping())
    assert server.requests[0].target == "/gate/arroyo/api/v1/ping"


def test_compressed_answer(client: Driver, server: Server) -> None:
    body = gzip.compress(b'{"data": []}')
    server.play(reply(body, headers={"content-encoding": "gzip"}))
    assert client.call(api.list_jobs()) == ()


def test_chunked_answer_keeps_the_connection(client: Driver, server: Server) -> None:
    server.play(
        Reply(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            b'6\r\n{"data\r\n6\r\n": []}\r\n0\r\n\r\n'
        )
    )
    for _ in range(3):
        assert client.call(api.list_jobs()) == ()
    assert server.connections == 1


# -- pages ---------------------------------------------------------------------------------------------------------


def pipelines(*ids: str, more: bool) -> Any:
    # As old as their place in the alphabet says.
    data = [{**PIPELINE, "id": one, "created_at": 1000 - ord(one[0])} for one in ids]
    return reply({"data": data, "hasMore": more})


def test_pages_are_followed(client: Driver, server: Server) -> None:
    """Each begins with the last of the one before, whose date others may have that were not on it."""
    server.play(
        pipelines("a", "b/x", "c", more=True), pipelines("c", "d", "e", more=True), pipelines("e", more=False)
    )
    found = client.first_items(api.list_pipelines(limit=3), 100)
    assert [pipeline.id for pipeline in found] == ["a", "b/x", "c", "d", "e"]
    assert [request.target.partition("?")[2] for request in server.requests] == [
        "limit=3",
        "limit=3&starting_after=b%2Fx",
        "limit=3&starting_after=d",
    ]


def test_pages_are_asked_for_when_they_are_needed(client: Driver, server: Server) -> None:
    server.play(pipelines("a", "b", more=True))
    assert len(client.first_items(api.list_pipelines(limit=2), 1)) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [pipelines(more=True), pipelines("a", more=True)])
def test_pages_that_do_not_move_on_come_to_an_end(answer: Any, client: Driver, server: Server) -> None:
    server.play(answer)
    client.first_items(api.list_pipelines(), 100)
    assert len(server.requests) <= 2


@pytest.mark.parametrize("name", ["iter_pipelines", "iter_connection_tables"])
def test_iterators_ask_for_large_pages(name: str, server: Server) -> None:
    server.play(reply({"data": [], "hasMore": False}))
    with ArroyoClient(ClientSettings(base_url=server.url())) as client:
        assert list(getattr(client, name)(page_size=50)) == []
        assert list(client.iter_job_errors("p", "j", page_size=7)) == []
    assert [request.target.partition("?")[2] for request in server.requests] == ["limit=50", "limit=7"]


# -- the clients' methods ------------------------------------------------------------------------------------------

CALLS = [
    name
    for name in api.__all__
    # A page after a page is no call of its own, and the stream has a method that reads it as it comes.
    if inspect.isfunction(getattr(api, name)) and name not in ("next_page", "output")
]


def test_every_call_is_a_method_of_both_clients() -> None:
    assert len(CALLS) == 27
    for name in CALLS:
        for client in (ArroyoClient, ArroyoAsyncClient):
            assert getattr(client, name).__doc__ == getattr(api, name).__doc__, name


def test_methods_make_their_calls(client: Driver, server: Server) -> None:
    server.play(reply(PIPELINE))
    assert client.method("get_pipeline", "pl_1").id == "pl_1"
    assert client.method("patch_pipeline", "pl_1", stop="none").id == "pl_1"
    assert [request.method for request in server.requests] == ["GET", "PATCH"]


# -- bad arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: api.get_pipeline(""), "pipeline_id"),
        (lambda: api.get_pipeline("."), "pipeline_id"),
        (lambda: api.put_pipeline("..", FULL), "pipeline_id"),
        (lambda: api.checkpoints("pl_1", " "), "job_id"),
        (lambda: api.list_pipelines(limit=0), "limit"),
        (lambda: api.patch_pipeline("pl_1", stop="softly"), "none, checkpoint, graceful, immediate, force"),
        (lambda: api.patch_pipeline("pl_1", parallelism=0), "parallelism"),
        (lambda: api.patch_pipeline("pl_1", checkpoint_interval=timedelta(0)), "checkpoint_interval"),
        (lambda: api.patch_pipeline("pl_1", env_vars={"A": 1}), "env_vars"),  # type: ignore[dict-item]  # is the point
        (lambda: api.preview(" "), "query"),
        (lambda: api.create_udf(prefix="/", definition=""), "definition"),
        (lambda: api.create_connection_table(name="", connector="x", config={}), "name"),
        (lambda: api.create_connection_profile(name="x", connector="", config={}), "connector"),
    ],
)
def test_bad_arguments_are_named(make: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        make()


@pytest.mark.parametrize(
    "call, what",
    [
        (api.preview("SELECT '\ud800'"), "not a valid character"),
        (api.patch_pipeline("pl_1", scheduler_config={"x": object()}), "JSON"),
        (api.patch_pipeline("pl_1", scheduler_config={"x": float("nan")}), "JSON"),
    ],
)
def test_bodies_that_cannot_be_sent(call: Call[Any], what: str, client: Driver, server: Server) -> None:
    server.play(reply(PIPELINE))
    with pytest.raises(ValueError, match=what):
        client.call(call)
    assert server.requests == []
