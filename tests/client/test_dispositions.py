"""The one table of failures: which error a response to a request is, and whether repeating the request may help."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoTlsError,
    Disposition,
)
from tests.client.conftest import ONCE, PIPELINE, SPEC, Connect
from tests.client.server import CLOSE, Reply, Server, reply

GET = api.get_pipeline("pl_1")
GET_JOB = api.get_job("pl_1")
LIST = api.list_jobs()
PING = api.ping()
CHECKPOINTS = api.list_checkpoints("pl_1", "job_1")
ONE_CHECKPOINT = api.list_operator_checkpoints("pl_1", "job_1", 9)
VALIDATE = api.validate_query("SELECT 1")
CREATE = api.create_pipeline(**SPEC)
PUT = api.put_pipeline("mine", **SPEC)
PREVIEW = api.preview_query("SELECT 1")
PATCH = api.patch_pipeline("pl_1", stop="checkpoint")
RESTART = api.restart_pipeline("pl_1")
DELETE = api.delete_pipeline("pl_1")
TABLE = catalog.create_connection_table(name="t", connector="impulse", config={})
PROFILE = catalog.create_connection_profile(name="p", connector="kafka", config={})
DELETE_TABLE = catalog.delete_connection_table("ct_1")

GET_AND_CHANGES = [GET, CREATE, PATCH, DELETE]
SQL = [CREATE, PUT, PREVIEW, VALIDATE]

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
EPOCH_GONE = "Checkpoint with epoch 9 for job 'job_1' not found"
TAKEN = "A record already exists with that name or id"
LEADER_AWAY = "the leader is not currently available; try again later"


def refused(status: int, words: str) -> Reply:
    """Return a refusal in Arroyo's form."""
    return reply({"error": words}, status)


def html(status: int, page: str = PAGE) -> Reply:
    return reply(page, status, content_type="text/html; charset=utf-8")


def text(status: int, words: str) -> Reply:
    return reply(words, status, content_type="text/plain")


NO_PUT = reply(None, 405, headers={"allow": "PATCH,GET,HEAD,DELETE"})


Expected = tuple[type[ArroyoError], Disposition, bool]

GONE: Expected = (ArroyoNotFoundError, Disposition.PERMANENT, False)
CONFLICT: Expected = (ArroyoConflictError, Disposition.PERMANENT, False)
OUTAGE: Expected = (ArroyoForeignResponseError, Disposition.OUTAGE, False)
BAD_SQL: Expected = (ArroyoQueryError, Disposition.PERMANENT, True)
REFUSED: Expected = (ArroyoApiError, Disposition.PERMANENT, False)
FATAL: Expected = (ArroyoApiError, Disposition.PERMANENT, True)
AUTH: Expected = (ArroyoAuthError, Disposition.PERMANENT, True)
TLS: Expected = (ArroyoTlsError, Disposition.PERMANENT, True)
UNAVAILABLE: Expected = (ArroyoApiError, Disposition.RETRY_IF_IDEMPOTENT, False)
CUT: Expected = (ArroyoConnectionError, Disposition.RETRY_IF_IDEMPOTENT, False)

FAILURES: list[tuple[Expected, list[Request[Any]], Reply]] = [
    # Gone: only in Arroyo's exact words, and only about the very object that the request names.
    (GONE, [GET, GET_JOB, DELETE, CHECKPOINTS], refused(404, "Pipeline not found")),
    (GONE, [PATCH], refused(400, "There are no jobs for the pipeline")),
    (GONE, [PATCH], refused(404, "Job for pipeline not found")),
    (GONE, [RESTART], refused(400, "No jobs for pipeline")),
    (GONE, [CHECKPOINTS], refused(404, "Job not found")),
    (GONE, [ONE_CHECKPOINT], refused(404, EPOCH_GONE)),
    (GONE, [DELETE_TABLE], refused(404, "Connection table not found")),
    (OUTAGE, [GET, PATCH, DELETE], refused(404, "Job not found")),
    (OUTAGE, [LIST], refused(404, "Pipeline not found")),
    (OUTAGE, [GET], refused(404, EPOCH_GONE)),
    # Already exists: likewise.
    (CONFLICT, [PUT], refused(400, TAKEN)),
    (CONFLICT, [PROFILE], refused(400, "A record already exists with that name")),
    (CONFLICT, [TABLE], refused(400, "connection_table with that name already exists")),
    (CONFLICT, [PROFILE], refused(400, "connection_profile with that name already exists")),
    (REFUSED, [PATCH, RESTART, DELETE], refused(400, TAKEN)),
    (OUTAGE, [GET, GET_JOB], refused(400, TAKEN)),
    (BAD_SQL, SQL, refused(400, "Failed to plan query:\n * column 'already exists' not found")),
    (BAD_SQL, SQL, refused(400, f'Schema error: No field named "{TAKEN}".')),
    (REFUSED, [RESTART], refused(409, "cannot restart job job_1 without state while it is in state Running")),
    (OUTAGE, [RESTART], reply(None, 409)),
    # Other refusals of Arroyo.
    (BAD_SQL, SQL, refused(400, "Error during planning: Query is empty")),
    *(
        (BAD_SQL, SQL, refused(400, words))
        for words in (
            "Error during planning: 'format' must be set for Kafka connection",
            'SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 1, Column: 1")',
            "This feature is not implemented: RECURSIVE",
            "Failed to create table orders\ncaused by\nError during planning: Required option 'topic' must be set",
            "Failed to plan query:\n * Query is empty!",
            "invalid UDF: UDF must contain a function with with the annotation #[udf]",
            "invalid Python UDF: no function",
            "Invalid UDF plus_one: the type is not supported",
            "Failed to build UDF: error[E0308]: mismatched types",
        )
    ),
    # The registry may be unavailable for a moment.
    (
        REFUSED,
        [CREATE, PUT, PREVIEW],
        refused(400, "Failed to register schemas with the schema registry. Make sure"),
    ),
    (REFUSED, SQL, refused(400, "Field name must be set")),
    (REFUSED, SQL, refused(400, "Checkpoint_interval_micros must be between 1 second and 1 day.")),
    (REFUSED, SQL, refused(400, "Failed to parse the request body as JSON: EOF while parsing a value")),
    (
        REFUSED,
        [DELETE_TABLE],
        refused(400, "Cannot delete connection_table; it is still being used by pipelines"),
    ),
    (
        REFUSED,
        [TABLE],
        refused(400, 'Failed to parse config: Error("missing field `event_rate`", line: 0, column: 0)'),
    ),
    (REFUSED, [DELETE], refused(400, "Pipeline's jobs must be in a terminal state")),
    (REFUSED, [PUT], NO_PUT),
    (REFUSED, GET_AND_CHANGES, refused(404, "Route not found")),
    (FATAL, [CREATE, PATCH], refused(422, "Failed to deserialize the JSON body into the target type")),
    (FATAL, [CREATE], refused(413, "Failed to buffer the request body: length limit exceeded")),
    (FATAL, [CREATE], html(413)),
    (UNAVAILABLE, [GET, LIST, VALIDATE], refused(500, "Something went wrong")),
    (REFUSED, [CREATE, PUT, PATCH, RESTART, DELETE], refused(500, "Something went wrong")),
    (UNAVAILABLE, GET_AND_CHANGES, refused(502, LEADER_AWAY)),
    *((AUTH, GET_AND_CHANGES, reply(None, status)) for status in (401, 403, 407)),
    # A gateway that refuses in Arroyo's form.
    *(
        (OUTAGE, [*SQL, PATCH, RESTART, DELETE, DELETE_TABLE, GET, LIST], refused(status, words))
        for status, words in (
            (400, "Request blocked"),
            (400, "SQL injection detected"),
            (400, "Security error: rule 942100 matched"),
            (400, "malformed request: Failed to plan query:"),
            (400, "invalid_request"),
            (409, "rate limit conflict"),
            (422, "Request body failed schema validation"),
        )
    ),
    # Other responses of gateways are in test_gateways, to every request.
    (OUTAGE, [GET, LIST, CREATE, PATCH], reply(None)),
    (OUTAGE, [LIST, GET_JOB], reply({"data": ["x"]})),
    (OUTAGE, [PING], reply("pong")),
    (CUT, [GET, LIST, CREATE, PATCH], reply(b'{"data": [{"id": "job')),
    (TLS, [PING], text(400, "Client sent an HTTP request to an HTTPS server.\n")),
    (TLS, [PING], html(400, "<html>400 The plain HTTP request was sent to HTTPS port</html>")),
    (TLS, [PING], html(400, "<html>400 No required SSL certificate was sent</html>")),
]


@pytest.mark.parametrize("expected, requests, response", FAILURES)
def test_failure(
    expected: Expected, requests: list[Request[Any]], response: Reply, connect: Connect, server: Server
) -> None:
    client = connect(server.url(), limits=ONCE)
    server.play(response)
    if PING not in requests:
        # A ping would distinguish SQL on which Arroyo breaks the connection from an outage.
        server.ping = CLOSE
    for request in requests:
        with pytest.raises(ArroyoError) as caught:
            client.send(request)
        error = caught.value
        assert (type(error), error.disposition, error.is_fatal) == expected, f"{request}: {error}"
        assert (vars(error)["method"], vars(error)["path"]) == (request.method, request.path)
    asked_again = [one for one in requests if expected[0] is ArroyoNotFoundError and one.again is not None]
    assert len(server.requests) == len(requests) + len(asked_again)


@pytest.mark.parametrize(
    "response, has_responded",
    [
        (reply(PIPELINE), True),
        (refused(404, "Pipeline not found"), True),
        (refused(404, "Not Found"), False),
        (html(200), False),
        (html(502), False),
        (reply(None, 401), False),
    ],
)
def test_only_arroyos_own_responses_count_as_contact(
    response: Reply, has_responded: bool, connect: Connect, server: Server
) -> None:
    client = connect(server.url(), limits=ONCE)
    server.play(response)
    with suppress(ArroyoError):
        client.send(GET)
    assert client.has_responded is has_responded
    assert client.with_limits().has_responded is has_responded
