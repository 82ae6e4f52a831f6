"""Lists that come page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from airflow_provider_arroyo.client.details import Page
from airflow_provider_arroyo.client.request import Request

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient

SERVER_PAGE_SIZE = 10
"""How many items a page has where the request sets no limit."""

_MAX_RESTARTS = 5


class Dated(Protocol):
    """What Arroyo lists by date of creation, newest first."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def created_at_micros(self) -> int:
        """When it was created, microseconds since the epoch."""


Item = TypeVar("Item", bound=Dated)


class PageWalk(Generic[Item]):
    """Says which page of a list to request next, and leaves out what came before.

    A server on SQLite dates items to the second, and lists those of one second oldest first.

    :param first: requests the first page.
    """

    def __init__(self, first: Request[Page[Item]]) -> None:
        self._first = first
        self._begin: str | None = first.params.get("starting_after")
        self._after = self._begin
        self._page_size = int(first.params.get("limit", SERVER_PAGE_SIZE))
        self._limit = self._page_size
        self._seen: set[str] = set()
        self._restarts = 0
        self._is_over = False

    @property
    def request(self) -> Request[Page[Item]] | None:
        """The request for the next page; None when there is no more."""
        if self._is_over:
            return None
        params = {**self._first.params, "limit": str(self._limit)}
        if self._after is not None:
            params["starting_after"] = self._after
        elif "starting_after" in params:
            del params["starting_after"]
        return replace(self._first, params=params)

    def take(self, page: Page[Item]) -> list[Item]:
        """Return what is new on a page."""
        new = []
        for item in page.data:
            if item.id not in self._seen:
                self._seen.add(item.id)
                new.append(item)
        if page.data and page.has_more:
            self._go_on(page)
        elif not page.data and self._after != self._begin and self._restarts < _MAX_RESTARTS:
            # More was promised: the one named was deleted meanwhile, and nothing comes after what is not there.
            self._after, self._limit = self._begin, len(self._seen) + self._page_size
            self._restarts += 1
        else:
            self._is_over = True
        return new

    def _go_on(self, page: Page[Item]) -> None:
        # The server's next page begins with the first that is dated before the one named, so it is asked
        # to begin anew with the last date of this page: else the others of that date were left out.
        last = page.data[-1]
        newer = [item.id for item in page.data if item.created_at_micros > last.created_at_micros]
        if newer and newer[-1] != self._after:
            self._after, self._limit = newer[-1], self._page_size
        elif len(page.data) >= self._limit:
            self._limit *= 2
        elif last.id != self._after:
            # The server's own limit is below ours, and its page full of one date.
            self._after = last.id
        else:
            self._is_over = True


def iter_pages(client: ArroyoClient, first: Request[Page[Item]]) -> Iterator[Item]:
    """Yield the items of a list, each once, requesting a page when it is needed.

    :param client: sends the requests.
    :param first: requests the first page.
    """
    walk = PageWalk(first)
    while (request := walk.request) is not None:
        yield from walk.take(client.send(request).value)
