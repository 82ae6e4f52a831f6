"""Deleting the pipelines of a group that are no longer wanted, and never one that the group does not own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoDeployError,
    ArroyoError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.ownership import Namespace, OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.text import shorten

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a prune deleted, or in a dry run would delete.

    :param deleted: the pipelines, all generations.
    :param kept: the names of the group's pipelines that are left, sorted.
    """

    deleted: tuple[Pipeline, ...]
    kept: tuple[str, ...]


def prune(
    client: ArroyoClient,
    *,
    group: str,
    namespace: Namespace,
    keep: Collection[str],
    max_deletions: int,
    dry_run: bool = False,
    log: Any,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Pruned:
    """Stop and delete the pipelines that a group has deployed and that are not to be kept.

    One that cannot be deleted does not keep the others from it. A later try goes on with what is left.

    :param client: sends the requests.
    :param group: whose pipelines.
    :param namespace: of this Airflow; what others deployed is not touched.
    :param keep: names of the pipelines to keep; at least one.
    :param max_deletions: how many deployments may be deleted; more are an error, and nothing is changed.
    :param dry_run: whether only to say what would be deleted, default False.
    :param log: gets a line for each pipeline, before and after.
    :param sleep, monotonic: how to wait and to measure, in seconds.
    :raises ValueError: where nothing is to be kept.
    :raises ArroyoDeployError: where more would be deleted than allowed; where some could not be deleted, with the
        reasons, once all have been tried.
    :raises ArroyoError: at once, where Arroyo is unreachable or refuses the login; with what was not deleted before.
    """
    if not keep:
        raise ValueError(
            "keep must name at least one pipeline: an empty list, as of an empty folder, would delete the whole group"
        )
    owned = [one for one in client.iter_pipelines() if _belongs_to(one, group, namespace, log)]
    unwanted = [one for one in owned if one.name not in keep]
    names = sorted({one.name for one in unwanted})
    listed = ", ".join(shorten(name, 80) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    if len(names) > max_deletions:
        raise ArroyoDeployError(
            f"Group {group!r} has {len(names)} pipelines that are no longer wanted, and max_deletions allows "
            f"{max_deletions}: {listed}. Nothing was changed. Check keep, or raise max_deletions.",
            is_fatal=True,
        )
    log.info("No longer wanted in group %s: %s", group, listed or "none")
    failed: list[str] = []
    existing = Existing(client, sleep=sleep, monotonic=monotonic)
    for one in unwanted if not dry_run else ():
        try:
            # With a checkpoint, so that its sinks commit what they have.
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
    if failed:
        raise ArroyoDeployError(
            f"Of {len(unwanted)} pipelines that are no longer wanted in group {group!r}, {len(failed)} were not "
            "deleted:\n"
            + "\n".join(failed)
            + "\nAnother try continues with what is left. Stop what does not stop by "
            "ArroyoStopPipelineOperator(mode='force')."
        )
    return Pruned(deleted=tuple(unwanted), kept=tuple(sorted({one.name for one in owned} - set(names))))


def _belongs_to(pipeline: Pipeline, group: str, namespace: Namespace, log: Any) -> bool:
    try:
        label = OwnershipLabel.of(pipeline)
    except UnreadableLabelError as err:
        log.warning("Pipeline %s is left alone: %s", pipeline.id, err)
        return False
    deployment = label.deployment if label is not None else None
    # The label is in the SQL on 0.15, and a copy made by hand under another name has it, too.
    return (
        deployment is not None
        and (deployment.group, deployment.namespace) == (group, namespace.name)
        and deployment.name == pipeline.name
    )
