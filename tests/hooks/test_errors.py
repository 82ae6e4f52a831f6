"""From errors to what a task raises: Airflow retries exactly what a retry can fix."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_arroyo import exceptions
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoDeployError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNoConnectionError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoPipelineError,
    ArroyoQueryError,
    ArroyoSettingsError,
    ArroyoTlsError,
    ArroyoUnreachableError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.hooks.errors import (
    ArroyoArgumentError,
    ArroyoFatalTaskError,
    ArroyoTaskError,
    TaskDeferralError,
    TaskDeferralTimeout,
    task_error,
)

FATAL: list[type[ArroyoError]] = [
    ArroyoSettingsError,
    ArroyoTlsError,
    ArroyoAuthError,
    ArroyoQueryError,
    ArroyoOwnershipError,
    ArroyoUnsupportedError,
]
RETRYABLE: list[type[ArroyoError]] = [
    ArroyoError,
    ArroyoDeployError,
    ArroyoNoConnectionError,
    ArroyoUnreachableError,
    ArroyoConnectionError,
    ArroyoApiError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoConflictError,
    ArroyoPipelineError,
    ArroyoNoSuchNameError,
    ArroyoAmbiguousNameError,
]


@pytest.mark.parametrize("cls", [*FATAL, *RETRYABLE])
def test_what_a_task_raises(cls: type[ArroyoError]) -> None:
    error = cls("what happened")
    raised = task_error(error, "arroyo_prod")
    assert type(raised) is (ArroyoFatalTaskError if cls in FATAL else ArroyoTaskError)
    assert isinstance(raised, AirflowException)
    assert isinstance(raised, AirflowFailException) == (cls in FATAL)
    assert raised.error is error
    assert str(raised) == "what happened\nAirflow connection: arroyo_prod"


def test_every_error_of_the_package_is_listed_above() -> None:
    ours = {
        cls for cls in vars(exceptions).values() if isinstance(cls, type) and issubclass(cls, ArroyoError)
    }
    assert ours == {*FATAL, *RETRYABLE}


def test_a_wrong_argument_is_a_value_error_that_is_not_retried() -> None:
    error = ArroyoArgumentError("name must be a non-empty string")
    assert isinstance(error, ValueError)
    assert isinstance(error, AirflowFailException)
    assert error.error is None
    assert str(error) == "name must be a non-empty string"


@pytest.mark.parametrize("timed_out", [False, True])
def test_errors_of_deferrals_are_the_ones_that_airflow_raises(timed_out: bool) -> None:
    kwargs: dict[str, Any] = {"error": "Trigger timeout" if timed_out else "boom"}
    with pytest.raises(AirflowException) as caught:
        BaseOperator(task_id="x").resume_execution("__fail__", kwargs, {})
    assert type(caught.value) is (TaskDeferralTimeout if timed_out else TaskDeferralError)
