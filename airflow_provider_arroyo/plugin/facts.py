"""What the list needs of a pipeline's description, without its SQL and graph. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.sql_secrets import find_secrets, redact_echo
from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel, UnreadableLabelError

MAX_NAME = 300
MAX_REASON = 2000
MAX_SQL_WITH_SECRETS = 100_000
"""How much SQL is kept to find its secrets in what the server says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A pipeline as it was described.

    :param created: seconds since the epoch.
    :param owner: whose it is by its ownership label; None where it has none.
    :param parallelism: the highest of its nodes.
    :param interval_seconds: from checkpoint to checkpoint.
    :param sources, sinks: node ids of the graph's beginnings and ends.
    :param secret_sql: its SQL, where that holds secrets; None where there is too much of it to be kept.
    """

    pipeline_id: str
    name: str = ""
    created: float = 0.0
    owner: dict[str, Any] | None = None
    parallelism: int | None = None
    interval_seconds: float | None = None
    sources: frozenset[int] = frozenset()
    sinks: frozenset[int] = frozenset()
    secret_sql: str | None = ""

    def shown(self, text: str, limit: int = MAX_REASON) -> str:
        """Return what the server says of this pipeline as it may be shown: without secrets of its SQL, and short."""
        if self.secret_sql is None:
            return "Not shown: the pipeline's SQL holds secrets, and this may repeat them. Arroyo's console has it."
        return redact_echo(text[: 10 * limit], self.secret_sql)[:limit]


def facts_of(pipeline: Pipeline) -> Facts:
    """Return the facts of a pipeline. It reads its whole SQL, so large ones are for a thread."""
    interval = pipeline.checkpoint_interval_micros
    secret_sql: str | None = ""
    if find_secrets(pipeline.query):
        secret_sql = pipeline.query if len(pipeline.query) <= MAX_SQL_WITH_SECRETS else None
    return Facts(
        pipeline_id=pipeline.id,
        name=pipeline.name[:MAX_NAME],
        created=pipeline.created_at_micros / 1e6,
        owner=owner_of(pipeline),
        parallelism=pipeline.graph.parallelism,
        interval_seconds=interval / 1e6 if interval else None,
        sources=pipeline.graph.sources,
        sinks=pipeline.graph.sinks,
        secret_sql=secret_sql,
    )


def owner_of(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return whose a pipeline is by its ownership label; None where it has none that names a task.

    :returns: ``dag, task, run, map_index`` and ``namespace`` of the task that created it, and ``deployment``: its
        ``group``, ``name`` and ``generation``, or None.
    """
    label: OwnershipLabel | None = None
    try:
        label = OwnershipLabel.of(pipeline)
        task = label.task if label else None
    except UnreadableLabelError as error:
        task = error.owner if isinstance(error.owner, Owner) else None
    if task is None:
        return None
    deployment = label.deployment if label else None
    return {
        "dag": task.dag_id,
        "task": task.task_id,
        "run": task.run_id,
        "map_index": task.map_index,
        "namespace": task.namespace,
        "deployment": {"group": deployment.group, "name": deployment.name, "generation": label.generation}
        if deployment and label
        else None,
    }
