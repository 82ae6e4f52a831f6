"""From this package's errors to what a task raises, so that Airflow retries just what a retry can mend."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_arroyo.exceptions import ArroyoError


class ArroyoTaskError(AirflowException):
    """A task failed; its next try may do better.

    :param error: what happened, with its data.
    """

    def __init__(self, message: str, error: ArroyoError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ArroyoTaskFailed(AirflowFailException):
    """A task failed in a way that no further try can mend; Airflow does not retry it.

    :param error: what happened, with its data.
    """

    def __init__(self, message: str, error: ArroyoError | None = None) -> None:
        super().__init__(message)
        self.error = error


class ArroyoArgumentError(ArroyoTaskFailed, ValueError):
    """An argument turned out to be wrong once it was rendered. Airflow does not retry it."""


def task_error(error: ArroyoError, arroyo_conn_id: str) -> ArroyoTaskError | ArroyoTaskFailed:
    """Return what a task raises for an error.

    :param error: the error, to be the cause as well: ``raise task_error(err, conn_id) from err``.
    :param arroyo_conn_id: the connection, which the message names.
    """
    message = f"{error}\nAirflow connection: {arroyo_conn_id}"
    return ArroyoTaskFailed(message, error) if error.is_permanent else ArroyoTaskError(message, error)
