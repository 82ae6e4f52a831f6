"""Outages shorter and longer than tolerated, on a clock that only moves when somebody waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call, Exchange
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec, Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoResponseError,
    ArroyoTlsError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.hooks.clock import SteadyClock
from airflow_provider_arroyo.hooks.patience import PatientClient
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.support import Lines

T = TypeVar("T")

SPEC = PipelineSpec(name="n", query="SELECT 1")
READ: Call[Any] = api.get_pipeline("pl_1")
CREATE: Call[Any] = api.create_pipeline(SPEC)
RESTART: Call[Any] = api.restart_pipeline("pl_1")
PATCH: Call[Any] = api.patch_pipeline("pl_1", stop="checkpoint")

START = 1_795_000_000.0


class Clock(SteadyClock):
    """Moves only when somebody sleeps by it."""

    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def monotonic(self, moment: float) -> float:
        return moment

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


class Scripted:
    """Answers as a script says: an error is raised, anything else is the value.

    :param takes: how long each exchange takes, in seconds.
    """

    def __init__(self, clock: Clock, *script: Any, takes: float = 0.0) -> None:
        self._clock = clock
        self._script = list(script)
        self._takes = takes
        self.deadlines: list[float] = []

    def exchange(self, call: Call[T], *, deadline: float) -> Exchange[T]:
        self.deadlines.append(deadline)
        self._clock.now += self._takes
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, BaseException):
            raise step
        return Exchange(step, {"date": "Wed, 25 Nov 2026 04:00:00 GMT"})


def refused() -> ArroyoConnectionError:
    return ArroyoConnectionError("refused the connection", was_sent=False)


def reset() -> ArroyoConnectionError:
    return ArroyoConnectionError("broke the connection", was_sent=True)


def status(number: int, *, method: str = "GET", retry_after: float | None = None) -> ArroyoApiError:
    return ArroyoApiError(
        f"status {number}", status=number, method=method, path="/x", retry_after_seconds=retry_after
    )


Patient = Callable[..., PatientClient]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def patient(clock: Clock, lines: Lines) -> Patient:
    def make(client: Any, seconds: float = 600) -> PatientClient:
        log = logging.Logger("tests.patience")
        log.addHandler(lines)
        return PatientClient(
            client, clock=clock, tolerance=timedelta(seconds=seconds), log=log, sleep=clock.sleep
        )

    return make


def test_nothing_is_said_while_all_is_well(patient: Patient, clock: Clock, lines: Lines) -> None:
    answer = patient(Scripted(clock, "value")).exchange(READ)
    assert answer.value == "value"
    assert answer.server_date is not None
    assert (lines.lines, clock.slept) == ([], [])


def test_outage_shorter_than_tolerated(patient: Patient, clock: Clock, lines: Lines) -> None:
    client = Scripted(clock, *[refused()] * 30, status(502), status(503), reset(), "value")
    assert patient(client, 60).call(READ) == "value"
    assert [level for level, _ in lines.lines] == ["WARNING", "INFO"]
    assert "cannot be reached, which is tolerated for 1 min: refused" in lines.lines[0][1]
    assert lines.lines[1][1] == "Arroyo can be reached again after 33.0 s"
    assert clock.now == START + 33


@pytest.mark.parametrize("error", [refused(), reset(), status(500), status(502), status(503), status(504)])
def test_outage_longer_than_tolerated(patient: Patient, clock: Clock, error: ArroyoError) -> None:
    with pytest.raises(ArroyoUnreachableError) as caught:
        patient(Scripted(clock, error), 60).call(READ)
    assert clock.now == pytest.approx(START + 60)
    assert caught.value.since == START
    assert caught.value.__cause__ is error
    text = str(caught.value)
    assert "unreachable for 1 min since 2026-11-18 11:06:40 UTC" in text
    assert f"The last call failed: {error}" in text
    assert "Nothing is known of the pipeline meanwhile, and nothing was done to it" in text
    assert not caught.value.is_permanent


def test_outage_that_ends_just_in_time(patient: Patient, clock: Clock) -> None:
    assert patient(Scripted(clock, *[refused()] * 60, "value"), 60.5).call(READ) == "value"
    assert clock.now == START + 60


def test_no_tolerance_means_the_first_failure_counts(patient: Patient, clock: Clock, lines: Lines) -> None:
    client = Scripted(clock, refused(), "value")
    with pytest.raises(ArroyoUnreachableError):
        patient(client, 0).call(READ)
    assert (len(client.deadlines), clock.slept, lines.lines) == (1, [], [])


def test_each_outage_is_tolerated_for_itself(patient: Patient, clock: Clock, lines: Lines) -> None:
    client = Scripted(clock, *[refused()] * 50, "one", *[refused()] * 50, "two")
    calls = patient(client, 60)
    assert [calls.call(READ), calls.call(READ)] == ["one", "two"]
    assert [level for level, _ in lines.lines] == ["WARNING", "INFO"] * 2


@pytest.mark.parametrize("call", [CREATE, RESTART])
@pytest.mark.parametrize("error", [reset(), status(502, method="POST"), status(504, method="POST")])
def test_call_that_may_have_taken_effect_is_not_repeated(
    patient: Patient, clock: Clock, call: Call[Any], error: ArroyoError
) -> None:
    client = Scripted(clock, error, "value")
    with pytest.raises(type(error)) as caught:
        patient(client).call(call)
    assert caught.value is error
    assert len(client.deadlines) == 1


@pytest.mark.parametrize("call", [CREATE, RESTART])
@pytest.mark.parametrize("error", [refused(), status(429, method="POST")])
def test_call_that_cannot_have_taken_effect_is_repeated(
    patient: Patient, clock: Clock, call: Call[Any], error: ArroyoError
) -> None:
    assert patient(Scripted(clock, error, error, "value")).call(call) == "value"


@pytest.mark.parametrize("error", [reset(), status(502, method="PATCH"), status(503, method="PATCH")])
def test_call_that_sets_what_is_wanted_is_repeated(
    patient: Patient, clock: Clock, error: ArroyoError
) -> None:
    assert patient(Scripted(clock, error, "value")).call(PATCH) == "value"


@pytest.mark.parametrize(
    "error",
    [
        ArroyoAuthError("no", status=401, method="GET", path="/x"),
        ArroyoNotFoundError("no", status=404, method="GET", path="/x"),
        ArroyoTlsError("no"),
        *(status(number) for number in (400, 405, 409, 413, 422)),
        status(500, method="PATCH"),
    ],
)
def test_what_no_waiting_mends_is_raised_at_once(
    patient: Patient, clock: Clock, lines: Lines, error: ArroyoError
) -> None:
    with pytest.raises(type(error)) as caught:
        patient(Scripted(clock, error, "value")).call(PATCH if "PATCH" in vars(error).values() else READ)
    assert caught.value is error
    assert (clock.slept, lines.lines) == ([], [])


def test_permanent_error_ends_an_outage(patient: Patient, clock: Clock) -> None:
    gone = ArroyoNotFoundError("gone", status=404, method="GET", path="/x")
    with pytest.raises(ArroyoNotFoundError):
        patient(Scripted(clock, refused(), gone)).call(READ)


@pytest.mark.parametrize("asked, waited", [(300.0, [300.0]), (0.2, [1.0]), (5000.0, [599.0])])
def test_retry_after_is_honoured(patient: Patient, clock: Clock, asked: float, waited: list[float]) -> None:
    """Where that is longer than is tolerated, it is asked once more before it is given up."""
    client = Scripted(clock, status(429, retry_after=asked), "value")
    assert patient(client).call(READ) == "value"
    assert clock.slept == waited
    with pytest.raises(ArroyoUnreachableError):
        patient(Scripted(clock, status(429, retry_after=5000.0))).call(READ)
    assert sum(clock.slept[len(waited) :]) == 600.0


def test_page_of_a_gateway_is_an_outage_where_arroyo_has_answered_before(
    patient: Patient, clock: Clock
) -> None:
    page = ArroyoResponseError("HTML", status=200, method="GET", path="/x")
    with pytest.raises(ArroyoResponseError):
        patient(Scripted(clock, page, "value")).call(READ)
    known = patient(Scripted(clock, "first", page, "value"))
    assert [known.call(READ), known.call(READ)] == ["first", "value"]


def test_attempts_have_the_time_that_is_tolerated(patient: Patient, clock: Clock) -> None:
    client = Scripted(clock, refused(), "value")
    patient(client, 60).call(READ)
    assert client.deadlines == [START + 60] * 2


def test_slow_answer_is_no_outage(patient: Patient, clock: Clock) -> None:
    """A call that is known to be slow, such as one that compiles, has its time whatever is tolerated."""
    compiling: Call[Any] = api.put_pipeline(
        "pl_1", PipelineSpec(name="n", query="q", udfs=(Udf("fn f() {}"),))
    )
    client = Scripted(clock, "value", takes=120)
    assert patient(client, 1).call(compiling) == "value"
    assert client.deadlines == [START + compiling.min_read_timeout_seconds]
    assert compiling.min_read_timeout_seconds >= 300
    quick = Scripted(clock, "value")
    patient(quick, 1).call(READ)
    assert quick.deadlines == [clock.now + 5]


def test_interruption_goes_through(patient: Patient, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        patient(Scripted(clock, KeyboardInterrupt())).call(READ)


# -- with a real client, over HTTP -----------------------------------------------------------------------------


@pytest.fixture
def sandbox() -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(clock=ManualClock(), seed=1) as made:
        yield made


def test_over_http(sandbox: ArroyoSandbox, patient: Patient, clock: Clock) -> None:
    settings = ClientSettings(base_url=sandbox.url)
    with ArroyoClient(settings, retry=RetryPolicy(retries=2), sleep=clock.sleep, clock=clock) as client:
        sandbox.faults.api_away()
        with pytest.raises(ArroyoUnreachableError, match="refused the connection"):
            patient(client, 30).call(api.list_jobs())
        assert clock.now == pytest.approx(START + 30, abs=0.1)
        sandbox.faults.api_back()
        sandbox.faults.status(502, times=7, error=None)
        assert patient(client, 30).call(api.list_jobs()) == ()


def test_error_that_says_only_that_time_was_up_does_not_hide_the_reason(
    sandbox: ArroyoSandbox, patient: Patient, clock: Clock
) -> None:
    settings = ClientSettings(base_url=sandbox.url)
    for tolerance in (6.0, 7.3, 10.0, 61.7):
        with ArroyoClient(settings, sleep=clock.sleep, clock=clock) as client:
            fault = sandbox.faults.status(503, times=None, error="the leader is away")
            with pytest.raises(ArroyoUnreachableError, match="the leader is away"):
                patient(client, tolerance).call(api.list_jobs())
            sandbox.faults.take_back(fault)
