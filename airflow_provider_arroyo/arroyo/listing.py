"""Lists page by page, and finding pipelines by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.details import Page
from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)

T = TypeVar("T")

PAGE_SIZE = 100
SERVERS_PAGE_SIZE = 10
"""How many come on a page where the call names no limit."""
_MAX_RESTARTS = 5


class Caller(Protocol):
    """Whatever makes calls: a client, or one that outlasts outages."""

    def call(self, call: Call[T]) -> T:
        """Make a call and return what it answers."""


def newest_job(jobs: Sequence[Job]) -> Job | None:
    """Return the newest of a pipeline's jobs, which Arroyo lists first; None where there is none."""
    return jobs[0] if jobs else None


class Dated(Protocol):
    """What Arroyo lists by date, newest first."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def created_at_micros(self) -> int:
        """When it was made, microseconds since the epoch."""


Item = TypeVar("Item", bound=Dated)


class PageWalk(Generic[Item]):
    """Says which page of a list to ask for next, and leaves out what came before.

    Those of one second come oldest first from a server on SQLite, which dates them to the second.

    :param first: asks for the first page.
    """

    def __init__(self, first: Call[Page[Item]]) -> None:
        self._first = first
        self._begin: str | None = first.params.get("starting_after")
        self._after = self._begin
        self._page_size = int(first.params.get("limit", SERVERS_PAGE_SIZE))
        self._limit = self._page_size
        self._seen: set[str] = set()
        self._restarts = 0
        self._is_over = False

    @property
    def call(self) -> Call[Page[Item]] | None:
        """The call for the next page; None when there is no more."""
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


def iter_pages(caller: Caller, call: Call[Page[Item]]) -> Iterator[Item]:
    """Yield the items of a list, each once, asking for a page when it is needed.

    :param caller: asks for the pages.
    :param call: asks for the first page.
    """
    walk = PageWalk(call)
    while (following := walk.call) is not None:
        yield from walk.take(caller.call(following))


def iter_pipelines(caller: Caller, *, page_size: int = PAGE_SIZE) -> Iterator[Pipeline]:
    """Yield all pipelines, newest first, asking for a page when it is needed.

    :param caller: asks for the pages.
    :param page_size: pipelines in one answer, default 100.
    """
    return iter_pages(caller, api.list_pipelines(limit=page_size))


def resolve_name(caller: Caller, name: str) -> Pipeline:
    """Return the one pipeline with a name.

    Names are not unique in Arroyo. One that is alive goes before those at rest; where none is alive, the only
    one that there is.

    :param name: the exact name.
    :raises ArroyoNoSuchNameError: if none has that name.
    :raises ArroyoAmbiguousNameError: if several could be meant; lists them.
    """
    found: list[tuple[Pipeline, Job | None]] = []
    for pipeline in iter_pipelines(caller):
        if pipeline.name == name:
            # Deleted since it was listed: not a candidate any more.
            with suppress(ArroyoNotFoundError):
                found.append((pipeline, newest_job(caller.call(api.pipeline_jobs(pipeline.id)))))
    alive = [(pipeline, job) for pipeline, job in found if job is None or job.state not in TERMINAL_STATES]
    candidates = alive or found
    if len(candidates) == 1:
        return candidates[0][0]
    if not candidates:
        raise ArroyoNoSuchNameError(name)
    raise ArroyoAmbiguousNameError(
        name,
        [
            (pipeline.id, job.state if job else "no job", pipeline.created_at_micros)
            for pipeline, job in candidates
        ],
    )
