"""What the descriptions of calls are put together from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_provider_arroyo.arroyo.call import Answer, Call
from airflow_provider_arroyo.arroyo.reading import nothing
from airflow_provider_arroyo.arroyo.spec import check_text

COMPILE_TIMEOUT_SECONDS = 300.0
"""How long a call may take that makes the server compile a UDF; over 30 s is usual."""

T = TypeVar("T")


def get(
    path: str, read: Callable[[Answer], T], *, params: Mapping[str, str] | None = None, subject: str = ""
) -> Call[T]:
    """Return a call that reads and changes nothing.

    :param path: as :class:`Call` has it.
    :param read: as there.
    :param params: as there.
    :param subject: as there.
    """
    return Call(method="GET", path=path, read=read, params=params or {}, changes=False, subject=subject)


def delete(path: str, *, subject: str) -> Call[None]:
    """Return a call that deletes what ``path`` leads to."""
    return Call(method="DELETE", path=path, read=nothing, subject=subject)


def escaped(value: str, argument: str) -> str:
    """Return an id as a single step of a path.

    :raises ValueError: names the argument, where no id can be like that.
    """
    check_text(value, argument)
    if value in (".", ".."):
        # HTTP libraries take these for steps in the path, however they are escaped.
        raise ValueError(f"{argument} must not be {value!r}")
    return quote(value, safe="")


def paging(limit: int | None, starting_after: str | None) -> dict[str, str]:
    """Return the query string of a list that comes in pages.

    :raises ValueError: where ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, got {limit!r}")
    return {
        name: str(value)
        for name, value in (("limit", limit), ("starting_after", starting_after))
        if value is not None
    }


def filled(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None, the body of a call."""
    return {name: value for name, value in fields.items() if value is not None}
