"""Turns this package's errors into those of a task, so that Airflow retries exactly what a retry can fix."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_arroyo.exceptions import ArroyoError

try:
    from airflow.sdk.exceptions import TaskDeferralError as TaskDeferralError
    from airflow.sdk.exceptions import TaskDeferralTimeout as TaskDeferralTimeout
except ImportError:  # Airflow 3.0; not in common.compat
    from airflow.exceptions import TaskDeferralError as TaskDeferralError  # type: ignore[no-redef]  # see above
    from airflow.exceptions import TaskDeferralTimeout as TaskDeferralTimeout  # type: ignore[no-redef]  # see above


class ArroyoTaskError(AirflowException):
    """A task failed, and a retry may succeed: Airflow retries it, if ``retries`` are left.

    :param message: what happened, where, why, and what to do next.
    :param error: the cause, with its data; default None.
    """

    def __init__(self, message: str, error: ArroyoError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ArroyoFatalTaskError(AirflowFailException):
    """A task failed, and no retry can succeed: Airflow does not retry it.

    :param message: what happened, where, why, and what to do next.
    :param error: the cause, with its data; default None.
    """

    def __init__(self, message: str, error: ArroyoError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ArroyoArgumentError(ArroyoFatalTaskError, ValueError):
    """A rendered argument is invalid: Airflow does not retry the task.

    :param message: which argument, and what it must be.
    :param error: not used.
    """


def task_error(
    error: ArroyoError, arroyo_conn_id: str, ti: Any = None
) -> ArroyoTaskError | ArroyoFatalTaskError:
    """Return what a task raises for an error. Raise it ``from None``, since its message is complete.

    :param error: the error.
    :param arroyo_conn_id: id of the Airflow connection, which the message names.
    :param ti: the task instance, from which the message tells whether another try follows; default None omits that.
    """
    message = f"{error}\nAirflow connection: {arroyo_conn_id}{_what_follows(error, ti)}"
    return ArroyoFatalTaskError(message, error) if error.is_fatal else ArroyoTaskError(message, error)


def _what_follows(error: ArroyoError, ti: Any) -> str:
    tries = getattr(ti, "max_tries", None)
    # A test's stand-in for a task instance has no tries.
    if not isinstance(tries, int) or error.is_fatal:
        return ""
    if ti.try_number <= tries:
        return f"\nAirflow will retry this task (try {ti.try_number + 1} of {tries + 1})."
    return "\nNo retries are left. Clear this task to try again."
