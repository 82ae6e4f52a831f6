"""Responses of gateways to every request of the client: never "gone", never "already exists", never a success."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import Limits, outage_ends_at
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoUnreachableError,
    Disposition,
)
from tests.client.conftest import ONCE, SPEC, Clock, Connect, failure
from tests.client.server import CLOSE, Reply, Server, reply

REQUESTS: list[Request[Any]] = [
    api.ping(),
    api.validate_query("SELECT 1"),
    api.create_pipeline(**SPEC),
    api.put_pipeline("pl_1", **SPEC),
    api.preview_query("SELECT 1"),
    api.list_pipelines(limit=5),
    api.get_pipeline("pl_1"),
    api.patch_pipeline("pl_1", stop="checkpoint"),
    api.restart_pipeline("pl_1"),
    api.delete_pipeline("pl_1"),
    api.get_job("pl_1"),
    api.list_jobs(),
    api.list_job_errors("pl_1", "job_1"),
    api.list_checkpoints("pl_1", "job_1"),
    api.list_operator_checkpoints("pl_1", "job_1", 3),
    api.list_metrics("pl_1", "job_1"),
    api.output("pl_1", "job_1"),
    catalog.list_udfs(),
    catalog.create_udf(prefix="/", definition="fn f() {}"),
    catalog.validate_udf("fn f() {}"),
    catalog.delete_udf("udf_1"),
    catalog.list_connectors(),
    catalog.list_connection_tables(),
    catalog.create_connection_table(name="t", connector="impulse", config={}),
    catalog.delete_connection_table("ct_1"),
    catalog.list_connection_profiles(),
    catalog.create_connection_profile(name="p", connector="kafka", config={}),
    catalog.delete_connection_profile("cp_1"),
]


def page(title: str, foot: str = "") -> str:
    return f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1><hr>{foot}</body></html>"


def spring(status: int, error: str) -> dict[str, Any]:
    return {"timestamp": "2026-11-25T03:55:27.000+00:00", "status": status, "error": error, "path": "/api/v1"}


def html(status: int, title: str, foot: str = "", **headers: str) -> Reply:
    return reply(page(title, foot), status, content_type="text/html", headers=headers)


def text(status: int, words: str) -> Reply:
    return reply(words, status, content_type="text/plain")


PROBLEM = {"type": "about:blank", "title": "Not Found", "status": 404}
LOGIN = "https://login.example/?next=%2Fapi"

OUTAGES: dict[str, Reply] = {
    "nginx 301 to TLS": html(301, "301 Moved", "nginx", location="https://arroyo.example/api/v1"),
    "nginx 400": html(400, "400 Request Header Or Cookie Too Large", "nginx/1.25"),
    "nginx 404": html(404, "404 Not Found", "nginx/1.25"),
    "nginx 405": html(405, "405 Not Allowed", "nginx/1.25"),
    "nginx 499": html(499, "", "nginx"),
    "nginx 500": html(500, "500 Internal Server Error", "nginx/1.25"),
    "nginx 502": html(502, "502 Bad Gateway", "nginx/1.25"),
    "nginx 503": html(503, "503 Service Temporarily Unavailable", "nginx"),
    "nginx 504": html(504, "504 Gateway Time-out", "nginx"),
    "nginx 405 without a page": reply(None, 405, headers={"allow": "GET, HEAD"}),
    "Kubernetes 404": text(404, "default backend - 404"),
    "Envoy 404": reply(None, 404, headers={"server": "envoy"}),
    "Envoy 502": text(502, "upstream connect error or disconnect/reset before headers"),
    "Envoy 503": text(503, "no healthy upstream"),
    "Envoy 504": text(504, "upstream request timeout"),
    "Traefik 404": text(404, "404 page not found\n"),
    "Traefik 500": text(500, "Internal Server Error"),
    "Traefik 502": text(502, "Bad Gateway"),
    "HAProxy 400": html(400, "400 Bad request", "Your browser sent an invalid request."),
    "HAProxy 408": html(408, "408 Request Time-out", "Your browser didn't send a complete request in time."),
    "HAProxy 503": html(503, "503 Service Unavailable", "No server is available to handle this request."),
    "ALB 302 to a login": html(302, "302 Found", location=LOGIN),
    "ALB 404": text(404, "404: not here"),
    "ALB 460": html(460, "", ""),
    "ALB 502": html(502, "502 Bad Gateway"),
    "ALB 503": html(503, "503 Service Temporarily Unavailable"),
    "Spring 400": reply(spring(400, "Bad Request"), 400),
    "Spring 404": reply(spring(404, "Not Found"), 404),
    "Spring 409": reply(spring(409, "Conflict"), 409),
    "Spring 500": reply(spring(500, "Internal Server Error"), 500),
    "Spring 503": reply(spring(503, "Service Unavailable"), 503),
    "Spring problem": reply(PROBLEM, 404, content_type="application/problem+json"),
    "Rails 404": reply({"status": 404, "error": "Not Found"}, 404),
    "Rails 500": reply({"status": 500, "error": "Internal Server Error"}, 500),
    "JSON 400": reply({"error": "Bad Request"}, 400),
    "JSON 404": reply({"error": "Not Found"}, 404),
    "JSON 404 with its code": reply({"error": "404 Not Found"}, 404),
    "JSON 404 of another kind": reply({"error": "upstream pipeline not found"}, 404),
    "JSON 409": reply({"error": "Conflict"}, 409),
    "JSON 500": reply({"error": "Internal Server Error."}, 500),
    "JSON 502": reply({"error": "bad gateway"}, 502),
    "JSON 302": reply({"error": "Pipeline not found"}, 302, headers={"location": LOGIN}),
    "JSON 418": reply({"error": "Pipeline not found"}, 418),
    "Arroyo's words, as text": text(404, '{"error": "Pipeline not found"}'),
    "Arroyo's words, and more": reply({"error": "Pipeline not found", "code": 404}, 404),
    "Arroyo's words, elsewhere": reply({"message": "Pipeline not found"}, 404),
    "Kong 404": reply({"message": "no Route matched with those values"}, 404),
    "Istio 404": reply(None, 404, headers={"server": "istio-envoy"}),
    "Istio 503": text(503, "upstream connect error. reset reason: connection failure"),
    "Cloudflare 409": text(409, "error code: 1001"),
    "Cloudflare 502": html(502, "arroyo.example | 502: Bad gateway", "cloudflare"),
    "Cloudflare 521": html(521, "arroyo.example | 521: Web server is down", "cloudflare"),
    "Cloudflare 530": text(530, "error code: 1033"),
    "a part of Arroyo's words": reply({"error": "The page Pipeline not found"}, 404),
    "an overload": html(507, "Insufficient Storage"),
    "a list": reply([1, 2], 200),
    "a login page": html(200, "Sign in"),
    "a login page called JSON": reply(page("Sign in").encode(), 200),
    "another API": reply({"status": "ok"}, 200),
    "another API's 201": reply({"id": "pl_1"}, 201),
    "a cache's 203": reply({"data": []}, 203),
    "half a cache's": reply({"data": []}, 206),
    "half a list": reply(b'{"data": [{"id": "pl_1"', 206, headers={"content-range": "bytes 0-21/900"}),
    "a 202 to come back later": reply({"id": "pl_1"}, 202),
    "a 204": reply(None, 204),
    "a 205": reply(None, 205),
    "a choice": reply({"error": "Pipeline not found"}, 300),
    "a 302 that goes nowhere": reply(None, 302),
    "a 303 to a login": reply(None, 303, headers={"location": LOGIN}),
    "not modified": reply(None, 304, headers={"etag": '"1"'}),
    "a 307 to a login": reply(None, 307, headers={"location": LOGIN}),
    "a 308 to TLS": reply(None, 308, headers={"location": "https://127.0.0.1/api/v1"}),
    "a redirect loop": reply(None, 302, headers={"location": "/api/v1/ping"}),
    "a 406": text(406, "Not Acceptable"),
    "an expired request": text(408, "Request Timeout"),
    "a lock": reply({"message": "conflict"}, 409),
    "a 410": html(410, "410 Gone"),
    "a 411": html(411, "411 Length Required"),
    "a long address": html(414, "414 Request-URI Too Large", "nginx"),
    "another host": text(421, "Misdirected Request"),
    "Hasura's 422": reply({"code": "parse-failed", "error": "x"}, 422),
    "too early": text(425, "Too Early"),
    "upgrade required": reply(None, 426, headers={"upgrade": "TLS/1.2", "connection": "upgrade"}),
    "a 428": reply({"error": "Precondition Required"}, 428),
    "large headers": html(431, "431 Request Header Fields Too Large"),
    "the law": html(451, "Unavailable For Legal Reasons"),
    "a captive portal": html(511, "Network Authentication Required"),
    "an oauth proxy": reply({"error": "invalid_request", "error_description": "x"}, 400),
    "a WAF": html(406, "Request Rejected", "Your support ID is 1817"),
    "a WAF with 200": html(200, "Request Rejected", "The requested URL was rejected"),
    "Cloudflare 522": reply({"error": "origin timed out"}, 522),
    "AWS 400": reply({"__type": "ValidationException", "message": "x"}, 400),
    "GraphQL": reply({"data": None, "errors": [{"message": "x"}]}, 200),
    "an error with 200": reply({"error": "Pipeline not found"}, 200),
    "a string": reply("OK", 200),
    "null": reply(b"null", 200),
    "a guard against scripts": reply(b")]}',\n{}", 200),
    "a call of a function": reply(b"callback({});", 200, content_type="application/javascript"),
    "not gzip": reply(b"<html>Sign in</html>", 200, headers={"content-encoding": "gzip"}),
    "not deflate": reply(b"<html>Sign in</html>", 200, headers={"content-encoding": "deflate"}),
    "not br": reply(b"<html>Sign in</html>", 200, headers={"content-encoding": "br"}),
    "not zstd": reply(b"<html>Sign in</html>", 200, headers={"content-encoding": "zstd"}),
    **{
        f"Cloudflare {status}": html(status, f"arroyo.example | {status}", "cloudflare")
        for status in (520, 523, 524, 525, 526, 527)
    },
}
REFUSALS: dict[str, tuple[type[ArroyoError], Disposition, Reply]] = {
    name: (cls, disposition, response)
    for cls, disposition, responses in (
        (
            ArroyoAuthError,
            Disposition.PERMANENT,
            {
                "nginx 401": html(401, "401 Authorization Required", "nginx"),
                "nginx 403": html(403, "403 Forbidden", "nginx"),
                "Istio 403": text(403, "RBAC: access denied"),
                "Cloudflare 403": html(403, "Just a moment...", "cloudflare"),
                "Spring 401": reply(spring(401, "Unauthorized"), 401),
                "a login that is wanted": reply(None, 401, headers={"www-authenticate": 'Basic realm="x"'}),
                "Kerberos": html(401, "401", "www-authenticate", **{"www-authenticate": "Negotiate"}),
                "a 403 in Arroyo's form": reply({"error": "Pipeline not found"}, 403),
                "Squid 407": html(407, "ERR_CACHE_ACCESS_DENIED", "squid"),
            },
        ),
        (
            ArroyoApiError,
            # It does not prove that the request did not reach Arroyo.
            Disposition.RETRY_IF_IDEMPOTENT,
            {
                "Envoy 429": text(429, "local_rate_limited"),
                "Cloudflare 429": text(429, "error code: 1015"),
                "Spring 429": reply(spring(429, "Too Many Requests"), 429),
            },
        ),
    )
    for name, response in responses.items()
}


@pytest.mark.parametrize("gateway", OUTAGES)
def test_a_response_of_a_gateway_is_an_outage(gateway: str, connect: Connect, server: Server) -> None:
    server.play(OUTAGES[gateway])
    client = connect(server.url(), limits=ONCE)
    for request in REQUESTS:
        # A ping would distinguish SQL on which Arroyo breaks the connection from an outage.
        server.ping = CLOSE if request.has_sql else None
        error = failure(client, request)
        assert type(error) is ArroyoForeignResponseError, f"{request}: {error!r}"
        assert (error.disposition, error.is_fatal) == (Disposition.OUTAGE, False), request
        # Earlier responses of Arroyo change only how long an outage may last.
        ends = [outage_ends_at(error, 600.0, foreign_since=since) for since in (0.0, 500.0, 590.0, None)]
        assert ends == [60.0, 560.0, 600.0, 600.0]
    assert not client.has_responded
    assert len(server.requests) == len(REQUESTS)


@pytest.mark.parametrize("gateway", REFUSALS)
def test_a_refusal_of_a_gateway_has_its_own_error(gateway: str, connect: Connect, server: Server) -> None:
    cls, disposition, response = REFUSALS[gateway]
    server.play(response)
    client = connect(server.url(), limits=ONCE)
    for request in REQUESTS:
        error = failure(client, request)
        assert (type(error), error.disposition) == (cls, disposition), request
    assert not client.has_responded


def test_a_lower_limit_for_bodies_is_reported(connect: Connect, server: Server) -> None:
    server.play(html(413, "413 Request Entity Too Large", "nginx/1.25"))
    client = connect(server.url(), limits=ONCE)
    for request in REQUESTS:
        error = failure(client, request)
        assert error.is_fatal is (request.body is not None), request
        assert ("is too large" in str(error)) is error.is_fatal


@pytest.mark.parametrize("gateway", ["nginx 404", "nginx 502", "Envoy 503", "Spring 404", "a login page"])
@pytest.mark.parametrize("request_", [api.get_job("pl_1"), api.delete_pipeline("pl_1")], ids=str)
def test_an_outage_is_retried_shorter_if_arroyo_never_responded(
    request_: Request[Any], gateway: str, connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(OUTAGES[gateway])
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=100))
    for has_responded, words in ((False, "does not look like Arroyo"), (True, "has been unreachable")):
        if has_responded:
            client.expect_arroyo()
        began, sent = clock(), len(server.requests)
        error = failure(client, request_)
        assert isinstance(error, ArroyoUnreachableError)
        assert words in str(error)
        assert clock() - began == pytest.approx(100 if has_responded else 60, abs=1)
        assert len(server.requests) > sent + 20
