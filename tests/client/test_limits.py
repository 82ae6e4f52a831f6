"""How long requests are repeated, and how long one try may take."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
    Disposition,
)
from tests.adapters import PassingAdapter, count_as_sent
from tests.client.conftest import ONCE, SPEC, Clock, Connect, failure
from tests.client.server import CLOSE, HANG, RESET, Reply, Server, reply

CREATE = api.create_pipeline(**SPEC)
READ = api.get_pipeline("pl_1")
STOP = api.patch_pipeline("pl_1", stop="checkpoint")

PAGE = reply("<html>Sign in</html>", content_type="text/html")
GONE = reply({"error": "Pipeline not found"}, 404)
NOT_AVAILABLE = reply({"error": "try again later"}, 503)


def test_failures_are_repeated_for_max_elapsed(connect: Connect, server: Server, clock: Clock) -> None:
    server.play(NOT_AVAILABLE)
    began = clock()
    error = failure(connect(server.url(), limits=Limits(max_elapsed_seconds=300)), READ)
    assert isinstance(error, ArroyoUnreachableError)
    assert 299 <= clock() - began <= 300
    assert re.search(r"unreachable for (4 min 59 s|5 min), since \d{4}-\d\d-\d\d ", str(error))
    assert "Last error of GET /pipelines/pl_1: Arroyo at http" in str(error)
    assert "try again later" in str(error)
    assert time.time() - 60 < error.since <= time.time()


def test_an_address_that_never_was_arroyo_fails_in_60_s(
    connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(PAGE)
    began = clock()
    error = failure(connect(server.url(), limits=Limits(max_elapsed_seconds=600)), READ)
    assert isinstance(error, ArroyoUnreachableError)
    assert 59 <= clock() - began <= 60
    assert str(error).startswith("This address does not look like Arroyo: for ")
    assert "Sign in" in str(error)


@pytest.mark.parametrize("before", [RESET, NOT_AVAILABLE], ids=["reset", "503"])
def test_the_60_s_count_from_the_first_response_of_something_else(
    before: Reply, connect: Connect, server: Server, clock: Clock
) -> None:
    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock() - began >= 80:
            server.play(PAGE)

    server.play(before)
    began = clock()
    error = failure(connect(server.url(), limits=Limits(max_elapsed_seconds=600), sleep=sleep), READ)
    assert 138 <= clock() - began <= 142
    assert str(error).startswith("This address does not look like Arroyo: for 2 min ")


def test_an_address_of_arroyo_is_retried_for_max_elapsed(
    connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(GONE, GONE, PAGE)
    client = connect(server.url())
    assert isinstance(failure(client, READ), ArroyoNotFoundError)
    began = clock()
    error = failure(client.with_limits(max_elapsed_seconds=600), READ)
    assert 599 <= clock() - began <= 600
    assert str(error).startswith("Arroyo has been unreachable for 10 min, since ")


def test_an_address_that_earlier_was_arroyo_is_retried_for_max_elapsed(
    connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(PAGE)
    client = connect(server.url(), limits=Limits(max_elapsed_seconds=600))
    client.expect_arroyo()
    began = clock()
    failure(client, READ)
    assert 599 <= clock() - began <= 600


@pytest.mark.parametrize(
    "request_, step, may_have_taken_effect",
    [(STOP, CLOSE, True), (STOP, reply(None, 429), True), (READ, CLOSE, False)],
    ids=["lost change", "change that a gateway turned away", "read"],
)
def test_the_message_about_a_change_that_may_have_taken_effect(
    request_: Request[Any], step: Reply, may_have_taken_effect: bool, client: ArroyoClient, server: Server
) -> None:
    server.play(step, NOT_AVAILABLE if may_have_taken_effect else step)
    error = failure(client, request_)
    assert isinstance(error, ArroyoUnreachableError)
    assert ("\nIt may have taken effect. Check" in str(error)) is may_have_taken_effect


def test_one_try_raises_the_error_itself(connect: Connect, server: Server, clock: Clock) -> None:
    server.play(NOT_AVAILABLE, PAGE)
    client = connect(server.url(), limits=ONCE)
    error = failure(client, READ)
    assert type(error) is ArroyoApiError
    assert error.disposition is Disposition.RETRY_IF_IDEMPOTENT
    assert type(failure(client, READ)) is ArroyoForeignResponseError
    assert len(server.requests) == 2
    assert clock.slept == []


@pytest.mark.parametrize("max_elapsed", [15, 600])
def test_a_deadline_is_a_point_in_time_not_a_duration(
    max_elapsed: float, connect: Connect, server: Server, clock: Clock
) -> None:
    server.play(NOT_AVAILABLE)
    deadline = clock() + 5
    client = connect(server.url()).with_limits(max_elapsed_seconds=max_elapsed, deadline=deadline)
    failure(client.with_limits(first_try_seconds=1), READ)
    assert deadline - 1 <= clock() <= deadline
    sent = len(server.requests)
    clock.now = deadline
    error = failure(client, CREATE)
    assert type(error) is ArroyoConnectionError
    assert error.disposition is Disposition.RETRY
    assert "not completed before its deadline. Allow more time (timeout)" in str(error)
    assert len(server.requests) == sent


@pytest.mark.parametrize("step", [HANG, Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "drip")])
def test_a_deadline_limits_each_try(step: Reply, connect: Connect, server: Server) -> None:
    server.play(step)
    client = connect(server.url(), clock=time.monotonic, sleep=time.sleep)
    began = time.monotonic()
    failure(client.with_limits(deadline=began + 0.4), READ)
    assert time.monotonic() - began < 20, "the timeouts of the settings, 35 s in all, were used"


class Scripted(PassingAdapter):
    """Fails each request after that many seconds of a clock, or after its timeout if that is shorter."""

    def __init__(self, client: ArroyoClient, clock: Clock, seconds: list[float]) -> None:
        super().__init__(client)
        self._clock = clock
        self._seconds = seconds
        self.timeouts: list[Any] = []

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        count_as_sent()
        timeout = kwargs["timeout"]
        self.timeouts.append(timeout)
        wanted = self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        self._clock.now += min(wanted, timeout.total)
        raise requests.exceptions.ReadTimeout("scripted")


def scripted(
    clock: Clock, *seconds: float, limits: Limits | None = None, read_timeout: float = 30.0
) -> tuple[ArroyoClient, Scripted]:
    address = ClientSettings(base_url="http://arroyo.example", read_timeout_seconds=read_timeout)
    client = ArroyoClient(address, limits=limits, clock=clock, sleep=clock.sleep)
    return client, Scripted(client, clock, list(seconds))


@settings(max_examples=50)
@example(seconds=[6.0], max_elapsed=6.0, read_timeout=0.875)  # one try, which ends when none may follow
@given(
    seconds=st.lists(st.floats(0, 60), min_size=1, max_size=20),
    max_elapsed=st.floats(6, 100),
    read_timeout=st.floats(0.5, 60),
)
def test_max_elapsed_is_exact_to_a_second(
    seconds: list[float], max_elapsed: float, read_timeout: float
) -> None:
    """However long the server takes to fail each try, and also if it hangs; but one try may always take its time."""
    clock = Clock()
    client, _ = scripted(
        clock,
        *seconds,
        limits=Limits(max_elapsed_seconds=max_elapsed),
        read_timeout=read_timeout,
    )
    began = clock()
    error = failure(client, READ)
    assert isinstance(error, ArroyoUnreachableError)
    timeouts = client.settings.connect_timeout_seconds + read_timeout
    assert max_elapsed - 1 <= clock() - began <= max(max_elapsed, timeouts) + 0.001


@pytest.mark.parametrize("seconds, took", [(None, 125.0), (0.5, 0.5), (20, 20)])
def test_the_first_try_gets_its_full_time(seconds: float | None, took: float, clock: Clock) -> None:
    client, adapter = scripted(clock, 200.0, limits=ONCE, read_timeout=120.0)
    client = client.with_limits(first_try_seconds=seconds)
    began = clock()
    assert type(failure(client, READ)) is ArroyoConnectionError
    assert clock() - began == pytest.approx(took)
    assert len(adapter.timeouts) == 1


@pytest.mark.parametrize("max_elapsed", [15, 600])
def test_a_slow_response_may_take_the_read_timeout(max_elapsed: float, clock: Clock) -> None:
    """Planning some SQL takes longer than an outage of the API may last."""
    client, _ = scripted(clock, 200.0, limits=Limits(max_elapsed_seconds=max_elapsed), read_timeout=120.0)
    began = clock()
    failure(client, CREATE)
    assert clock() - began == pytest.approx(125)
    began = clock()
    failure(client.with_limits(deadline=clock() + 7), CREATE)
    assert clock() - began == pytest.approx(7)


def test_a_short_limit_applies_to_slow_responses_too(clock: Clock) -> None:
    client, _ = scripted(clock, 200.0, limits=Limits(max_elapsed_seconds=600))
    for limit in (10, 0):
        began = clock()
        failure(client.with_limits(max_elapsed_seconds=limit or 600).with_short_limit(10), READ)
        assert clock() - began == pytest.approx(10)


def test_slow_requests_get_a_longer_timeout(clock: Clock) -> None:
    """Compiling a UDF takes long, and the output of a preview may pause."""
    client, adapter = scripted(clock, 0.0)
    failure(client, catalog.create_udf(prefix="/", definition="fn f() {}"))
    with pytest.raises(ArroyoError):
        list(client.stream_output("p", "j"))
    assert adapter.timeouts[0].read_timeout == pytest.approx(300)
    assert adapter.timeouts[1].read_timeout == pytest.approx(90)
