"""Reads lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from airflow_provider_arroyo.client.catalog import ConnectionTable
from airflow_provider_arroyo.client.details import JobError, Page
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.request import Request, Response
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError

_GROWTH = 10

_MAX_LIMIT = 1_000_000
"""The limit from which on pages do not grow any more; Arroyo's own maximum is some two billion."""

_MAX_PAGES = 1000
"""The maximum number of pages. Arroyo fills each page, so a longer list would never end."""


Item = TypeVar("Item", Pipeline, JobError, ConnectionTable)


def iter_pages(
    send: Callable[[Request[Page[Item]]], Response[Page[Item]]], first: Request[Page[Item]]
) -> Iterator[Item]:
    """Yield each item of a list once; pages are requested as needed.

    ``starting_after`` also skips items with the same date as the named one, and returns nothing if that was deleted.
    So the next request asks for the same list again, ten times longer, or in full if that brings nothing new: a page
    may be shorter than requested, since Arroyo leaves out pipelines that it cannot read any more. Only if the server
    itself limits a page does it ask for the items after the last one.

    :param send: sends a request.
    :param first: requests the first page; has a limit.
    :raises ArroyoForeignResponseError: if an announced page does not come, for example because a cache ignores the
        query string, or if pages never end. Otherwise, existing items would seem to be missing.
    """
    seen: set[str] = set()
    params, grows = first.params, True
    for _ in range(_MAX_PAGES):
        page = send(replace(first, params=params)).value
        is_new = False
        for item in page.data:
            # A page may repeat an item, too. Taken for two, the second would be deleted as a duplicate.
            if item.id not in seen:
                seen.add(item.id)
                is_new = True
                yield item
        if not page.has_more and (page.data or not seen):
            return
        limit = int(params["limit"])
        if grows and limit < _MAX_LIMIT:
            params = {**params, "limit": str(limit * _GROWTH if is_new else _MAX_LIMIT)}
        elif page.data and (is_new or grows):
            params, grows = {**params, "starting_after": page.data[-1].id}, False
        else:
            raise _incomplete(first, "a further page was announced, but it had nothing new")
    raise _incomplete(first, f"after {_MAX_PAGES:,} pages, more are announced")


def _incomplete(first: Request[Page[Item]], why: str) -> ArroyoForeignResponseError:
    return ArroyoForeignResponseError(
        f"{first} does not list everything: {why}. Check any gateway or cache in between.",
        status=200,
        **first.where,
    )
