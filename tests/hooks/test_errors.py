"""Which exceptions a task raises for our errors: Airflow retries exactly what a retry can fix."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_arroyo import exceptions
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import (
    ArroyoArgumentError,
    ArroyoFatalTaskError,
    ArroyoTaskError,
    TaskDeferralError,
    TaskDeferralTimeout,
    task_error,
)

ERRORS = {
    name: cls
    for name, cls in vars(exceptions).items()
    if isinstance(cls, type) and issubclass(cls, ArroyoError)
}
FATAL = {f"Arroyo{name}Error" for name in ("Settings", "Tls", "Auth", "Query", "Ownership", "Unsupported")}
RETRYABLE = {
    *(f"Arroyo{name}Error" for name in ("", "Deploy", "NoConnection", "Unreachable", "Connection", "Api")),
    *(f"Arroyo{name}Error" for name in ("ForeignResponse", "NotFound", "Conflict", "Pipeline")),
    *(f"Arroyo{name}Error" for name in ("NoSuchName", "AmbiguousName", "UnreadableItem")),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_is_raised_as_retryable_or_fatal(name: str) -> None:
    error = ERRORS[name]("what happened")
    raised = task_error(error, "arroyo_prod")
    assert type(raised) is (ArroyoFatalTaskError if name in FATAL else ArroyoTaskError)
    assert isinstance(raised, AirflowException)
    assert isinstance(raised, AirflowFailException) == (name in FATAL)
    assert raised.error is error
    assert str(raised) == "what happened\nAirflow connection: arroyo_prod"


def test_every_error_of_the_package_is_listed_above() -> None:
    assert set(ERRORS) == {*FATAL, *RETRYABLE}


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
