"""The clock, the errors of tasks, and what has moved within Airflow."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNoConnectionError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoPipelineError,
    ArroyoQueryError,
    ArroyoResponseError,
    ArroyoSettingsError,
    ArroyoTlsError,
    ArroyoUnreachableError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.hooks import compat
from airflow_provider_arroyo.hooks.clock import SteadyClock
from airflow_provider_arroyo.hooks.errors import (
    ArroyoArgumentError,
    ArroyoTaskError,
    ArroyoTaskFailed,
    task_error,
)

API: dict[str, Any] = {"status": 400, "method": "GET", "path": "/x"}


def test_clock_tells_the_time_of_day() -> None:
    assert SteadyClock()() == pytest.approx(time.time(), abs=0.1)


def test_clock_does_not_jump_with_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic, of_day = [100.0], [1_000_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    monkeypatch.setattr(time, "time", lambda: of_day[0])
    clock = SteadyClock()
    assert clock() == 1_000_000.0
    of_day[0] -= 3600
    monotonic[0] += 5
    assert clock() == 1_000_005.0
    assert clock.monotonic(clock() + 7) == monotonic[0] + 7


FOR_GOOD = [
    ArroyoSettingsError("m"),
    ArroyoTlsError("m"),
    ArroyoAuthError("m", status=401, method="GET", path="/x"),
    ArroyoResponseError("m", **API),
    ArroyoQueryError("m", diagnostics=(SqlDiagnostic("d"),), **API),
    ArroyoOwnershipError("m"),
    ArroyoUnsupportedError("m"),
]
WORTH_A_RETRY = [
    ArroyoError("m"),
    ArroyoNoConnectionError("m"),
    ArroyoUnreachableError("m", since=1.0),
    ArroyoConnectionError("m"),
    ArroyoApiError("m", **API),
    ArroyoApiError("m", status=503, method="GET", path="/x"),
    ArroyoNotFoundError("m", **API),
    ArroyoConflictError("m", **API),
    ArroyoResponseError("m", is_cut_short=True, **API),
    ArroyoPipelineError("m", outcome="failed", pipeline_id="pl_1"),
    ArroyoNoSuchNameError("n"),
    ArroyoAmbiguousNameError("n", [("pl_1", "Running", 0)]),
]


@pytest.mark.parametrize("error", FOR_GOOD, ids=lambda error: type(error).__name__)
def test_errors_that_airflow_must_not_retry(error: ArroyoError) -> None:
    raised = task_error(error, "arroyo_prod")
    assert isinstance(raised, ArroyoTaskFailed)
    assert isinstance(raised, AirflowFailException)
    assert raised.error is error
    assert str(raised) == f"{error}\nAirflow connection: arroyo_prod"


@pytest.mark.parametrize("error", WORTH_A_RETRY, ids=lambda error: type(error).__name__)
def test_errors_that_airflow_may_retry(error: ArroyoError) -> None:
    raised = task_error(error, "arroyo_prod")
    assert isinstance(raised, ArroyoTaskError)
    assert isinstance(raised, AirflowException)
    assert not isinstance(raised, AirflowFailException)
    assert raised.error is error
    assert str(error) in str(raised)


def test_every_error_of_the_package_is_decided_above() -> None:
    def tree(cls: type[ArroyoError]) -> set[type[ArroyoError]]:
        return {cls}.union(*(tree(below) for below in cls.__subclasses__()))

    decided = {type(error) for error in (*FOR_GOOD, *WORTH_A_RETRY)}
    ours = {cls for cls in tree(ArroyoError) if cls.__module__ == "airflow_provider_arroyo.exceptions"}
    assert ours == decided


def test_wrong_argument_is_a_value_error_that_is_not_retried() -> None:
    error = ArroyoArgumentError("name must be a text")
    assert isinstance(error, ValueError)
    assert isinstance(error, AirflowFailException)
    assert error.error is None
    assert str(error) == "name must be a text"


@pytest.mark.parametrize("timed_out", [False, True])
def test_errors_of_deferrals_are_the_ones_that_airflow_raises(timed_out: bool) -> None:
    from airflow.providers.common.compat.sdk import BaseOperator

    kwargs = {"error": "Trigger timeout" if timed_out else "boom"}
    with pytest.raises(AirflowException) as caught:
        BaseOperator(task_id="x").resume_execution("__fail__", kwargs, {})
    expected = compat.TaskDeferralTimeout if timed_out else compat.TaskDeferralError
    assert type(caught.value) is expected
