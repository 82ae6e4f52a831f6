"""Decides which pipeline a name means, since names need not be unique in Arroyo: one rule for all tasks and modes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.lists import all_of
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
)
from airflow_provider_arroyo.pipelines.existing import is_down
from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.text import shorten, utc_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The pipeline that a name means.

    :param pipeline: the pipeline.
    :param job: its job when it was found; None if it had none.
    """

    pipeline: Pipeline
    job: Job | None

    @property
    def is_alive(self) -> bool:
        """Whether it is running or about to."""
        return self.job is None or not is_down(self.job)


def resolve_name(
    client: ArroyoClient,
    name: str,
    *,
    namespace: str | None = None,
    noted_id: str | None = None,
    began_micros: int | None = None,
    own_run: tuple[str, str] | None = None,
    must_be_alive: bool = False,
    polled_micros: int | None = None,
) -> Named:
    """Return the pipeline that a name means: the one that is alive, or the newest if none is alive.

    :param client: sends the requests.
    :param name: the exact name.
    :param namespace: the caller's namespace; pipelines whose label has another one are ignored. Default None ignores
        none.
    :param noted_id: the pipeline that the name meant in an earlier try; if it still exists, the name means it again.
    :param began_micros: from a task's second try on: when its DAG run began, microseconds since the epoch by this
        machine's clock, which may be behind the server's. A pipeline that was created since then, beside an older one
        of that name, may be the successor of the one that was meant.
    :param own_run: dag id and run id of a task that changes the pipeline, and whose earlier try may have removed the
        older one. A pipeline that was created since the run began, but not by the run itself, may then be the
        successor even if no older one is left. Default None, a task that changes nothing.
    :param must_be_alive: whether the name means none that is not alive, because an earlier try of a delete may have
        deleted the one that was meant; default False.
    :param polled_micros: when the same wait first looked up the name, by this machine's clock; the name means the
        pipeline that was alive then. Default None, this is the first time.
    :raises ArroyoNoSuchNameError: if none has that name.
    :raises ArroyoAmbiguousNameError: if several could be meant; lists them.
    :raises ArroyoUnreadableItemError: if one of that name cannot be read; if none is found, also if the name of one
        cannot be read.
    """
    found: list[Named] = []
    elsewhere: set[str] = set()
    listed = all_of(client.iter_pipelines(name=name))
    for pipeline in listed.readable:
        task = _task_of(pipeline)
        if task is not None and namespace not in (None, task.namespace):
            elsewhere.add(task.namespace)
            continue
        # Deleted since it was listed: no longer a candidate.
        with suppress(ArroyoNotFoundError):
            found.append(Named(pipeline=pipeline, job=client.get_job(pipeline.id)))
    if listed.error is not None and (name in listed.error.names or not found):
        # It may be the one that is meant. Beside one that is found, a pipeline without a name does not matter.
        raise listed.error
    for one in found:
        if one.pipeline.id == noted_id:
            return one
    if not found:
        raise ArroyoNoSuchNameError.of(name, sorted(elsewhere))
    ahead = client.server_ahead_seconds
    if polled_micros is not None:
        then = [one for one in found if _was_alive(one, polled_micros + int(ahead * 1e6))]
        if len(then) == 1:
            return then[0]
    alive = [one for one in found if one.is_alive]
    if len(alive) > 1:
        raise _ambiguous(name, f"{len(alive)} pipelines are named {shorten(repr(name), 80)}", alive)
    if must_be_alive and not alive:
        what = (
            f"No pipeline named {shorten(repr(name), 80)} is alive, and an earlier try of this task may have deleted "
            "the one that was meant. Nothing more was deleted"
        )
        raise _ambiguous(name, what, found)
    # A server on SQLite lists pipelines of the same second in the order of their creation.
    meant = alive[0] if alive else sorted(found, key=lambda one: one.pipeline.created_at_micros)[-1]
    if began_micros is not None:
        # Whole seconds, as a server on SQLite stores them.
        began_micros = int(began_micros / 1e6 + ahead) * 1_000_000
    older = [one for one in found if one.pipeline.created_at_micros < meant.pipeline.created_at_micros]
    is_newer = began_micros is not None and meant.pipeline.created_at_micros >= began_micros
    task = _task_of(meant.pipeline)
    is_of_other_run = own_run is not None and (task is None or (task.dag_id, task.run_id) != own_run)
    if is_newer and (older or is_of_other_run):
        other = "an older one" if older else "another one of that name, which is gone now"
        what = (
            f"Pipeline {meant.pipeline.id!r}, named {shorten(repr(name), 80)}, was created after this DAG run began, "
            f"and an earlier try of this task may have meant {other}"
        )
        raise _ambiguous(name, what, [meant, *older])
    return meant


def _was_alive(one: Named, at_micros: int) -> bool:
    """Return whether a pipeline existed at a time, by the server's clock, and has run since or ended later."""
    ended = one.job.finish_time_micros if one.job is not None else None
    return one.pipeline.created_at_micros <= at_micros and (one.is_alive or (ended or 0) > at_micros)


def _task_of(pipeline: Pipeline) -> Owner | None:
    """Return the task that created a pipeline; None if no label says so."""
    with suppress(UnreadableLabelError):
        label = OwnershipLabel.of(pipeline)
        return label.task if label else None
    return None


def _ambiguous(name: str, what: str, pipelines: list[Named]) -> ArroyoAmbiguousNameError:
    """Return the error about a name that may mean several pipelines, or one that was meant before.

    :param name: the name.
    :param what: what is unclear, in words.
    :param pipelines: those that may be meant.
    """
    candidates = tuple(
        (one.pipeline.id, one.job.state if one.job else "no job", one.pipeline.created_at_micros)
        for one in pipelines
    )
    listed = "\n".join(
        f"  {pipeline_id} ({state}, created {utc_time(created / 1e6)})"
        for pipeline_id, state, created in candidates
    )
    message = f"{what}; name the one you mean by pipeline_id:\n{listed}"
    return ArroyoAmbiguousNameError(message, name=name, candidates=candidates)
