"""Deletes the pipelines that a group no longer contains, and never one that the group does not own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoDeployError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.kept import names_to_keep
from airflow_provider_arroyo.pipelines.ownership import Namespace, UnreadableLabelError
from airflow_provider_arroyo.pipelines.renamed import DeployedPipeline, renamed
from airflow_provider_arroyo.text import shorten

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a prune deleted or, in a dry run, would delete.

    :param deleted: the pipelines, all generations.
    :param kept: the names of the group's remaining pipelines, sorted.
    """

    deleted: tuple[Pipeline, ...]
    kept: tuple[str, ...]


def prune(
    client: ArroyoClient,
    *,
    group: str,
    namespace: Namespace,
    keep: Collection[str],
    queries: Mapping[str, str] | None = None,
    list_age: timedelta | None = None,
    max_deletions: int,
    dry_run: bool = False,
) -> Pruned:
    """Stop and delete the pipelines that a group deployed earlier and no longer contains.

    Renamed pipelines are left alone. Neither these nor pipelines that cannot be deleted stop the others from being
    deleted. A later try continues with what is left.

    :param client: sends the requests; its log gets a line for each pipeline, before and after.
    :param group: the group.
    :param namespace: of this Airflow; pipelines of other namespaces are not touched.
    :param keep: names of the pipelines to keep; at least one.
    :param queries: the SQL of those by name, as far as it is known: a pipeline that is not deployed yet may be a
        renamed one.
    :param list_age: how old the names may be; pipelines that were deployed since are left alone. None leaves none
        alone.
    :param max_deletions: how many deployments may be deleted; more are an error, and nothing is changed.
    :param dry_run: whether only to log what would be deleted, default False.
    :raises ValueError: if nothing is to be kept.
    :raises ArroyoDeployError: if more would be deleted than allowed, before anything is changed; if some were renamed
        or could not be deleted, after all the others, with the reasons.
    :raises ArroyoError: at once, if Arroyo is unreachable or refuses the login; names what could not be deleted
        before.
    """
    kept_names = names_to_keep(keep)
    log = client.log
    deployed = list(_deployed_in(namespace, client))
    owned = [one for one in deployed if one.deployment.group == group]
    for name in sorted(later := _deployed_later(client, owned, list_age) - kept_names):
        log.warning(
            "Left alone: %s was deployed after this DAG run was due, so keep may be older; a later run decides",
            shorten(name, 80),
        )
    keep = kept_names | later
    old = [one for one in owned if one.deployment.name not in keep]
    others = [one for one in deployed if one.deployment.group != group or one.deployment.name in keep]
    names = sorted({one.pipeline.name for one in old})
    if len(names) > max_deletions:
        raise ArroyoDeployError(
            f"Group {group!r} has {len(names)} pipelines that are no longer wanted, but max_deletions allows "
            f"{max_deletions}: {_listed(names)}. Nothing was changed. Check keep, or raise max_deletions.",
            is_fatal=True,
        )
    left = dict(_with_state(client, renamed(old, others, queries or {})))
    unwanted = [one.pipeline for one in old if one.deployment.name not in left]
    listed = _listed(sorted({one.name for one in unwanted}))
    log.info("No longer wanted in group %s: %s", group, listed or "none")
    failed: list[str] = []
    existing = Existing(client)
    for one in unwanted if not dry_run else ():
        try:
            # With a checkpoint, so that its sinks commit their data.
            existing.stop(one.id)
            existing.remove(one.id)
        except (ArroyoAuthError, ArroyoConnectionError, ArroyoUnreachableError) as err:
            if not failed:
                raise
            raise err.adding("Not deleted before that:\n" + "\n".join(failed)) from err.__cause__
        except ArroyoError as err:
            log.warning("Not deleted: %s, id %s: %s", shorten(one.name, 80), one.id, err)
            failed.append(f"  {shorten(one.name, 80)} ({one.id}): {err}")
            continue
        log.info("Deleted: %s, id %s", shorten(one.name, 80), one.id)
    problems = []
    if failed:
        problems.append(
            f"Of {len(unwanted)} pipelines that are no longer wanted in group {group!r}, {len(failed)} were not "
            "deleted:\n"
            + "\n".join(failed)
            + "\nAnother try continues with what is left. If a pipeline does not stop, use "
            "ArroyoStopPipelineOperator(mode='force')."
        )
    if left:
        problems.append(
            f"Group {group!r} no longer contains pipelines whose SQL has a new name, probably because a file was "
            "renamed or moved. They are left alone:\n"
            + "\n".join([*left.values()][:_SHOWN])
            + "\nThe new pipeline does not have the state of the old one. To keep the old one, give the file the "
            "setting pipeline_name with the old name, in the old group; the next DAG run then deletes the new one. "
            "If the old one is not needed, delete it with ArroyoDeletePipelineOperator."
        )
    if problems:
        raise ArroyoDeployError("\n".join(problems), is_fatal=not failed)
    kept = {one.pipeline.name for one in owned} - {one.name for one in unwanted}
    return Pruned(deleted=tuple(unwanted), kept=tuple(sorted(kept)))


def _deployed_in(namespace: Namespace, client: ArroyoClient) -> Iterator[DeployedPipeline]:
    for pipeline in client.iter_pipelines():
        try:
            one = DeployedPipeline.of(pipeline)
        except UnreadableLabelError as err:
            client.log.warning("Pipeline %s is left alone: %s", pipeline.id, err)
            continue
        if one is not None and one.deployment.namespace == namespace.name:
            yield one


def _deployed_later(
    client: ArroyoClient, owned: Iterable[DeployedPipeline], list_age: timedelta | None
) -> set[str]:
    """Return the names of pipelines that are younger, by the server's clock, than ``keep`` may be."""
    date = None if list_age is None else client.send(endpoints.ping()).server_date
    if date is None or list_age is None:
        return set()
    # The date has whole seconds, and so do the dates of pipelines on SQLite.
    since_micros = (date - list_age + timedelta(seconds=1)).timestamp() * 1e6
    return {one.deployment.name for one in owned if one.pipeline.created_at_micros > since_micros}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shorten(name, 80) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _with_state(
    client: ArroyoClient, found: Iterable[tuple[DeployedPipeline, str]]
) -> Iterator[tuple[str, str]]:
    """Yield the names of pipelines that have a state to lose, each with a line for the error."""
    for one, newer in found:
        try:
            job = client.get_job(one.pipeline.id)
        except ArroyoNotFoundError:
            continue  # deleted since it was listed
        if job is None or job.state != JobState.FINISHED:
            yield one.deployment.name, f"  {one}: now {newer}"
