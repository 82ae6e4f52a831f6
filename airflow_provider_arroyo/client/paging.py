"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

from airflow_provider_arroyo.client.details import Page
from airflow_provider_arroyo.client.request import Request, Response
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError

_GROWTH = 10

_MAX_PAGES = 1000
"""How many pages a list may have. Arroyo fills each, so that a list of so many never ends."""


class HasId(Protocol):
    """What Arroyo lists."""

    @property
    def id(self) -> str:
        """Its id."""


Item = TypeVar("Item", bound=HasId)


def iter_pages(
    send: Callable[[Request[Page[Item]]], Response[Page[Item]]], first: Request[Page[Item]]
) -> Iterator[Item]:
    """Yield the items of a list, each once, requesting a page when it is needed.

    ``starting_after`` leaves out items with the same date as the one named, and all where that was deleted. So the
    next request asks for the same list again, ten times longer. Only where the server itself limits a page, it asks
    for what comes after the last item.

    :param send: sends a request.
    :param first: requests the first page; has a limit.
    :raises ArroyoForeignResponseError: where a page that must follow does not come, as from a cache that ignores the
        query string, or where pages never end: whoever looks for something would take it for missing.
    """
    seen: set[str] = set()
    params = first.params
    for _ in range(_MAX_PAGES):
        page = send(replace(first, params=params)).value
        new = [item for item in page.data if item.id not in seen]
        seen.update(item.id for item in new)
        yield from new
        if not page.has_more and (page.data or not seen):
            return
        limit = int(params["limit"])
        if new and len(page.data) >= limit:
            params = {**params, "limit": str(limit * _GROWTH)}
        elif page.data and (new or params.get("starting_after") == first.params.get("starting_after")):
            params = {**params, "starting_after": page.data[-1].id}
        else:
            raise _incomplete(first, "a further page was announced, and what came has nothing new")
    raise _incomplete(first, f"after {_MAX_PAGES:,} pages, further ones are announced")


def _incomplete(first: Request[Page[Item]], why: str) -> ArroyoForeignResponseError:
    return ArroyoForeignResponseError(
        f"{first} does not list all that there is: {why}. Check any gateway or cache in between.",
        status=200,
        **first.where,
    )
