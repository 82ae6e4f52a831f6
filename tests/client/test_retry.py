"""Which requests are repeated, the pauses in between, and the log lines."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import Limits, backoff_seconds, poll_retry_seconds
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
    Disposition,
)
from tests.client.conftest import PIPELINE, SPEC, Clock, Connect, failure
from tests.client.server import CLOSE, RESET, Reply, Server, cut, reply
from tests.support import Lines

CREATE = api.create_pipeline(**SPEC)
PUT = api.put_pipeline("pl_1", **SPEC)
STOP = api.patch_pipeline("pl_1", stop="checkpoint")
RESTART = api.restart_pipeline("pl_1")
DELETE = api.delete_pipeline("pl_1")
VALIDATE = api.validate_query("SELECT 1")
PREVIEW = api.preview_query("SELECT 1")
READ = api.get_pipeline("pl_1")

IDEMPOTENT = [READ, VALIDATE, STOP, PUT, DELETE]
NOT_IDEMPOTENT = [
    CREATE,
    RESTART,
    PREVIEW,
    catalog.create_udf(prefix="/", definition="fn f() {}"),
    catalog.create_connection_table(name="t", connector="impulse", config={}),
    catalog.create_connection_profile(name="p", connector="kafka", config={}),
]

PAGE = reply("<html>Sign in</html>", content_type="text/html")
GONE = reply({"error": "Pipeline not found"}, 404)
NOT_AVAILABLE = reply({"error": "try again later"}, 503)


def good(request: Request[Any]) -> Reply:
    """Return a valid response to the request."""
    if request.method == "DELETE":
        return reply(None)
    return reply({"graph": None, "errors": []} if request is VALIDATE else PIPELINE)


@pytest.fixture(autouse=True)
def _no_ping(server: Server) -> None:
    # A ping distinguishes SQL on which Arroyo breaks the connection from an outage. Here it is an outage.
    server.ping = CLOSE


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "airflow_provider_arroyo")
    return caplog


# -- what is repeated ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", IDEMPOTENT, ids=str)
@pytest.mark.parametrize(
    "step",
    [RESET, CLOSE, cut(b"{", 50), PAGE, *(reply(None, status) for status in (404, 429, 502, 503, 504))],
    ids=["reset", "close", "cut", "page", "404", "429", "502", "503", "504"],
)
def test_idempotent_requests_are_repeated(
    request_: Request[Any], step: Reply, client: ArroyoClient, server: Server, clock: Clock
) -> None:
    server.play(step, step, good(request_), GONE)
    client.send(request_)
    assert len(clock.slept) == 2


@pytest.mark.parametrize("request_", NOT_IDEMPOTENT, ids=str)
@pytest.mark.parametrize(
    "step",
    [
        RESET,
        CLOSE,
        cut(b"{", 50),
        reply(b'{"id": '),
        PAGE,
        *(reply(None, s) for s in (429, 500, 502, 503, 504)),
    ],
    ids=["reset", "close", "cut", "half", "page", "429", "500", "502", "503", "504"],
)
def test_requests_that_may_have_taken_effect_are_not_repeated(
    request_: Request[Any], step: Reply, client: ArroyoClient, server: Server
) -> None:
    server.play(step)
    error = failure(client, request_)
    assert isinstance(error, ArroyoConnectionError | ArroyoApiError)
    assert len(server.requests) == 1


@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "proxy"])
@pytest.mark.parametrize("request_", [CREATE, RESTART, READ], ids=str)
def test_requests_that_were_not_sent_are_repeated(
    request_: Request[Any], proxy: bool, connect: Connect, clock: Clock, closed_port: int
) -> None:
    address = f"http://127.0.0.1:{closed_port}"
    client = connect("http://arroyo.invalid", proxies={"http": address}) if proxy else connect(address)
    assert isinstance(failure(client, request_), ArroyoUnreachableError)
    assert len(clock.slept) >= 10


TUNNEL = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "step",
    [
        *(Reply(TUNNEL, then) for then in ("close", "reset", "hang")),
        *(CLOSE, reply(None, 503), Reply(b"HTTP/1.1 200 O", "hang")),
    ],
    ids=["close", "reset", "hang", "no tunnel", "503", "half"],
)
@pytest.mark.parametrize("request_", [CREATE, RESTART], ids=str)
def test_requests_that_did_not_pass_a_tunnel_are_repeated(
    request_: Request[Any], step: Reply, connect: Connect, server: Server
) -> None:
    """A restarting gateway accepts connections, but the TLS handshake behind it fails."""
    server.play(step)
    proxies = {"https": server.url()}
    client = connect(
        "https://arroyo.invalid", proxies=proxies, connect_timeout_seconds=0.5, read_timeout_seconds=0.5
    )
    with pytest.raises(ArroyoUnreachableError) as caught:
        client.with_limits(max_elapsed_seconds=3).send(request_)
    assert "taken effect" not in str(caught.value)
    assert len(server.requests) > 1
    assert {one.method for one in server.requests} == {"CONNECT"}


@pytest.mark.parametrize("request_", [CREATE, READ], ids=str)
def test_requests_whose_handshake_does_not_end_are_repeated(request_: Request[Any], connect: Connect) -> None:
    with Server(to_tls=None, script=[CLOSE]) as server:
        client = connect(server.url("https"), connect_timeout_seconds=0.5, read_timeout_seconds=0.5)
        error = failure(client.with_limits(max_elapsed_seconds=3), request_)
        assert isinstance(error, ArroyoUnreachableError)
        assert "taken effect" not in str(error)
        assert server.connections > 1


@pytest.mark.parametrize("step", [CLOSE, RESET], ids=["close", "reset"])
def test_a_request_whose_response_a_proxy_lost_may_have_taken_effect(
    step: Reply, connect: Connect, server: Server
) -> None:
    """urllib3 reports that the proxy cannot be reached, which would be safe to repeat."""
    server.play(step)
    client = connect("http://arroyo.invalid", proxies={"http": server.url()})
    error = failure(client, CREATE)
    assert error.disposition is Disposition.RETRY_IF_IDEMPOTENT
    assert "may have taken effect" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("request_", [VALIDATE, STOP, CREATE], ids=str)
def test_fatal_failures_are_not_repeated(
    request_: Request[Any], client: ArroyoClient, server: Server
) -> None:
    server.play(reply({"error": "Failed to deserialize the JSON body into the target type: no"}, 422))
    assert isinstance(failure(client, request_), ArroyoApiError)
    assert len(server.requests) == 1


def test_a_delete_whose_response_was_lost_succeeds(
    client: ArroyoClient, server: Server, log: pytest.LogCaptureFixture
) -> None:
    server.play(CLOSE, GONE)
    client.delete_pipeline("pl_1")
    assert [record.levelname for record in log.records] == ["WARNING", "INFO"]


def test_a_delete_of_a_missing_pipeline_is_an_error(client: ArroyoClient, server: Server) -> None:
    server.play(GONE)
    assert isinstance(failure(client, DELETE), ArroyoNotFoundError)


def test_a_repeated_put_whose_response_was_lost_is_a_conflict(client: ArroyoClient, server: Server) -> None:
    server.play(CLOSE, reply({"error": "A record already exists with that name or id"}, 400))
    assert isinstance(failure(client, PUT), ArroyoConflictError)


# -- pauses --------------------------------------------------------------------------------------------


def test_pauses_grow_to_two_seconds_and_are_random(connect: Connect, server: Server, clock: Clock) -> None:
    server.play(NOT_AVAILABLE)
    failure(connect(server.url(), limits=Limits(max_elapsed_seconds=60)), READ)
    most = [0.2, 0.4, 0.8, 1.6, *[2.0] * 16]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(clock.slept, most, strict=False))
    assert len({round(wait, 6) for wait in clock.slept[4:20]}) > 8
    assert all(backoff_seconds(retry) <= 2.0 for retry in (1000, 100_000))


@pytest.mark.parametrize("seconds", [7, 119, 300])
def test_retry_after_is_respected(seconds: int, connect: Connect, server: Server, clock: Clock) -> None:
    server.play(reply(None, 503, headers={"retry-after": str(seconds)}), reply(PIPELINE))
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=seconds + 2))
    client.expect_arroyo()
    client.send(READ)
    assert clock.slept == [seconds]


@pytest.mark.parametrize("max_elapsed, seconds", [(600, 601), (600, 3600), (15, 20)])
def test_too_many_requests_for_longer_than_the_limit_fail_at_once(
    max_elapsed: float, seconds: int, connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(reply(None, 429, headers={"retry-after": str(seconds)}))
    error = failure(connect(server.url(), limits=Limits(max_elapsed_seconds=max_elapsed)), READ)
    assert isinstance(error, ArroyoApiError)
    assert error.retry_after_seconds == seconds
    assert f"asks to wait {seconds} s" in str(error)
    assert clock.slept == []


@pytest.mark.parametrize("has_responded", [False, True])
@pytest.mark.parametrize("seconds", [300, 3600])
def test_a_gateway_cannot_say_how_long_an_outage_lasts(
    seconds: int, has_responded: bool, connect: Connect, server: Server, clock: Clock
) -> None:
    """A maintenance page often asks for the same time, however soon Arroyo is back."""
    page = reply(
        "<html>Maintenance</html>", 503, content_type="text/html", headers={"retry-after": str(seconds)}
    )
    server.play(page, page, page, page, reply(PIPELINE))
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=600))
    if has_responded:
        client.expect_arroyo()
    client.send(READ)
    fits = has_responded and seconds == 300
    assert clock.slept == ([300.0, 5.0, 5.0, 5.0] if fits else [5.0] * 4)
    server.play(page)
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=600))
    began = clock()
    assert str(failure(client, READ)).startswith("This address does not look like Arroyo: for ")
    assert 58 <= clock() - began <= 60


def test_retries_of_a_poll() -> None:
    error = ArroyoApiError("no", status=503)
    waits = [poll_retry_seconds(failures, 0.1, error) for failures in range(1, 11)]
    most = [0.2, 0.4, 0.8, 1.6, *[2.0] * 6]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, most, strict=True))
    assert poll_retry_seconds(11, 0.1, error) == 0.1, "the poll is missed, and the next one is due"
    assert poll_retry_seconds(12, 0.1, error) <= 0.2
    assert poll_retry_seconds(11, 0.1, ArroyoApiError("no", retry_after_seconds=3.0)) == 3.0
    # A server that asks for an hour's pause may recover sooner, which only a poll detects.
    assert poll_retry_seconds(1, 0.1, ArroyoApiError("no", retry_after_seconds=3600.0)) == 5.0


# -- what is logged ------------------------------------------------------------------------------------------------


def test_one_warning_then_debug_then_one_info(
    client: ArroyoClient, server: Server, log: pytest.LogCaptureFixture
) -> None:
    server.play(NOT_AVAILABLE, NOT_AVAILABLE, NOT_AVAILABLE, reply(PIPELINE))
    client.send(READ)
    assert [record.levelname for record in log.records] == ["WARNING", "DEBUG", "DEBUG", "INFO"]
    first, *_, last = (record.getMessage() for record in log.records)
    assert first.startswith("GET /pipelines/pl_1 failed, retrying for up to 15.0 s: Arroyo at http")
    assert "try again later" in first
    assert re.fullmatch(r"Arroyo responds again after [\d.]+ s", last)


def test_the_warning_names_the_limit_that_applies(
    connect: Connect, server: Server, log: pytest.LogCaptureFixture
) -> None:
    server.play(PAGE)
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=600))
    failure(client, READ)
    client.expect_arroyo()
    failure(client, READ)
    first, second = (one.getMessage() for one in log.records if one.levelno == logging.WARNING)
    assert "failed, retrying for up to 1 min: " in first
    assert "failed, retrying for up to 10 min: " in second


def test_no_info_is_logged_if_the_outage_did_not_end(
    client: ArroyoClient, server: Server, log: pytest.LogCaptureFixture
) -> None:
    server.play(reply(PIPELINE), NOT_AVAILABLE)
    client.send(READ)
    assert log.records == []
    failure(client, READ)
    assert [record.levelname for record in log.records].count("WARNING") == 1
    assert {record.levelname for record in log.records} == {"WARNING", "DEBUG"}


def test_retries_are_logged_to_the_given_log(client: ArroyoClient, server: Server) -> None:
    log, handler = logging.Logger("task"), Lines()
    log.addHandler(handler)
    server.play(NOT_AVAILABLE, reply(PIPELINE))
    client.with_limits(log=log).send(READ)
    assert [level for level, _ in handler.lines] == ["WARNING", "INFO"]


def test_key_is_not_logged(connect: Connect, server: Server, log: pytest.LogCaptureFixture) -> None:
    server.play(reply({"error": "who is Bearer s3cret-key?"}, 503), reply(PIPELINE))
    connect(server.url(), api_key="s3cret-key").send(READ)
    assert "who is Bearer ***?" in log.text
    assert "s3cret" not in log.text
