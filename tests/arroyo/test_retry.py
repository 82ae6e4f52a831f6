"""What is tried again, how often, and how long is waited, the same from both clients."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoConnectionError, ArroyoError
from tests.arroyo.conftest import Clock, Connect, Driver
from tests.arroyo.server import HANG, HANG_UP, RESET, Reply, Server, cut, reply

SPEC = PipelineSpec(name="orders", query="SELECT 1")
PIPELINE = {"id": "pl_1", "name": "orders", "query": "SELECT 1", "stop": "none", "graph": {}}
LOGGER = "airflow_provider_arroyo.arroyo.retry"

CREATE = api.create_pipeline(SPEC)
PUT = api.put_pipeline("mine", SPEC)
STOP = api.patch_pipeline("pl_1", stop=StopMode.CHECKPOINT)
RESTART = api.restart_pipeline("pl_1")
DELETE = api.delete_pipeline("pl_1")
VALIDATE = api.validate_query("SELECT 1")
PREVIEW = api.preview("SELECT 1")
READ = api.get_pipeline("pl_1")

ALWAYS = [READ, VALIDATE, STOP, PUT, DELETE]
UNSENT_ONLY = [
    CREATE,
    RESTART,
    PREVIEW,
    api.create_udf(prefix="/", definition="fn f() {}"),
    api.create_connection_table(name="t", connector="impulse", config={}),
    api.create_connection_profile(name="p", connector="kafka", config={}),
]


def good(call: Call[Any]) -> Reply:
    """Return the answer that a call hopes for, as far as it matters here."""
    if call.method == "DELETE":
        return reply(None)
    if "validate_query" in call.path:
        return reply({"graph": None, "errors": []})
    return reply(PIPELINE)


def outcome(driver: Driver, call: Call[Any], **options: Any) -> ArroyoError | None:
    try:
        driver.call(call, **options)
    except ArroyoError as err:
        return err
    return None


@pytest.mark.parametrize("call", ALWAYS, ids=str)
@pytest.mark.parametrize(
    "failure",
    [RESET, HANG_UP, cut(b"{", 50), *(reply(None, status) for status in (429, 502, 503, 504))],
    ids=["reset", "hang up", "cut", "429", "502", "503", "504"],
)
def test_passing_failures_of_calls_that_are_safe_to_repeat(
    call: Call[Any], failure: Reply, client: Driver, server: Server, clock: Clock
) -> None:
    server.play(failure, failure, good(call))
    assert outcome(client, call) is None
    assert len(clock.slept) == 2


@pytest.mark.parametrize("call", UNSENT_ONLY, ids=str)
@pytest.mark.parametrize(
    "failure",
    [RESET, HANG_UP, cut(b"{", 50), reply(b'{"id": '), *(reply(None, s) for s in (500, 502, 503, 504))],
    ids=["reset", "hang up", "cut", "half", "500", "502", "503", "504"],
)
def test_calls_that_may_have_taken_effect_are_not_repeated(
    call: Call[Any], failure: Reply, client: Driver, server: Server, clock: Clock
) -> None:
    server.play(failure)
    assert outcome(client, call) is not None
    assert len(server.requests) == 1
    assert clock.slept == []


@pytest.mark.parametrize("call", [CREATE, RESTART, PREVIEW], ids=str)
def test_calls_that_were_turned_away_are_repeated(call: Call[Any], client: Driver, server: Server) -> None:
    server.play(reply(None, 429), reply(None, 429), good(call))
    assert outcome(client, call) is None
    assert len(server.requests) == 3


@pytest.mark.parametrize("call", [CREATE, RESTART, PREVIEW, READ], ids=str)
def test_calls_that_the_server_cannot_have_seen_are_repeated(
    call: Call[Any], connect: Connect, clock: Clock
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    error = outcome(connect(f"http://127.0.0.1:{free_port}"), call)
    assert isinstance(error, ArroyoConnectionError)
    assert len(clock.slept) == 10


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422])
@pytest.mark.parametrize("call", [READ, STOP, CREATE], ids=str)
def test_refusals_are_not_tried_again(
    status: int, call: Call[Any], client: Driver, server: Server, clock: Clock
) -> None:
    server.play(reply({"error": "no"}, status))
    error = outcome(client, call)
    assert isinstance(error, ArroyoApiError)
    assert error.status == status
    assert not error.is_transient
    assert clock.slept == []


@pytest.mark.parametrize("call, tries", [(READ, 2), (VALIDATE, 2), (STOP, 1), (PUT, 1), (DELETE, 1)])
def test_500_is_tried_again_on_reads(call: Call[Any], tries: int, client: Driver, server: Server) -> None:
    server.play(reply({"error": "Something went wrong"}, 500), good(call))
    assert (outcome(client, call) is None) == (tries == 2)
    assert len(server.requests) == tries


def test_ten_retries_with_growing_waits_and_a_warning_each(
    client: Driver, server: Server, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(reply("try again later", 503, content_type="text/plain"))
    with caplog.at_level(logging.DEBUG, LOGGER):
        error = outcome(client, READ)
    assert isinstance(error, ArroyoApiError)
    assert "try again later" in str(error)
    assert len(server.requests) == 11
    most = [0.2, 0.4, 0.8, 1.6, *[2.0] * 6]
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(clock.slept, most, strict=True))
    assert len({round(wait, 6) for wait in clock.slept[4:]}) > 1, "the waits are not random"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 10
    first = caplog.records[0].getMessage()
    assert first.startswith("GET /pipelines/pl_1: Arroyo at ")
    assert "; retry 1 of 10 in 0." in first
    assert "try again later" in first


def test_key_is_not_in_the_warnings(
    connect: Connect, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(reply({"error": "who is Bearer s3cret-key?"}, 503), reply(PIPELINE))
    with caplog.at_level(logging.DEBUG):
        connect(server.url(), api_key="s3cret-key").call(READ)
    assert "who is Bearer ***?" in caplog.text
    assert "s3cret" not in caplog.text


def test_retry_after_is_waited_for(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(None, 503, headers={"retry-after": "7"}), reply(PIPELINE))
    assert outcome(client, READ) is None
    assert clock.slept == [7.0]


def test_retry_after_that_is_too_long_fails_at_once(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(None, 429, headers={"retry-after": "3600"}))
    error = outcome(client, READ)
    assert isinstance(error, ArroyoApiError)
    assert error.retry_after_seconds == 3600
    assert "3600 s" in str(error)
    assert clock.slept == []


def test_no_wait_goes_past_the_deadline(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(None, 503))
    began = clock()
    error = outcome(client, READ, deadline=began + 1.5)
    assert isinstance(error, ArroyoApiError)
    assert 2 <= len(clock.slept) <= 4
    assert clock() < began + 1.5


def test_no_retry_after_goes_past_the_deadline(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(None, 503, headers={"retry-after": "20"}))
    assert isinstance(outcome(client, READ, deadline=clock() + 10), ArroyoApiError)
    assert clock.slept == []


def test_nothing_is_asked_after_the_deadline(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(PIPELINE))
    error = outcome(client, CREATE, deadline=clock())
    assert isinstance(error, ArroyoConnectionError)
    assert not error.was_sent
    assert "deadline" in str(error)
    assert server.requests == []
    assert clock.slept == []


@pytest.mark.parametrize("step", [HANG, Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "drip")])
def test_deadline_bounds_an_attempt(step: Reply, connect: Connect, server: Server) -> None:
    server.play(step)
    driver = connect(server.url(), clock=time.monotonic)
    began = time.monotonic()
    assert isinstance(outcome(driver, READ, deadline=began + 0.4), ArroyoConnectionError)
    assert time.monotonic() - began < 3, "the timeouts of the settings, 35 s in all, were used"


def test_policy_without_retries(connect: Connect, server: Server, clock: Clock) -> None:
    server.play(reply(None, 503))
    assert outcome(connect(server.url(), retry=RetryPolicy(retries=0)), READ) is not None
    assert len(server.requests) == 1
    assert clock.slept == []


def test_delete_whose_answer_was_lost_is_done(client: Driver, server: Server) -> None:
    server.play(HANG_UP, reply({"error": "Pipeline not found"}, 404))
    assert outcome(client, DELETE) is None


def test_delete_that_was_never_there_is_not_done(client: Driver, server: Server) -> None:
    server.play(reply(None, 429), reply({"error": "Pipeline not found"}, 404))
    error = outcome(client, DELETE)
    assert isinstance(error, ArroyoApiError)
    assert error.status == 404


def test_waits_stay_within_their_limits_however_many_there_are() -> None:
    policy = RetryPolicy(first_wait_seconds=0.1, max_wait_seconds=2.0)
    assert all(policy.wait_seconds(retry) <= 2.0 for retry in (1, 10, 1000, 100_000))
    assert policy.wait_seconds(1, 5.0) == 5.0
