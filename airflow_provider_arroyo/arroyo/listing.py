"""Finding pipelines: page by page, and by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)

T = TypeVar("T")

PAGE_SIZE = 100
_MAX_RESTARTS = 5


class Caller(Protocol):
    """Whatever makes calls: a client, or one that outlasts outages."""

    def call(self, call: api.Call[T]) -> T:
        """Make a call and return what it answers."""


def newest_job(jobs: Sequence[Job]) -> Job | None:
    """Return the newest of a pipeline's jobs, which Arroyo lists first; None where there is none."""
    return jobs[0] if jobs else None


def iter_pipelines(caller: Caller, *, page_size: int = PAGE_SIZE) -> Iterator[Pipeline]:
    """Yield all pipelines, newest first, asking for a page when it is needed.

    Those of one second come oldest first from a server on SQLite, which dates them to the second.

    :param caller: asks for the pages.
    :param page_size: pipelines in one answer, default 100.
    """
    seen: set[str] = set()
    after, limit, restarts = None, page_size, 0
    while True:
        page = caller.call(api.list_pipelines(limit=limit, starting_after=after))
        for pipeline in page.data:
            if pipeline.id not in seen:
                seen.add(pipeline.id)
                yield pipeline
        if page.data and page.has_more:
            # The server's next page begins with the first that is dated before the one named, so it is asked
            # to begin anew with the last date of this page: else the others of that date were left out.
            last = page.data[-1]
            newer = [item.id for item in page.data if item.created_at_micros > last.created_at_micros]
            if newer and newer[-1] != after:
                after, limit = newer[-1], page_size
            elif len(page.data) >= limit:
                limit *= 2
            elif last.id != after:
                # The server's own limit is below ours, and its page full of one date.
                after = last.id
            else:
                return
        elif not page.data and after is not None and restarts < _MAX_RESTARTS:
            # More was promised: the one named was deleted meanwhile, and nothing comes after what is not there.
            after, limit, restarts = None, len(seen) + page_size, restarts + 1
        else:
            return


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
