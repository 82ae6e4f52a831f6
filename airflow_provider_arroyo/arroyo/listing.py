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


class Caller(Protocol):
    """Whatever makes calls: a client, or one that outlasts outages."""

    def call(self, call: api.Call[T]) -> T:
        """Make a call and return what it answers."""


def newest_job(jobs: Sequence[Job]) -> Job | None:
    """Return the newest of a pipeline's jobs, which Arroyo lists first; None where there is none."""
    return jobs[0] if jobs else None


def iter_pipelines(caller: Caller, *, page_size: int = PAGE_SIZE) -> Iterator[Pipeline]:
    """Yield all pipelines, newest first, asking for a page when it is needed."""
    after: str | None = None
    while True:
        page = caller.call(api.list_pipelines(limit=page_size, starting_after=after))
        yield from page.data
        if not page.has_more or not page.data:
            return
        after = page.data[-1].id


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
