"""Responses that proxies, caches and meshes have changed: the result is correct or an error."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
    Disposition,
)
from tests.client.conftest import ONCE, PIPELINE, SPEC, Clock, Connect, failure
from tests.client.server import CLOSE, Reply, Server, reply

NAME = "größe"
PIPELINE_IN_GERMAN = {**PIPELINE, "name": NAME}
JOB = {"id": "job_1", "pipeline_id": "pl_1", "state": "Running", "run_id": 1, "running_desired": True}
JOBS = {"data": [JOB]}
PAGE = {"data": [PIPELINE_IN_GERMAN], "hasMore": False}

RIGHT: list[tuple[Request[Any], Any]] = [
    (api.ping(), "Pong"),
    (api.get_pipeline("pl_1"), PIPELINE_IN_GERMAN),
    (api.get_job("pl_1"), JOBS),
    (api.list_jobs(), JOBS),
    (api.list_pipelines(limit=9), PAGE),
    (api.list_pipelines(limit=9, name=NAME), PAGE),
    (api.list_checkpoints("pl_1", "job_1"), {"data": [{"epoch": 1, "start_time": 1, "finish_time": None}]}),
    (api.create_pipeline(name=NAME, query="SELECT 1"), PIPELINE_IN_GERMAN),
    (api.put_pipeline("pl_1", **SPEC), PIPELINE_IN_GERMAN),
    (api.patch_pipeline("pl_1", stop="checkpoint"), PIPELINE_IN_GERMAN),
    (api.restart_pipeline("pl_1"), PIPELINE_IN_GERMAN),
]
"""Requests and the bodies of their responses."""

Trick = Callable[[bytes], tuple[bytes, dict[str, str]]]


def encoded(name: str, encode: Callable[[bytes], bytes] = bytes) -> Trick:
    return lambda body: (encode(body), {"content-encoding": name})


def changed(change: Callable[[bytes], bytes]) -> Trick:
    return lambda body: (change(body), {})


def with_field(field: bytes) -> Trick:
    """Put a field before the others; a body that is not an object becomes one."""
    return changed(lambda body: b"{" + field + (b", " + body[1:] if body[:1] == b"{" else b"}"))


def raw_deflate(body: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(body) + compress.flush()


HARMLESS: dict[str, Trick] = {
    "unchanged": changed(bytes),
    "gzip": encoded("gzip", gzip.compress),
    "x-gzip": encoded("x-gzip", gzip.compress),
    "deflate": encoded("deflate", zlib.compress),
    "deflate without its head": encoded("deflate", raw_deflate),
    "gzip twice": encoded("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    "a byte order mark": changed(lambda body: b"\xef\xbb\xbf" + body),
    "UTF-16": changed(lambda body: body.decode().encode("utf-16")),
    "white space": changed(lambda body: b"\r\n\t " + body + b"\n\n"),
    "escapes": changed(lambda body: json.dumps(json.loads(body)).encode()),
    "a charset that lies": lambda body: (body, {"x-more": "1", "content-type": "text/html; charset=latin-1"}),
    "fresh": lambda body: (body, {"age": "0", "x-cache": "MISS from proxy", "via": "1.1 squid"}),
    "fetched": lambda body: (
        body,
        {"x-cache": "MISS from hit-proxy.example", "cache-status": "e; fwd=stale"},
    ),
    "validated again": lambda body: (body, {"x-cache": "RefreshHit from cloudfront"}),
    "a harmless warning": lambda body: (body, {"warning": '214 proxy "Transformation applied", 199 - "110"'}),
    "validated": lambda body: (body, {"age": "1", "x-cache": "HIT", "cf-cache-status": "DYNAMIC"}),
}
HARMFUL: dict[str, Trick] = {
    "not gzip": encoded("gzip"),
    "not deflate": encoded("deflate"),
    "gzip that is not named": changed(gzip.compress),
    "gzip named once too few": encoded("gzip", lambda body: gzip.compress(gzip.compress(body))),
    "gzip that is zstd": encoded("gzip", lambda body: b"(\xb5/\xfd" + body),
    "cut, with the right length": changed(lambda body: body[:-3]),
    "cut in the middle": changed(lambda body: body[: len(body) // 2]),
    "cut to nothing": changed(lambda body: b""),
    "gzip, cut": encoded("gzip", lambda body: gzip.compress(body[:-3])),
    "zeros": changed(lambda body: bytes(len(body))),
    "zeros at the end": changed(lambda body: body + bytes(8)),
    "a comma at the end": changed(lambda body: body[:-1] + b"," + body[-1:]),
    "twice": changed(lambda body: body + body),
    "a script at the end": changed(lambda body: body + b"<script src=/spy.js></script>"),
    "a comment": changed(lambda body: b"/* cached */" + body),
    "single quotes": changed(lambda body: body.replace(b'"', b"'")),
    "a call of a function": changed(lambda body: b"callback(" + body + b")"),
    "a guard against scripts": changed(lambda body: b")]}',\n" + body),
    "in an envelope": changed(lambda body: b'{"status": "ok", "result": ' + body + b"}"),
    "in a list": changed(lambda body: b"[" + body + b"]"),
    "as a string": changed(lambda body: json.dumps(body.decode()).encode()),
    "an id twice": with_field(b'"id": "pl_2", "data": []'),
    "deeply nested": with_field(b'"x": ' + b"[" * 100_000),
    "a number of thousands of digits": with_field(b'"x": ' + b"9" * 5000),
    "an old one": lambda body: (body, {"age": "60"}),
    "an old one of two caches": lambda body: (body, {"age": "1, 60"}),
    "of nginx's cache": lambda body: (body, {"x-cache-status": "HIT"}),
    "of Squid's cache": lambda body: (body, {"x-cache": "TCP_HIT from proxy, MISS from edge"}),
    "stale, of Cloudflare's cache": lambda body: (body, {"cf-cache-status": "STALE"}),
    "stale, with a warning": lambda body: (body, {"warning": '110 - "Response is Stale"'}),
    "disconnected": lambda body: (body, {"warning": '214 p "Transformation applied", 112 p "Disconnected"'}),
    "of a cache of RFC 9211": lambda body: (body, {"cache-status": 'edge; hit; ttl=5'}),
}  # fmt: skip


def sent(body: Any, trick: Trick) -> Reply:
    content, headers = trick(json.dumps(body, ensure_ascii=False).encode())
    content_type = headers.pop("content-type", "application/json")
    return reply(content, headers=headers, content_type=content_type)


@pytest.mark.parametrize("trick", HARMLESS)
def test_harmless_changes_do_not_change_the_result(trick: str, connect: Connect, server: Server) -> None:
    client = connect(server.url(), limits=ONCE)
    for request, body in RIGHT:
        server.play(sent(body, HARMLESS["unchanged"]), sent(body, HARMLESS[trick]))
        wanted = client.send(request).value
        assert client.send(request).value == wanted, request
    assert client.has_responded


@pytest.mark.parametrize("trick", HARMFUL)
def test_harmful_changes_are_an_error(trick: str, connect: Connect, server: Server) -> None:
    client = connect(server.url(), limits=ONCE)
    server.ping = CLOSE
    for request, body in RIGHT[1:]:
        server.play(sent(body, HARMFUL[trick]))
        error = failure(client, request)
        assert isinstance(error, ArroyoForeignResponseError | ArroyoConnectionError), f"{request}: {error!r}"
        assert error.disposition in (Disposition.OUTAGE, Disposition.RETRY_IF_IDEMPOTENT), request
        assert len(str(error)) < 1000
    assert not client.has_responded


# -- responses to other requests -----------------------------------------------------------------------------------

OTHER = {**PIPELINE, "id": "pl_2"}


@pytest.mark.parametrize(
    "request_, body",
    [
        (api.get_pipeline("pl_1"), OTHER),
        (api.get_pipeline("pl_1"), {"data": [PIPELINE], "hasMore": False}),
        (api.get_pipeline("pl_1"), JOB),
        (api.get_job("pl_1"), {"data": [{**JOB, "pipeline_id": "pl_2"}]}),
        (api.get_job("pl_1"), {"data": [{**JOB, "pipeline_id": None}]}),
        (api.get_job("pl_1"), {"data": [PIPELINE], "hasMore": False}),
        (api.get_job("pl_1"), PIPELINE),
        (api.list_jobs(), {"data": [PIPELINE], "hasMore": False}),
        (api.list_pipelines(limit=9), {"data": [PIPELINE]}),
        (api.list_pipelines(limit=9), {"data": [JOB], "hasMore": False}),
        (api.list_pipelines(limit=9, name="orders"), {"data": [JOB], "hasMore": False}),
        (
            api.list_pipelines(limit=9, name="orders"),
            {"data": [{"id": "ct_1", "name": "t"}], "hasMore": False},
        ),
        (api.list_checkpoints("pl_1", "job_1"), JOBS),
        (api.list_checkpoints("pl_1", "job_1"), {"data": [{"node_id": 1, "metric_groups": []}]}),
        (api.list_metrics("pl_1", "job_1"), {"data": [{"epoch": 1, "start_time": 1}]}),
        (api.list_job_errors("pl_1", "job_1"), {"data": [{"epoch": 1, "start_time": 1}], "hasMore": False}),
        (api.create_pipeline(**SPEC), {**OTHER, "name": "payments"}),
        (api.create_pipeline(**SPEC), {**OTHER, "query": "SELECT 2"}),
        (api.preview_query("SELECT 1"), {**OTHER, "query": "SELECT 2"}),
        (api.put_pipeline("pl_1", **SPEC), OTHER),
        (api.patch_pipeline("pl_1", stop="checkpoint"), OTHER),
        (api.restart_pipeline("pl_1"), OTHER),
        (api.delete_pipeline("pl_1"), PIPELINE),
        (api.validate_query("SELECT 1"), PIPELINE),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_response_to_another_request_is_an_error(
    request_: Request[Any], body: Any, connect: Connect, server: Server
) -> None:
    server.play(reply(body))
    error = failure(connect(server.url(), limits=ONCE), request_)
    assert type(error) is ArroyoForeignResponseError
    assert "SELECT 2" not in str(error).partition("The response began")[0]


@pytest.mark.parametrize(
    "words, request_",
    [
        ("Pipeline not found", api.get_pipeline("pl_1")),
        ("Pipeline not found", api.delete_pipeline("pl_1")),
        ("Job not found", api.list_checkpoints("pl_1", "job_1")),
        ("A record already exists with that name or id", api.put_pipeline("pl_1", **SPEC)),
        ("Error during planning: no", api.validate_query("SELECT 1")),
    ],
)
@pytest.mark.parametrize("headers", [{"age": "3600"}, {"x-cache-status": "HIT"}], ids=str)
def test_an_old_refusal_from_a_cache_is_an_outage(
    headers: Mapping[str, str], words: str, request_: Request[Any], connect: Connect, server: Server
) -> None:
    """Caches store a 404, too: what was missing an hour ago may exist now."""
    status = 404 if "not found" in words else 400
    server.play(reply({"error": words}, status, headers=headers))
    error = failure(connect(server.url(), limits=ONCE), request_)
    assert type(error) is ArroyoForeignResponseError
    assert "from a cache" in str(error)
    server.play(reply({"error": words}, status, headers={"age": "0"}))
    assert type(failure(connect(server.url(), limits=ONCE), request_)) is not ArroyoForeignResponseError


# -- servers that contradict each other ---------------------------------------------------------------------------

GONE = reply({"error": "Pipeline not found"}, 404)


@pytest.mark.parametrize(
    "request_, body, again",
    [
        (api.get_pipeline("pl_1"), PIPELINE, "GET /pipelines/pl_1"),
        (api.get_job("pl_1"), JOBS, "GET /pipelines/pl_1/jobs"),
        (api.list_checkpoints("pl_1", "job_1"), {"data": []}, "GET /pipelines/pl_1/jobs/job_1/checkpoints"),
        (api.patch_pipeline("pl_1", stop="checkpoint"), JOBS, "GET /pipelines/pl_1/jobs"),
        (api.restart_pipeline("pl_1"), JOBS, "GET /pipelines/pl_1/jobs"),
        (api.delete_pipeline("pl_1"), JOBS, "GET /pipelines/pl_1/jobs"),
    ],
    ids=str,
)
def test_gone_is_what_two_responses_say(
    request_: Request[Any], body: Any, again: str, connect: Connect, server: Server
) -> None:
    """Behind one address, one of two servers may not know a pipeline that the other one runs."""
    client = connect(server.url(), limits=ONCE)
    server.play(GONE, reply(body))
    error = failure(client, request_)
    assert type(error) is ArroyoForeignResponseError
    assert (error.disposition, error.status) == (Disposition.OUTAGE, 404)
    assert f"but {again} finds it: several servers respond at this address" in str(error)
    sent = [f"{one.method} {one.target.removeprefix('/api/v1')}" for one in server.requests]
    assert sent == [str(request_), again]
    server.play(GONE, GONE)
    assert type(failure(client, request_)) is ArroyoNotFoundError


def test_a_delete_that_a_server_contradicts_is_not_done(connect: Connect, server: Server) -> None:
    """One server never knew the pipeline; that says nothing about an effect on the other one, however often."""
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=2.0))
    server.play(*[GONE, reply(JOBS)] * 50)
    error = failure(client, api.delete_pipeline("pl_1"))
    assert type(error) is ArroyoUnreachableError
    assert "several servers respond at this address" in str(error)
    assert len(server.requests) > 2


# -- deletes are verified ---------------------------------------------------------------------------------


DELETES: list[tuple[Request[Any], str, Reply]] = [
    (api.delete_pipeline("pl_1"), "GET /api/v1/pipelines/pl_1/jobs", GONE),
    (catalog.delete_udf("u_1"), "DELETE /api/v1/udfs/u_1", reply({"error": "UDF not found"}, 404)),
    (
        catalog.delete_connection_table("ct_1"),
        "DELETE /api/v1/connection_tables/ct_1",
        reply({"error": "Connection table not found"}, 404),
    ),
    (
        catalog.delete_connection_profile("cp_1"),
        "DELETE /api/v1/connection_profiles/cp_1",
        reply({"error": "Connection profile not found"}, 404),
    ),
]


@pytest.mark.parametrize("request_, proof, gone", DELETES, ids=str)
def test_a_delete_is_verified(
    request_: Request[Any], proof: str, gone: Reply, connect: Connect, server: Server
) -> None:
    """Arroyo's response is empty and proves nothing; a deleted object is no longer found."""
    client = connect(server.url(), limits=ONCE)
    server.play(reply(None), gone)
    client.send(request_)
    assert [f"{one.method} {one.target}" for one in server.requests][1:] == [proof]
    assert client.has_responded


@pytest.mark.parametrize("request_, proof, gone", DELETES, ids=str)
def test_a_delete_that_a_gateway_answered_is_repeated(
    request_: Request[Any], proof: str, gone: Reply, connect: Connect, server: Server
) -> None:
    client = connect(server.url(), limits=ONCE)
    server.play(reply(None), reply(JOBS) if proof.startswith("GET") else reply(None))
    error = failure(client, request_)
    assert type(error) is ArroyoForeignResponseError
    assert "is still there" in str(error)
    assert (error.disposition, error.is_fatal) == (Disposition.OUTAGE, False)
    # As soon as a delete gets through, it succeeds; an old response to the read is harmless.
    server.play(reply(None), reply(JOBS) if proof.startswith("GET") else reply(None), reply(None), gone)
    client.with_limits(max_elapsed_seconds=20).send(request_)


@pytest.mark.parametrize(
    "lost", [CLOSE, reply(None, 503), reply(None), reply("<html>Sign in</html>")], ids=str
)
def test_a_lost_proof_of_a_delete_is_repeated(lost: Reply, client: ArroyoClient, server: Server) -> None:
    server.play(reply(None), lost, GONE, GONE)
    client.delete_pipeline("pl_1")
    assert [request.method for request in server.requests] == ["DELETE", "GET", "DELETE", "GET"]


def test_a_key_that_changes_before_the_verification_is_loaded_again(connect: Connect, server: Server) -> None:
    settings = ClientSettings(base_url=server.url(), api_key="new-key")
    server.play(reply(None), reply(None, 401), GONE, GONE)
    connect(server.url(), reload=lambda: settings).delete_pipeline("pl_1")
    assert [request.method for request in server.requests] == ["DELETE", "GET", "DELETE", "GET"]


def test_a_delete_behind_a_gateway_that_responds_204(client: ArroyoClient, server: Server) -> None:
    """It may have been deleted; a repeated delete gets Arroyo's own response."""
    server.play(reply(None, 204), GONE, GONE)
    client.delete_pipeline("pl_1")
    assert [request.method for request in server.requests] == ["DELETE", "DELETE", "GET"]


@pytest.mark.parametrize(
    "request_", [api.list_jobs(), api.list_pipelines(limit=9), api.get_job("pl_1")], ids=str
)
def test_a_400_to_a_read_is_an_outage(request_: Request[Any], connect: Connect, server: Server) -> None:
    """Arroyo refuses no read requests, so it comes from another service."""
    server.play(reply({"error": "invalid_request"}, 400))
    error = failure(connect(server.url(), limits=ONCE), request_)
    assert error.disposition is Disposition.OUTAGE


@pytest.mark.parametrize(
    "location, advice",
    [
        ("https://127.0.0.1:8443/api/v1/jobs", "Set the scheme to https"),
        ("HTTPS://127.0.0.1/", "Set the scheme to https"),
        ("https://127.0.0.1.evil.example/", "Check that the connection's host"),
        ("https://login.example/", "Check that the connection's host"),
        ("/login", "Check that the connection's host"),
        ("http://[x/", "Check that the connection's host"),
        ("https://login.example/?code=hunter2hunter2&state=x", "code=***"),
    ],
)
def test_the_message_about_a_redirect_says_what_to_set(
    location: str, advice: str, connect: Connect, server: Server
) -> None:
    server.play(reply(None, 301, headers={"location": location}))
    message = str(failure(connect(server.url(), limits=ONCE), api.list_jobs()))
    assert advice in message
    assert "which is not followed" in message
    assert "hunter2" not in message


# -- connections that are closed at random -------------------------------------------------------------------------


def test_random_closing_of_idle_connections_is_harmless(client: ArroyoClient, server: Server) -> None:
    """With or without an announcement: reads are correct, and a change is sent once."""
    for close in ("keep", "close", "close", "keep", "close"):
        server.play(reply(JOBS, then=close))
        job = client.get_job("pl_1")
        assert job is not None
        assert job.id == "job_1"
    server.play(reply(PIPELINE, then="close"))
    made = len(server.requests)
    for _ in range(2):
        # A connection that is closed while a change is sent loses its response.
        server.wait_until_closed()
        client.create_pipeline(**SPEC)
    assert len(server.requests) == made + 2


@pytest.mark.parametrize(
    "request_", [api.get_pipeline("pl_1"), api.patch_pipeline("pl_1", stop="none")], ids=str
)
def test_requests_succeed_between_faults(
    request_: Request[Any], connect: Connect, server: Server, clock: Clock
) -> None:
    """Every second response is a fault, yet each request returns the right pipeline."""
    faults = [trick for name, trick in HARMFUL.items() if "nested" not in name]
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=600))
    server.play(*(sent(PIPELINE, fault) for fault in faults), reply(PIPELINE))
    assert client.send(request_).value.id == "pl_1"
    assert len(server.requests) == len(faults) + 1
    with suppress(ArroyoNotFoundError):
        server.play(CLOSE, reply({"error": "Pipeline not found"}, 404))
        client.send(request_)
        raise AssertionError("no deleted pipeline comes back")


@pytest.mark.parametrize(
    "value, seconds",
    [
        *(("0", 0.0), ("999999999", 999999999.0), ("99999999999999", None), ("-1", None), ("1.5", None)),
        *(("1e9", None), ("٣".encode().decode("latin-1"), None), ("5, 6", None), ("", None)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251_000_000_000.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_an_absurd_retry_after_fails_and_an_invalid_one_is_ignored(
    status: int, value: str, seconds: float | None, connect: Connect, server: Server, clock: Clock
) -> None:
    """An absurd time does not delay the request: too many requests (429) fail at once, an outage is retried."""
    server.play(reply(None, status, headers={"retry-after": value}))
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=10))
    client.expect_arroyo()
    began = clock()
    with pytest.raises(ArroyoError):
        client.list_jobs()
    assert clock() - began < 11
    assert (clock() == began) is (status == 429 and seconds is not None and seconds > 10)
