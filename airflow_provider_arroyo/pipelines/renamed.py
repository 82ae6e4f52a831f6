"""Finds renamed pipelines: their SQL was deployed again later, under another name or in another group.

A pipeline's state belongs to its name. After a rename, another pipeline is deployed, without that state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.pipelines.compare import sql_words
from airflow_provider_arroyo.pipelines.ownership import (
    Deployment,
    Owner,
    OwnershipLabel,
    UnreadableLabelError,
    without_label,
)
from airflow_provider_arroyo.text import shorten

_RUN_MICROS = 3600 * 1_000_000
"""Maximum time between two creates of one DAG run, in microseconds; beyond it, the run was cleared and run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPipeline:
    """A pipeline of a deployment, with its label."""

    pipeline: Pipeline
    deployment: Deployment
    label: OwnershipLabel

    @classmethod
    def of(cls, pipeline: Pipeline) -> DeployedPipeline | None:
        """Return a deployed pipeline, or None if it was not deployed.

        On 0.15, the label is in the SQL, and so also in a copy made by hand under another name; a copy was not
        deployed.

        :raises UnreadableLabelError: if its label cannot be read.
        """
        label = OwnershipLabel.of(pipeline)
        if label is None or label.deployment is None or label.deployment.name != pipeline.name:
            return None
        return cls(pipeline=pipeline, deployment=label.deployment, label=label)

    @property
    def words(self) -> tuple[str, ...]:
        """Its SQL without comments and spacing."""
        return sql_words(without_label(self.pipeline.query))

    def __str__(self) -> str:
        name, group = (shorten(one, 80) for one in (self.deployment.name, self.deployment.group))
        return f"{name!r} of group {group!r} ({self.pipeline.id})"


def renamed(
    unwanted: Iterable[DeployedPipeline], others: Iterable[DeployedPipeline], wanted: Mapping[str, str]
) -> Iterator[tuple[DeployedPipeline, str]]:
    """Yield the pipelines whose SQL has a newer name, with that name in words.

    Of a deployment's pipelines only the highest generation is considered. What one DAG run deployed under two names
    was not renamed, and a name that was deployed before it got that SQL is not a new one.

    :param unwanted: pipelines of one group that are to be deleted.
    :param others: other deployed pipelines of the same namespace.
    :param wanted: the wanted SQL of the group's pipelines by name, as far as it is known; they may not be deployed
        yet.
    """
    if not (current := _current(unwanted)):
        return
    deployed = [(one.words, one) for one in _current(others)]
    groups = {one.deployment.group for one in current}
    there = {(words, one.deployment.name) for words, one in deployed if one.deployment.group in groups}
    not_there = {
        words: f"{shorten(name, 80)!r}, which is not deployed yet"
        for name, query in wanted.items()
        if ((words := sql_words(query)), name) not in there
    }
    for one in current:
        words = one.words
        newer = (str(other) for theirs, other in deployed if theirs == words and _is_later(other, one))
        if (name := next(newer, not_there.get(words))) is not None:
            yield one, name


def _current(pipelines: Iterable[DeployedPipeline]) -> list[DeployedPipeline]:
    """Return the highest generation of each deployment."""
    by_generation = sorted(pipelines, key=lambda one: one.label.generation)
    return list({one.deployment: one for one in by_generation}.values())


def with_same_sql(
    pipelines: Iterable[Pipeline], query: str, label: OwnershipLabel
) -> Iterator[DeployedPipeline]:
    """Yield the pipelines that other DAG runs of this namespace deployed with the same SQL.

    :param pipelines: the pipelines to check.
    :param query: the SQL.
    :param label: of the deployment that is about to be created with it.
    """
    words = sql_words(query)
    for pipeline in pipelines:
        with suppress(UnreadableLabelError):
            one = DeployedPipeline.of(pipeline)
            if one is None or _is_same_run(one.label.task, label.task):
                continue
            if one.deployment.namespace == label.task.namespace and one.words == words:
                yield one


def _is_later(one: DeployedPipeline, other: DeployedPipeline) -> bool:
    """Return whether a pipeline's name was first deployed after another one, and not together with it."""
    later_by = one.pipeline.created_at_micros - other.pipeline.created_at_micros
    is_together = _is_same_run(one.label.task, other.label.task) and later_by <= _RUN_MICROS
    return one.label.generation == 1 and later_by >= 0 and not is_together


def _is_same_run(one: Owner, other: Owner) -> bool:
    """Return whether two tasks belong to the same DAG run."""
    return (one.dag_id, one.run_id) == (other.dag_id, other.run_id)
