"""SQL on which Arroyo breaks the connection: its planner crashes on some statements, each time, without a word.

Told apart from an outage by requests that change nothing, never by repeating a create.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client.endpoints import ping, validate_query
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoQueryError,
)

OTHER_SQL = "SELECT nope FROM nowhere;"
"""What every Arroyo responds to, if only with what is wrong."""

_VALIDATIONS = 2


def may_be_hang_up(error: ArroyoError) -> bool:
    """Return whether the server may have closed the connection instead of responding."""
    if isinstance(error, ArroyoConnectionError):
        return error.is_hang_up
    # What a gateway makes of it.
    return isinstance(error, ArroyoForeignResponseError) and error.status == 502


def breaks_on_sql(request: Request[Any], send_once: Callable[[Request[Any]], object]) -> bool:
    """Return whether it is the SQL of a request that makes Arroyo break the connection.

    So it is where two validations of it meet the same end, while Arroyo responds to a ping and validates other SQL.

    :param request: has SQL, and got no response.
    :param send_once: sends a request, once; raises :class:`ArroyoError`.
    """
    body = request.body or {}
    validation = validate_query("")
    same = replace(validation, body={name: body[name] for name in ("query", "udfs") if name in body})
    try:
        send_once(ping())
        send_once(replace(validation, body={"query": OTHER_SQL}))
        for _ in range(_VALIDATIONS):
            try:
                send_once(same)
            except ArroyoError as err:
                if not may_be_hang_up(err):
                    return False
            else:
                return False
        send_once(ping())
    except ArroyoError:
        return False
    return True


def broken_on_sql(request: Request[Any], base_url: str) -> ArroyoQueryError:
    """Return the error for SQL on which Arroyo breaks the connection."""
    return ArroyoQueryError(
        f"Arroyo at {base_url} breaks the connection on this SQL: {request} and {_VALIDATIONS} validations of it got "
        "no response, while a ping and other SQL do. Its planner crashed, and nothing was created. The log of "
        "Arroyo's API (the process `arroyo api` or `arroyo cluster`) says where: look for `panicked at`. "
        "Change the SQL, then clear this task. Known causes are a window of zero width and DISTINCT ON.",
        **request.where,
    )
