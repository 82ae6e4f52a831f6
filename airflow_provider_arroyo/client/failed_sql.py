"""Whether it is the SQL that a request failed on, where Arroyo's own words do not say so.

On some statements its planner crashes, each time, without a word. A gateway may put words of its own in place of a
refusal, or take the SQL for an attack. All are told apart from an outage by requests that change nothing, never by
repeating a create.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.body_secrets import body_secret_values
from airflow_provider_arroyo.client.details import QueryValidation, SqlDiagnostic
from airflow_provider_arroyo.client.endpoints import ping, validate_query
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoQueryError,
    Disposition,
)
from airflow_provider_arroyo.text import shorten

SendOnce = Callable[[Request[Any]], Any]
"""Sends a request, once, and returns what it read; raises :class:`ArroyoError`."""

OTHER_SQL = "SELECT nope FROM nowhere;"
"""What every Arroyo responds to, if only with what is wrong."""

_VALIDATIONS = 2
_MAX_LISTED = 10

_MAY_PASS = (404, 408, 421, 425, 429)
"""What a gateway says for a moment, while it changes."""


def error_of_sql(
    request: Request[Any], error: ArroyoError, send_once: SendOnce, settings: ClientSettings
) -> ArroyoApiError | None:
    """Return the error to raise where it is the SQL of a request that made it fail; None where it may be an outage.

    :param request: what failed.
    :param error: how.
    :param send_once: sends a request that changes nothing.
    :param settings: nothing secret of them is repeated.
    """
    if not request.has_sql:
        return None
    if _may_be_hang_up(error):
        return _broken_on_sql(request, settings) if _breaks_on_sql(request, send_once) else None
    if isinstance(error, ArroyoForeignResponseError) and 200 <= error.status < 500:
        return _refused_in_other_words(request, error, send_once, settings)
    return None


def _may_be_hang_up(error: ArroyoError) -> bool:
    """Return whether the server may have closed the connection instead of responding."""
    if isinstance(error, ArroyoConnectionError):
        return error.is_hang_up
    # What a gateway makes of it.
    return isinstance(error, ArroyoForeignResponseError) and error.status == 502


def _validation_of(request: Request[Any], body: Mapping[str, Any] | None = None) -> Request[QueryValidation]:
    """Return a validation of the SQL of a request, with its UDFs, or of another body."""
    sent = request.body or {}
    same = {name: sent[name] for name in ("query", "udfs") if name in sent}
    return replace(validate_query(""), body=body or same)


def _breaks_on_sql(request: Request[Any], send_once: SendOnce) -> bool:
    """Return whether it is the SQL of a request that makes Arroyo break the connection.

    So it is where two validations of it meet the same end, while Arroyo responds to a ping and validates other SQL.
    """
    try:
        send_once(ping())
        # As long, since something in between may hang up on what is too large for it.
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
    """Return the error for a request that something refuses, in words that are not Arroyo's, while Arroyo responds.

    To a validation Arroyo responds with 200, whatever is wrong with the SQL.
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
        # Repeated, it may succeed.
        return None
    secrets = body_secret_values(request.body or {})
    shown = [redact_values(settings.redact(one.message), secrets) for one in found]
    listed = "\n * ".join(shorten(one, 500) for one in shown[:_MAX_LISTED])
    diagnostics = (replace(one, message=text) for one, text in zip(found, shown, strict=True))
    return ArroyoQueryError(
        f"Arroyo refused the SQL, as a validation of it shows ({request} got status {error.status}, in words that "
        f"are not Arroyo's):\n * {listed}",
        diagnostics=tuple(one.with_place() for one in diagnostics),
        **data,
    )


def _broken_on_sql(request: Request[Any], settings: ClientSettings) -> ArroyoQueryError:
    return ArroyoQueryError(
        f"Arroyo at {settings.shown_url} closes the connection on this SQL: {request} and {_VALIDATIONS} validations "
        "of it got no response, while a ping and other SQL do. Its planner crashed, and nothing was created. The log "
        "of Arroyo's API (the process `arroyo api` or `arroyo cluster`) says where: look for `panicked at`. "
        "Change the SQL, then clear this task. Known causes are a window of zero width and DISTINCT ON.",
        **request.where,
    )
