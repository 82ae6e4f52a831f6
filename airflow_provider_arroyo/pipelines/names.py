"""Finding a pipeline by its name, which need not be unique in Arroyo."""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import TERMINAL_STATES, Job, Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)


def resolve_name(client: ArroyoClient, name: str) -> Pipeline:
    """Return the one pipeline with a name.

    The one that is alive is meant; where none is alive, the only one there is.

    :param client: sends the requests.
    :param name: the exact name.
    :raises ArroyoNoSuchNameError: if none has that name.
    :raises ArroyoAmbiguousNameError: if several could be meant; lists them.
    """
    found: list[tuple[Pipeline, Job | None]] = []
    for pipeline in client.iter_pipelines():
        if pipeline.name == name:
            # Deleted since it was listed: not a candidate any more.
            with suppress(ArroyoNotFoundError):
                found.append((pipeline, client.get_job(pipeline.id)))
    alive = [(pipeline, job) for pipeline, job in found if job is None or job.state not in TERMINAL_STATES]
    candidates = alive or found
    if len(candidates) == 1:
        return candidates[0][0]
    if not candidates:
        raise ArroyoNoSuchNameError.of(name)
    raise ArroyoAmbiguousNameError.of(
        name,
        [
            (pipeline.id, job.state if job else "no job", pipeline.created_at_micros)
            for pipeline, job in candidates
        ],
    )
