"""Every answer that was recorded from a real server, of both versions, read over real HTTP by both clients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.details import MetricGroup, OutputBatch
from airflow_provider_arroyo.arroyo.models import JobState, StopMode
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoAuthError
from tests.arroyo.conftest import Driver
from tests.arroyo.server import Server, reply

DATA = Path(__file__).parent.parent / "data" / "arroyo"
VERSIONS = ("0.15.0", "0.16-dev")
SPEC = PipelineSpec(name="x", query="SELECT 1")

Made = Callable[..., Call[Any]]

CALLS: tuple[tuple[str, str, Made], ...] = (
    ("GET", r"/ping", api.ping),
    ("POST", r"/pipelines/validate_query", lambda: api.validate_query("SELECT 1")),
    ("POST", r"/pipelines/preview", lambda: api.preview("SELECT 1")),
    ("POST", r"/pipelines", lambda: api.create_pipeline(SPEC)),
    ("GET", r"/pipelines", api.list_pipelines),
    ("PUT", r"/pipelines/([^/]+)", lambda one: api.put_pipeline(one, SPEC)),
    ("GET", r"/pipelines/([^/]+)", api.get_pipeline),
    ("PATCH", r"/pipelines/([^/]+)", lambda one: api.patch_pipeline(one, stop=StopMode.NONE)),
    ("DELETE", r"/pipelines/([^/]+)", api.delete_pipeline),
    ("POST", r"/pipelines/([^/]+)/restart", api.restart_pipeline),
    ("GET", r"/pipelines/([^/]+)/jobs", api.pipeline_jobs),
    ("GET", r"/jobs", api.list_jobs),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/errors", api.job_errors),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/checkpoints", api.checkpoints),
    (
        "GET",
        r"/pipelines/([^/]+)/jobs/([^/]+)/checkpoints/(\d+)/operator_checkpoint_groups",
        lambda pipeline, job, epoch: api.operator_checkpoints(pipeline, job, int(epoch)),
    ),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/operator_metric_groups", api.metrics),
    ("GET", r"/pipelines/([^/]+)/jobs/([^/]+)/output", api.output),
    ("GET", r"/udfs", api.list_udfs),
    ("POST", r"/udfs/validate", lambda: api.validate_udf("fn f() {}")),
    ("GET", r"/connectors", api.list_connectors),
    ("GET", r"/connection_tables", api.list_connection_tables),
    (
        "POST",
        r"/connection_tables",
        lambda: api.create_connection_table(name="t", connector="impulse", config={}),
    ),
    ("DELETE", r"/connection_tables/([^/]+)", api.delete_connection_table),
    ("GET", r"/connection_profiles", api.list_connection_profiles),
    (
        "POST",
        r"/connection_profiles",
        lambda: api.create_connection_profile(name="p", connector="kafka", config={}),
    ),
    ("DELETE", r"/connection_profiles/([^/]+)", api.delete_connection_profile),
)

NOT_CALLS = ("GET /api/v1/nope", "PUT /api/v1/ping", "GET /pipelines/pl_x")
"""What was asked to see how a server answers what it does not know."""


def exchanges(version: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((DATA / version).glob("*.json")):
        recorded = json.loads(path.read_text())
        # The stream of a preview has a form of its own.
        if isinstance(recorded, list):
            for exchange in recorded:
                yield path.stem, exchange


def call_for(request: dict[str, Any]) -> Call[Any] | None:
    """Return the call that makes such a request."""
    if f"{request['method']} {request['path']}" in NOT_CALLS:
        return None
    path = urlsplit(request["path"]).path.removeprefix("/api/v1")
    for method, pattern, make in CALLS:
        if method == request["method"] and (found := re.fullmatch(pattern, path)):
            return make(*(unquote(part) for part in found.groups()))
    raise AssertionError(f"no call of the API fits {request['method']} {request['path']}")


def as_reply(response: dict[str, Any]) -> Any:
    body = response["body"]
    if response["body_kind"] == "text" or body is None:
        return reply(body or None, response["status"], content_type="text/plain; charset=utf-8")
    return reply(body, response["status"])


def refusal(client: Driver, call: Call[Any]) -> ArroyoApiError:
    with pytest.raises(ArroyoApiError) as caught:
        client.call(call)
    return caught.value


def test_there_is_a_recording_of_both_versions() -> None:
    assert [len({name for name, _ in exchanges(version)}) for version in VERSIONS] == [9, 15]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_answer_is_read(version: str, client: Driver, server: Server) -> None:
    read = 0
    for name, exchange in exchanges(version):
        call = call_for(exchange["request"])
        if call is None:
            continue
        where = f"{name}: {exchange['note']}"
        response = exchange["response"]
        server.play(as_reply(response))
        asked = len(server.requests)
        if response["status"] == 200:
            value = client.call(call)
            assert (value is None) == (call.method == "DELETE" or call.path == "/ping"), where
        else:
            body = response["body"]
            words = body["error"] if isinstance(body, dict) else body or ""
            error = refusal(client, call)
            assert error.status == response["status"], where
            assert error.server_message == words.strip(), where
            assert words[:40].split("\n")[0] in str(error), where
            assert isinstance(error, ArroyoAuthError) == (response["status"] == 401), where
        request = server.requests[asked]
        assert request.method == exchange["request"]["method"], where
        assert urlsplit(request.target).path == urlsplit(exchange["request"]["path"]).path, where
        read += 1
    assert read > 90


def answers_to(version: str, method: str, pattern: str) -> Iterator[tuple[Call[Any], dict[str, Any]]]:
    for _, exchange in exchanges(version):
        request, response = exchange["request"], exchange["response"]
        path = urlsplit(request["path"]).path.removeprefix("/api/v1")
        if request["method"] == method and re.fullmatch(pattern, path) and response["status"] == 200:
            call = call_for(request)
            assert call is not None
            yield call, response["body"]


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_are_what_the_server_said(version: str, client: Driver, server: Server) -> None:
    states, failures = set(), set()
    for call, body in answers_to(version, "GET", r"/pipelines/[^/]+/jobs"):
        server.play(reply(body))
        jobs = client.call(call)
        for job, raw in zip(jobs, body["data"], strict=True):
            assert (job.id, job.state, job.run_id) == (raw["id"], raw["state"], raw["run_id"])
            assert job.running_desired is raw["running_desired"]
            assert job.pipeline_id == raw.get("pipeline_id")
            assert (job.pipeline_id is None) == (version == "0.15.0")
            states.add(JobState(job.state))
            if job.failure:
                failures.add((job.failure.error[:20], job.failure.domain))
    assert {JobState.RUNNING, JobState.FINISHED, JobState.FAILED} <= states
    expected = ("Job has restarted to", None) if version == "0.15.0" else ("error in connector: ", "user")
    assert expected in failures


@pytest.mark.parametrize("version", VERSIONS)
def test_pipelines_are_what_the_server_said(version: str, client: Driver, server: Server) -> None:
    seen = 0
    for call, body in answers_to(version, "GET", r"/pipelines/[^/]+"):
        server.play(reply(body))
        pipeline = client.call(call)
        assert (pipeline.id, pipeline.name, pipeline.query) == (body["id"], body["name"], body["query"])
        assert pipeline.tags == (body.get("tags") or {})
        assert [node.node_id for node in pipeline.graph.nodes] == [
            n["node_id"] for n in body["graph"]["nodes"]
        ]
        assert pipeline.checkpoint_interval_micros == body["checkpoint_interval_micros"]
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints_are_what_the_server_said(version: str, client: Driver, server: Server) -> None:
    types, finished = set(), 0
    for call, body in answers_to(version, "GET", r"/pipelines/[^/]+/jobs/[^/]+/checkpoints"):
        server.play(reply(body))
        for checkpoint, raw in zip(client.call(call), body["data"], strict=True):
            assert (checkpoint.epoch, checkpoint.finish_time_micros) == (raw["epoch"], raw["finish_time"])
            types.add(checkpoint.checkpoint_type)
            finished += checkpoint.is_finished
    assert types == ({None} if version == "0.15.0" else {"scheduled", "stopping"})
    assert finished > 10


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics_are_what_the_server_said(version: str, client: Driver, server: Server) -> None:
    def total(groups: tuple[MetricGroup, ...], name: str) -> float:
        return sum(m.value for g in groups if g.name == name for s in g.subtasks for m in s.metrics)

    sent = []
    for call, body in answers_to(version, "GET", r".*/operator_metric_groups"):
        server.play(reply(body))
        operators = client.call(call)
        assert [operator.node_id for operator in operators] == [raw["node_id"] for raw in body["data"]]
        sent.append(max(total(operator.metric_groups, "messages_sent") for operator in operators))
    assert max(sent) > 1000


@pytest.mark.parametrize("version", VERSIONS)
def test_validations_are_what_the_server_said(version: str, client: Driver, server: Server) -> None:
    places = set()
    for call, body in answers_to(version, "POST", r"/pipelines/validate_query"):
        server.play(reply(body))
        validation = client.call(call)
        assert validation.is_valid == (not body["errors"])
        assert (validation.graph is None) == (body["graph"] is None)
        assert len(validation.errors) == len(body["errors"])
        places |= {(d.line, d.column, d.end_column) for d in validation.errors}
    # The place that 0.15 has is in the text of the message.
    assert places == (
        {(None, None, None)} if version == "0.15.0" else {(1, 18, 25), (3, 25, 33), (None,) * 3}
    )


def test_stream_of_a_preview(client: Driver, server: Server) -> None:
    recorded = json.loads((DATA / "0.16-dev" / "preview_output_sse.json").read_text())
    server.play(reply(recorded["body"], content_type="text/event-stream", then="close"))
    batches = client.stream("pl_6HDUPZdFR7", "job_eVaJjfXHLC")
    events = [line for line in recorded["body"].splitlines() if line.startswith("data: ")]
    complete = events if recorded["body"].endswith("\n\n") else events[:-1]
    assert [batch.start_id for batch in batches] == [json.loads(event[6:])["start_id"] for event in complete]
    first = batches[0]
    assert first == OutputBatch("sink_preview_4", 0, (1795573403221560,), 4, '[{"counter":4,"d":8}]')
    assert client.call(api.output("pl_6HDUPZdFR7", "job_eVaJjfXHLC")) == tuple(batches)


def test_every_query_string_that_was_recorded_can_be_made() -> None:
    seen = set()
    for version in VERSIONS:
        for _, exchange in exchanges(version):
            query = parse_qs(urlsplit(exchange["request"]["path"]).query)
            seen |= set(query)
    assert seen == {"limit", "starting_after"}
    call = api.list_pipelines(limit=2, starting_after="a/b c&d=é")
    assert call.target == "/pipelines?limit=2&starting_after=a%2Fb%20c%26d%3D%C3%A9"
