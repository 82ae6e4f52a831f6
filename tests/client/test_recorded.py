"""Every response that was recorded from real servers of both versions, read over real HTTP."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_provider_arroyo.client import catalog, endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import MetricGroup, OutputBatch
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoNotFoundError,
    Disposition,
)
from tests.client.conftest import ONCE, SPEC, Connect
from tests.client.server import CLOSE, Reply, Server, reply

DATA = Path(__file__).parent.parent / "data" / "arroyo"
VERSIONS = ("0.15.0", "0.16-dev")
REQUESTS: tuple[tuple[str, str, Callable[..., Request[Any]]], ...] = (
    ("GET", r"/ping", endpoints.ping),
    ("POST", r"/pipelines/validate_query", lambda: endpoints.validate_query("SELECT 1")),
    ("POST", r"/pipelines/preview", lambda **sent: endpoints.preview_query(sent["query"])),
    ("POST", r"/pipelines", lambda **sent: endpoints.create_pipeline(**sent)),
    ("GET", r"/pipelines", endpoints.list_pipelines),
    ("PUT", r"/pipelines/([^/]+)", lambda one: endpoints.put_pipeline(one, **SPEC)),
    ("GET", r"/pipelines/([^/]+)", endpoints.get_pipeline),
    ("PATCH", r"/pipelines/([^/]+)", lambda one: endpoints.patch_pipeline(one, stop=StopMode.NONE)),
    ("DELETE", r"/pipelines/([^/]+)", endpoints.delete_pipeline),
    ("POST", r"/pipelines/([^/]+)/restart", endpoints.restart_pipeline),
    ("GET", r"/pipelines/([^/]+)/jobs", endpoints.get_job),
    ("GET", r"/jobs", endpoints.list_jobs),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/errors", endpoints.list_job_errors),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/checkpoints", endpoints.list_checkpoints),
    (
        "GET",
        r"/pipelines/([^/]+)/jobs/([^/]+)/checkpoints/(\d+)/operator_checkpoint_groups",
        lambda pipeline, job, epoch: endpoints.list_operator_checkpoints(pipeline, job, int(epoch)),
    ),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/operator_metric_groups", endpoints.list_metrics),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/output", endpoints.output),
    ("GET", r"/udfs", catalog.list_udfs),
    ("POST", r"/udfs/validate", lambda: catalog.validate_udf("fn f() {}")),
    ("GET", r"/connectors", catalog.list_connectors),
    ("GET", r"/connection_tables", catalog.list_connection_tables),
    (
        "POST",
        r"/connection_tables",
        lambda **sent: catalog.create_connection_table(name=sent["name"], connector="impulse", config={}),
    ),
    ("DELETE", r"/connection_tables/([^/]+)", catalog.delete_connection_table),
    ("GET", r"/connection_profiles", catalog.list_connection_profiles),
    (
        "POST",
        r"/connection_profiles",
        lambda **sent: catalog.create_connection_profile(name=sent["name"], connector="kafka", config={}),
    ),
    ("DELETE", r"/connection_profiles/([^/]+)", catalog.delete_connection_profile),
)

UNKNOWN = ("GET /api/v1/nope", "PUT /api/v1/ping", "GET /pipelines/pl_x")
"""Requests that were recorded to see how a server responds to unknown objects."""


def recorded(version: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((DATA / version).glob("*.json")):
        content = json.loads(path.read_text())
        # The stream of a preview has another format.
        if isinstance(content, list):
            for exchange in content:
                yield path.stem, exchange


def request_for(sent: dict[str, Any]) -> Request[Any] | None:
    """Return our request that corresponds to a recorded one; None if we never send it."""
    if f"{sent['method']} {sent['path']}" in UNKNOWN:
        return None
    path = urlsplit(sent["path"]).path.removeprefix("/api/v1")
    for method, pattern, make in REQUESTS:
        if method == sent["method"] and (found := re.fullmatch(pattern, path)):
            # Arroyo returns name and SQL as they were sent, which the client checks.
            body = sent["body"] if isinstance(sent["body"], dict) else {}
            texts = {name: body[name] for name in SPEC if body.get(name) and isinstance(body[name], str)}
            given = {**SPEC, **texts} if inspect.signature(make).parameters.keys() == {"sent"} else {}
            return make(*(unquote(part) for part in found.groups()), **given)
    raise AssertionError(f"no request of ours is like {sent['method']} {sent['path']}")


def as_reply(response: dict[str, Any]) -> Reply:
    if response["status"] is None:
        return CLOSE
    body = response["body"]
    headers = {name: value for name, value in response["headers"].items() if name == "allow"}
    if response["body_kind"] == "text" or body is None:
        return reply(
            body or None, response["status"], content_type="text/plain; charset=utf-8", headers=headers
        )
    return reply(body, response["status"], headers=headers)


def responses_to(version: str, method: str, pattern: str) -> Iterator[tuple[Request[Any], dict[str, Any]]]:
    """Yield our request and the body of each successful response to such requests."""
    for _, exchange in recorded(version):
        sent, response = exchange["request"], exchange["response"]
        path = urlsplit(sent["path"]).path.removeprefix("/api/v1")
        if sent["method"] == method and re.fullmatch(pattern, path) and response["status"] == 200:
            request = request_for(sent)
            assert request is not None
            yield request, response["body"]


@pytest.fixture
def client(connect: Connect, server: Server) -> ArroyoClient:
    return connect(server.url(), limits=ONCE)


def test_there_is_a_recording_of_both_versions() -> None:
    assert [len({name for name, _ in recorded(version)}) for version in VERSIONS] == [11, 17]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_response_is_read(version: str, client: ArroyoClient, server: Server) -> None:
    read = proofs = 0
    for name, exchange in recorded(version):
        request = request_for(exchange["request"])
        if request is None:
            continue
        where = f"{name}: {exchange['note']}"
        response = exchange["response"]
        # A delete is verified by a read, and what is gone counts as such only if a second response says so.
        server.play(as_reply(response), *(reply({"error": words}, 404) for words in request.gone[:1]))
        sent_before = len(server.requests)
        # Otherwise, the client would find out that the SQL breaks the connection.
        server.ping = CLOSE if request.has_sql else None
        if response["status"] is None:
            with pytest.raises(ArroyoConnectionError, match="closed the connection before it responded"):
                client.send(request)
        elif response["status"] == 200:
            value = client.send(request).value
            assert (value is None) == (request.method == "DELETE" or request.path == "/ping"), where
        else:
            check_refusal(client, request, response, where)
        received = server.requests[sent_before]
        proofs += len(server.requests) - sent_before - 1
        assert received.method == exchange["request"]["method"], where
        sent = urlsplit(exchange["request"]["path"]).path.removeprefix("/api/v1")
        assert urlsplit(received.target).path == f"/api/v1{sent}", where
        read += 1
    assert len(server.requests) - proofs == read > 90
    assert proofs == (15 if version == "0.15.0" else 19)


def check_refusal(client: ArroyoClient, request: Request[Any], response: dict[str, Any], where: str) -> None:
    status, body = response["status"], response["body"]
    words = body["error"] if isinstance(body, dict) else body or ""
    with pytest.raises(ArroyoApiError) as caught:
        client.send(request)
    error = caught.value
    assert error.status == status, where
    assert error.server_message == words.strip(), where
    assert words[:40].split("\n")[0] in str(error), where
    assert isinstance(error, ArroyoAuthError) == (status == 401), where
    is_gone = status == 404 or words in ("There are no jobs for the pipeline", "No jobs for pipeline")
    assert isinstance(error, ArroyoNotFoundError) == is_gone, where
    is_taken = words.startswith("A record already exists") or words.endswith("already exists")
    assert isinstance(error, ArroyoConflictError) == is_taken, where
    # Arroyo refuses none of the client's read requests; limit=x and limit=0 are never sent.
    is_foreign = words.startswith(("Failed to deserialize query string", "Limit must be greater than 0"))
    assert (error.disposition is Disposition.OUTAGE) == is_foreign, where


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs(version: str, client: ArroyoClient, server: Server) -> None:
    states, failures = set(), set()
    for request, body in responses_to(version, "GET", r"/jobs|/pipelines/[^/]+/jobs"):
        server.play(reply(body))
        jobs = client.list_jobs()
        for job, raw in zip(jobs, body["data"], strict=True):
            assert (job.id, job.state, job.run_id) == (raw["id"], raw["state"], raw["run_id"])
            assert job.running_desired is raw["running_desired"]
            assert job.pipeline_id == raw.get("pipeline_id")
            assert (job.pipeline_id is None) == (version == "0.15.0")
            states.add(JobState(job.state))
            if job.failure:
                failures.add((job.failure.error[:20], job.failure.domain))
        if request.path != "/jobs":
            assert client.send(request).value == jobs[0]
    assert {JobState.RUNNING, JobState.FINISHED, JobState.FAILED} <= states
    expected = ("Job has restarted to", None) if version == "0.15.0" else ("error in connector: ", "user")
    assert expected in failures


@pytest.mark.parametrize("version", VERSIONS)
def test_pipelines(version: str, client: ArroyoClient, server: Server) -> None:
    seen = 0
    for request, body in responses_to(version, "GET", r"/pipelines/[^/]+"):
        server.play(reply(body))
        pipeline = client.send(request).value
        assert (pipeline.id, pipeline.name, pipeline.query) == (body["id"], body["name"], body["query"])
        assert pipeline.tags == (body.get("tags") or {})
        nodes = body["graph"]["nodes"]
        assert [node.node_id for node in pipeline.graph.nodes] == [node["node_id"] for node in nodes]
        assert pipeline.graph.parallelism == max(node["parallelism"] for node in nodes)
        assert pipeline.checkpoint_interval_micros == body["checkpoint_interval_micros"]
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints(version: str, client: ArroyoClient, server: Server) -> None:
    types, finished = set(), 0
    for request, body in responses_to(version, "GET", r"/pipelines/[^/]+/jobs/[^/]+/checkpoints"):
        server.play(reply(body))
        for checkpoint, raw in zip(client.send(request).value, body["data"], strict=True):
            assert (checkpoint.epoch, checkpoint.finish_time_micros) == (raw["epoch"], raw["finish_time"])
            types.add(checkpoint.checkpoint_type)
            finished += checkpoint.is_finished
    assert types == ({None} if version == "0.15.0" else {"scheduled", "stopping"})
    assert finished > 10


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics(version: str, client: ArroyoClient, server: Server) -> None:
    def total(groups: tuple[MetricGroup, ...], name: str) -> float:
        return sum(m.value for g in groups if g.name == name for s in g.subtasks for m in s.metrics)

    sent = []
    for request, body in responses_to(version, "GET", r".*/operator_metric_groups"):
        server.play(reply(body))
        operators = client.send(request).value
        assert [operator.node_id for operator in operators] == [raw["node_id"] for raw in body["data"]]
        sent.append(max(total(operator.metric_groups, "messages_sent") for operator in operators))
    assert max(sent) > 1000


@pytest.mark.parametrize("version", VERSIONS)
def test_validations(version: str, client: ArroyoClient, server: Server) -> None:
    places = set()
    for request, body in responses_to(version, "POST", r"/pipelines/validate_query"):
        server.play(reply(body))
        validation = client.send(request).value
        assert validation.is_valid == (not body["errors"])
        assert (validation.graph is None) == (body["graph"] is None)
        assert len(validation.errors) == len(body["errors"])
        places |= {(d.line, d.column, d.end_column) for d in validation.errors}
    # 0.15 has the place in the text of the message.
    assert places == (
        {(None, None, None)} if version == "0.15.0" else {(1, 18, 25), (3, 25, 33), (None,) * 3}
    )


def test_stream_of_a_preview(client: ArroyoClient, server: Server) -> None:
    body = json.loads((DATA / "0.16-dev" / "preview_output_sse.json").read_text())["body"]
    server.play(reply(body, content_type="text/event-stream"))
    batches = list(client.stream_output("pl_6HDUPZdFR7", "job_eVaJjfXHLC"))
    events = [line for line in body.splitlines() if line.startswith("data: ")]
    complete = events if body.endswith("\n\n") else events[:-1]
    assert [batch.start_id for batch in batches] == [json.loads(event[6:])["start_id"] for event in complete]
    assert batches[0] == OutputBatch(
        operator_id="sink_preview_4",
        subtask_index=0,
        timestamps_micros=(1795573403221560,),
        start_id=4,
        batch='[{"counter":4,"d":8}]',
    )
    assert client.send(endpoints.output("pl_6HDUPZdFR7", "job_eVaJjfXHLC")).value == tuple(batches)


def test_every_recorded_query_string_can_be_made() -> None:
    paths = [exchange["request"]["path"] for version in VERSIONS for _, exchange in recorded(version)]
    assert {name for path in paths for name in parse_qs(urlsplit(path).query)} == {"limit", "starting_after"}
