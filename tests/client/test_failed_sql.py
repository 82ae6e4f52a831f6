"""SQL on which Arroyo fails without refusing it, distinguished from an outage without repeating a create."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoQueryError,
    ArroyoUnreachableError,
    Disposition,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.client.conftest import PIPELINE, Connect, failure
from tests.client.server import CLOSE, RESET, Reply, Server, reply

TABLES = """CREATE TABLE stream WITH (connector = 'impulse', event_rate = '10');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
"""
PANICS = [
    TABLES + "INSERT INTO sink SELECT count(*) FROM stream GROUP BY tumble(interval '0 seconds');",
    TABLES + "INSERT INTO sink SELECT DISTINCT ON (counter) counter FROM stream;",
]
QUERY = PANICS[0]
UDF = Udf("fn f() {}", "rust")

CREATE = api.create_pipeline(name="orders", query=QUERY, udfs=[UDF])
PUT = api.put_pipeline("pl_1", name="orders", query=QUERY)
PREVIEW = api.preview_query(QUERY)
VALIDATE = api.validate_query(QUERY)
WITH_SQL = [CREATE, PUT, PREVIEW, VALIDATE]

VALID = reply({"graph": None, "errors": []})
BAD_GATEWAY = reply("<html>502 Bad Gateway</html>", 502, content_type="text/html")


@pytest.fixture(autouse=True)
def _pong(server: Server) -> None:
    server.ping = reply("Pong")


def sent(server: Server) -> list[tuple[str, Any]]:
    return [(request.method, request.json.get("query")) for request in server.requests]


@pytest.mark.parametrize("step", [CLOSE, RESET, BAD_GATEWAY], ids=["close", "reset", "behind a gateway"])
@pytest.mark.parametrize("request_", WITH_SQL, ids=str)
def test_sql_on_which_arroyo_hangs_up_is_a_permanent_failure(
    request_: Request[Any], step: Reply, client: ArroyoClient, server: Server
) -> None:
    server.play(step, VALID, step, step)
    error = failure(client, request_)
    assert type(error) is ArroyoQueryError
    assert (error.disposition, error.is_fatal, error.status) == (Disposition.PERMANENT, True, 0)
    assert "closes the connection on this SQL" in str(error)
    assert "log of Arroyo's API" in str(error)
    # The request itself once, then only requests that change nothing.
    other = "SELECT nope FROM nowhere;".ljust(len(QUERY))
    assert sent(server) == [(request_.method, QUERY), ("POST", other), ("POST", QUERY), ("POST", QUERY)]
    assert [one.target for one in server.requests[1:]] == ["/api/v1/pipelines/validate_query"] * 3
    assert server.requests[2].json.get("udfs") == (request_.body or {}).get("udfs")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([CLOSE], id="hangs up on every POST"),
        pytest.param([CLOSE, BAD_GATEWAY], id="then cannot be reached"),
        pytest.param([CLOSE, VALID, VALID], id="hung up once"),
        pytest.param([CLOSE, VALID, CLOSE, VALID], id="hung up twice"),
        pytest.param([CLOSE, VALID, CLOSE, reply(None, 429)], id="too many requests"),
    ],
)
def test_failures_that_do_not_depend_on_the_sql_are_an_outage(
    script: list[Reply], client: ArroyoClient, server: Server
) -> None:
    server.play(*script)
    error = failure(client, CREATE)
    assert not isinstance(error, ArroyoQueryError)
    assert error.disposition is Disposition.RETRY_IF_IDEMPOTENT
    assert "may have taken effect" in str(error)
    assert [one.target for one in server.requests].count("/api/v1/pipelines") == 1


@pytest.mark.parametrize("ping", [CLOSE, BAD_GATEWAY], ids=["close", "502"])
@pytest.mark.parametrize("request_", [PUT, VALIDATE], ids=str)
def test_a_gateway_that_hangs_up_on_everything_is_an_outage(
    request_: Request[Any], ping: Reply, client: ArroyoClient, server: Server
) -> None:
    server.ping = ping
    server.play(ping)
    assert isinstance(failure(client, request_), ArroyoUnreachableError)
    assert {one.target for one in server.requests} == {f"/api/v1{request_.path}"}


def test_a_put_is_repeated_if_the_sql_was_not_the_cause(client: ArroyoClient, server: Server) -> None:
    server.play(CLOSE, CLOSE, CLOSE, VALID, CLOSE, VALID, reply(PIPELINE))
    assert client.send(PUT).value.id == "pl_1"


def test_a_gateway_that_hangs_up_on_large_bodies_is_an_outage(connect: Connect, server: Server) -> None:
    """Arroyo's planner is not the cause."""
    large = api.create_pipeline(name="orders", query=f"SELECT 1 -- {'x' * 1_500_000}")
    server.play(Reply(unread=True, then="reset"))
    error = failure(connect(server.url()), large)
    assert not isinstance(error, ArroyoQueryError)
    assert [len(one.body) > 1_500_000 for one in server.requests] == [False, False]
    assert int(server.requests[1].headers["content-length"]) > 1_500_000


def test_a_request_without_sql_is_not_validated(client: ArroyoClient, server: Server) -> None:
    server.play(CLOSE, reply({**PIPELINE, "id": "pl_1"}))
    client.send(api.patch_pipeline("pl_1", stop="checkpoint"))
    assert len(server.requests) == 2


def test_a_response_of_arroyo_itself_is_not_a_hang_up(connect: Connect, server: Server) -> None:
    server.play(reply({"error": "the leader is not currently available; try again later"}, 502))
    error = failure(connect(server.url()), CREATE)
    assert not isinstance(error, ArroyoForeignResponseError)
    assert len(server.requests) == 1


# -- responses that a gateway has replaced
# -----------------------------------------------------------------------------

HIDDEN = {
    "a page": reply("<html>400 Bad Request</html>", 400, content_type="text/html"),
    "Arroyo's form": reply({"error": "the upstream refused"}, 400),
    "another form": reply({"status": 400, "message": "upstream"}, 400),
    "nothing": reply(None, 400),
    "405": reply("<html>405 Not Allowed</html>", 405, content_type="text/html"),
    "406": reply("<html>406 Not Acceptable</html>", 406, content_type="text/html"),
    "a page with 200": reply(
        "<html>Request Rejected. Your support ID is 1817</html>", content_type="text/html"
    ),
}
MAY_PASS = {
    "404": reply(None, 404),
    "408": reply(None, 408),
    "503": reply(None, 503),
    "302": reply(None, 302),
}
WRONG = {"message": "table 'nowhere' not found", "span": {"start": {"line": 3, "column": 7}}}


@pytest.mark.parametrize("errors", [["table 'nowhere' not found"], [WRONG]], ids=["0.15", "0.16"])
@pytest.mark.parametrize("words", HIDDEN)
def test_a_refusal_that_a_gateway_hides_is_shown_from_a_validation(
    words: str, errors: list[Any], client: ArroyoClient, server: Server
) -> None:
    server.play(HIDDEN[words], reply({"graph": None, "errors": errors}))
    error = failure(client, CREATE)
    assert type(error) is ArroyoQueryError
    assert error.is_fatal
    assert "as a validation of it shows" in str(error)
    (diagnostic,) = error.diagnostics
    assert diagnostic.message == "table 'nowhere' not found"
    assert diagnostic.line == (3 if errors == [WRONG] else None)
    assert sent(server) == [("POST", QUERY), ("POST", QUERY)]
    assert server.requests[1].json == {"query": QUERY, "udfs": [UDF.to_api()]}


@pytest.mark.parametrize("request_", [CREATE, PUT, VALIDATE], ids=str)
@pytest.mark.parametrize("words", HIDDEN)
def test_a_firewall_that_blocks_the_sql_is_reported(
    words: str, request_: Request[Any], client: ArroyoClient, server: Server
) -> None:
    """Arroyo responds, so no retry helps, although it was not Arroyo that refused the SQL."""
    server.play(HIDDEN[words])
    error = failure(client, request_)
    assert type(error) is ArroyoForeignResponseError
    assert (error.disposition, error.is_fatal) == (Disposition.PERMANENT, False)
    assert "that no firewall takes the SQL for an attack" in str(error)
    assert "Arroyo responds to a ping" in str(error)
    assert len(server.requests) == 2


@pytest.mark.parametrize("words", ["a page", "405"])
def test_a_gateways_refusal_of_a_change_is_reported(words: str, client: ArroyoClient, server: Server) -> None:
    server.play(HIDDEN[words], VALID)
    error = failure(client, PUT)
    assert (type(error), error.disposition) == (ArroyoForeignResponseError, Disposition.PERMANENT)
    assert len(server.requests) == 2


@pytest.mark.parametrize("words", MAY_PASS)
def test_a_gateway_that_changes_is_an_outage(words: str, client: ArroyoClient, server: Server) -> None:
    server.play(MAY_PASS[words], *([VALID] if words == "302" else []), reply({**PIPELINE, "id": "pl_1"}))
    assert client.send(PUT).value.id == "pl_1"


@pytest.mark.parametrize("words", HIDDEN)
def test_a_gateway_that_validates_is_an_outage(words: str, client: ArroyoClient, server: Server) -> None:
    server.play(HIDDEN[words], reply({"graph": None, "errors": ["no"]}))
    assert [one.message for one in client.validate_query(QUERY).errors] == ["no"]


def test_a_page_instead_of_a_response_is_an_outage(client: ArroyoClient, server: Server) -> None:
    server.play(HIDDEN["a page with 200"], VALID, reply({**PIPELINE, "id": "pl_1"}))
    assert client.send(PUT).value.id == "pl_1"


@pytest.mark.parametrize("words", HIDDEN)
def test_a_gateways_refusals_of_all_are_an_outage(words: str, client: ArroyoClient, server: Server) -> None:
    server.ping = HIDDEN[words]
    server.play(HIDDEN[words])
    assert isinstance(failure(client, PUT), ArroyoUnreachableError)
    assert {one.method for one in server.requests} == {"PUT"}


def test_the_result_of_a_validation_shows_no_secrets(connect: Connect, server: Server) -> None:
    secret = "SELECT * FROM t WITH (password = 'hunter2hunter2')"
    text = f"s3cret-key cannot read {secret}"
    server.play(HIDDEN["a page"], reply({"graph": None, "errors": [text]}))
    error = failure(connect(server.url(), api_key="s3cret-key"), api.preview_query(secret))
    assert isinstance(error, ArroyoQueryError)
    assert "hunter2" not in f"{error} {error.diagnostics}"
    assert "s3cret-key" not in f"{error} {error.diagnostics}"


# -- on the sandbox ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["0.15", "0.16"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(arroyo_version=request.param, clock=ManualClock()) as running:
        yield running


@pytest.mark.parametrize("query", PANICS, ids=["zero width", "DISTINCT ON"])
def test_the_sandbox_hangs_up_on_such_sql(query: str, connect: Connect, sandbox: ArroyoSandbox) -> None:
    client = connect(sandbox.url)
    for request in (
        api.create_pipeline(name="orders", query=query),
        api.validate_query(query),
        api.preview_query(query),
    ):
        with pytest.raises(ArroyoQueryError, match="closes the connection on this SQL"):
            client.send(request)
    with pytest.raises(ArroyoError) as caught:
        client.put_pipeline("mine", name="orders", query=query)
    has_put = sandbox.arroyo_version == "0.16"
    assert isinstance(caught.value, ArroyoQueryError) is has_put
    assert sandbox.store.pipelines == {}
