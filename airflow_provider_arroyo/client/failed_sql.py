"""Decides whether a request failed because of its SQL, if Arroyo's own message does not say so.

On some statements, Arroyo's planner crashes every time, without a response. A gateway may replace the message of a
refusal, or mistake the SQL for an attack. All of these are told apart from an outage by requests that change nothing,
never by repeating a create.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.body_secrets import redactor
from airflow_provider_arroyo.client.details import QueryValidation
from airflow_provider_arroyo.client.endpoints import ping, validate_query
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoQueryError,
    Disposition,
    SqlDiagnostic,
)
from airflow_provider_arroyo.text import shorten

SendOnce = Callable[[Request[Any]], Any]
"""Sends a request once, and returns its value; raises :class:`ArroyoError`."""

OTHER_SQL = "SELECT nope FROM nowhere;"
"""SQL to which every Arroyo responds, if only with an error."""

_VALIDATIONS = 2
_MAX_LISTED = 10

_MAY_PASS = (404, 408, 421, 425, 429)
"""Statuses that a gateway sends for a moment while it changes."""


def error_of_sql(
    request: Request[Any], error: ArroyoError, send_once: SendOnce, settings: ClientSettings
) -> ArroyoApiError | None:
    """Return the error to raise if a request failed because of its SQL; None if it may be an outage.

    :param request: the failed request.
    :param error: its error.
    :param send_once: sends a request that changes nothing.
    :param settings: the settings used; no secret of theirs is repeated.
    """
    if not request.has_sql:
        return None
    if _may_be_hang_up(error):
        if not _breaks_on_sql(request, send_once):
            return None
        return ArroyoQueryError(
            f"Arroyo at {settings.shown_url} closes the connection on this SQL: {request} and {_VALIDATIONS} "
            "validations of it got no response, but a ping and other SQL did. Its planner crashed, and nothing was "
            "created. The log of Arroyo's API (the process `arroyo api` or `arroyo cluster`) says where: look for "
            "`panicked at`. Change the SQL, then clear this task. Known causes are a window of zero width and "
            "DISTINCT ON.",
            **request.where,
        )
    if isinstance(error, ArroyoForeignResponseError) and 200 <= error.status < 500:
        return _refused_in_other_words(request, error, send_once, settings)
    return None


def _may_be_hang_up(error: ArroyoError) -> bool:
    """Return whether the server may have closed the connection instead of responding."""
    if isinstance(error, ArroyoConnectionError):
        return error.is_hang_up
    # A gateway's status for a closed connection.
    return isinstance(error, ArroyoForeignResponseError) and error.status == 502


def _validation_of(request: Request[Any], body: Mapping[str, Any] | None = None) -> Request[QueryValidation]:
    """Return a validation of the SQL of a request, with its UDFs, or of another body."""
    sent = request.body or {}
    same = {name: sent[name] for name in ("query", "udfs") if name in sent}
    return replace(validate_query(""), body=body or same)


def _breaks_on_sql(request: Request[Any], send_once: SendOnce) -> bool:
    """Return whether the SQL of a request makes Arroyo close the connection.

    This is so if two validations of the SQL fail in the same way, while Arroyo responds to a ping and validates other
    SQL.
    """
    try:
        send_once(ping())
        # Equally long, since something in between may close the connection if a body is too large.
        length = len(str((request.body or {}).get("query", "")))
        send_once(_validation_of(request, {"query": OTHER_SQL.ljust(length)}))
        for _ in range(_VALIDATIONS):
            try:
                send_once(_validation_of(request))
            except ArroyoError as err:
                if not _may_be_hang_up(err):
                    return False
            else:
                return False
        send_once(ping())
    except ArroyoError:
        return False
    return True


def _refused_in_other_words(
    request: Request[Any], error: ArroyoForeignResponseError, send_once: SendOnce, settings: ClientSettings
) -> ArroyoApiError | None:
    """Return the error for a request that is refused in words that are not Arroyo's, although Arroyo responds.

    Arroyo responds to a validation with 200, whatever is wrong with the SQL.
    """
    if error.status in _MAY_PASS:
        return None
    found: tuple[SqlDiagnostic, ...] = ()
    is_refused_alike = False
    try:
        send_once(ping())
        try:
            found = send_once(_validation_of(request)).errors
        except ArroyoForeignResponseError as err:
            is_refused_alike = err.status == error.status
            if not is_refused_alike:
                return None
    except ArroyoError:
        return None
    data = {**request.where, "status": error.status, "server_message": error.server_message}
    if is_refused_alike or (request.changes and error.status >= 400 and not found):
        what = f"{error}. Arroyo responds to a ping, so that it is this request that something in between refuses."
        return ArroyoForeignResponseError(what, disposition=Disposition.PERMANENT, **data)
    if not request.changes or not found:
        # It may succeed if repeated.
        return None
    shown = redactor(request.body, settings)
    diagnostics = tuple(replace(one, message=shown(one.message)).with_place() for one in found)
    listed = "\n * ".join(shorten(one.message, 500) for one in diagnostics[:_MAX_LISTED])
    return ArroyoQueryError(
        f"Arroyo refused the SQL, as a validation of it shows ({request} got status {error.status}, in words that "
        f"are not Arroyo's):\n * {listed}",
        diagnostics=diagnostics,
        **data,
    )
