"""What the list needs from a pipeline's description, without its SQL and graph. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_arroyo.client.body_secrets import pipeline_secret_values
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.text import UNSTORABLE, visible

MAX_NAME = 300
MAX_REASON = 2000
MAX_SECRETS = 20_000
"""How many characters of secret values are kept, to find them in the server's texts."""

MAX_READ_SQL = 2_000_000
"""How many characters of SQL and UDFs are searched for secrets. This takes about 60 bytes of memory for each."""

NOT_SHOWN = "Not shown: it may repeat secrets of the pipeline's SQL. See Arroyo's console."
_MAX_MAP_INDEX = 2**31
_MAX_ID = 250
"""Maximum length of an id in Airflow's database, in characters."""

_MARGIN = 1000
"""Maximum length of the login in an address, in characters."""

_LAST_MICROS = 10**16
"""A time in the year 2286."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of a pipeline, from its description.

    :param pipeline_id: id of the pipeline.
    :param name: its name.
    :param created: seconds since the epoch.
    :param owner: its owner by its ownership label; None if it has none.
    :param parallelism: the highest of its nodes.
    :param interval_seconds: time between checkpoints.
    :param sources, sinks: node ids of the graph's first and last nodes.
    :param secrets: the secret values in its SQL and UDFs; None if there are too many to keep, or these are too long.
    """

    pipeline_id: str
    name: str = ""
    created: float = 0.0
    owner: dict[str, Any] | None = None
    parallelism: int | None = None
    interval_seconds: float | None = None
    sources: frozenset[int] = frozenset()
    sinks: frozenset[int] = frozenset()
    secrets: frozenset[str] | None = frozenset()

    @property
    def deployment(self) -> tuple[str, str, str] | None:
        """The namespace, group and name of the deployment that it belongs to; None if it belongs to none."""
        deployment = self.owner and self.owner["deployment"]
        if not self.owner or not deployment:
            return None
        return self.owner["namespace"], deployment["group"], deployment["name"]

    @property
    def generation(self) -> int:
        """Its generation in its deployment; 0 if it belongs to none."""
        return self.owner["deployment"]["generation"] if self.owner and self.owner["deployment"] else 0

    def shown(self, text: str, limit: int = MAX_REASON) -> str:
        """Return a server's text about this pipeline in a form that can be shown: short, without secrets of its SQL.

        It also has no characters that would change how the page reads.
        """
        if self.secrets is None:
            return NOT_SHOWN[:limit] if text else ""
        # A secret that was cut off cannot be recognized, so the last part is left out.
        margin = max(map(len, self.secrets), default=0) + _MARGIN
        read = text[: 10 * limit + margin]
        shown = redact_values(read, self.secrets)
        return visible((shown if len(read) == len(text) else shown[:-margin])[:limit])

    def updated(self, pipeline: Pipeline) -> Facts:
        """Return the facts after the pipeline was described again. Its SQL never changes, so known secrets are kept.

        :param pipeline: as the server describes it now; if it is another one with the same id, its own facts.
        """
        created = seconds(pipeline.created_at_micros)
        is_other = not created or (created, shown_name(pipeline)) != (self.created, self.name)
        if is_other or self.secrets is None:
            return facts_of(pipeline)
        return replace(
            self, parallelism=pipeline.graph.parallelism, interval_seconds=_interval_seconds(pipeline)
        )


def shown_name(pipeline: Pipeline) -> str:
    """Return a pipeline's name without characters that must not be shown; empty if nothing of it would be seen."""
    return visible(pipeline.name[:MAX_NAME]).strip()


def is_storable(text: str) -> bool:
    """Return whether a database can store a text: without NUL and without unpaired surrogates."""
    return re.search(UNSTORABLE, text) is None


def seconds(micros: int) -> float:
    """Return a time of Arroyo's as seconds since the epoch.

    :param micros: microseconds since the epoch; an invalid time is replaced by the nearest valid one.
    """
    return min(max(micros, 0), _LAST_MICROS) / 1e6


def facts_of(pipeline: Pipeline) -> Facts:
    """Return the facts of a pipeline. Reads its whole SQL, so run it in a thread if the SQL is large."""
    read = len(pipeline.query) + sum(len(udf.definition) for udf in pipeline.udfs)
    secrets = pipeline_secret_values(pipeline) if read <= MAX_READ_SQL else None
    return Facts(
        pipeline_id=pipeline.id,
        name=shown_name(pipeline),
        created=seconds(pipeline.created_at_micros),
        owner=owner_of(pipeline),
        parallelism=pipeline.graph.parallelism,
        interval_seconds=_interval_seconds(pipeline),
        sources=pipeline.graph.sources,
        sinks=pipeline.graph.sinks,
        secrets=secrets if secrets is not None and sum(map(len, secrets)) <= MAX_SECRETS else None,
    )


def _interval_seconds(pipeline: Pipeline) -> float | None:
    interval = pipeline.checkpoint_interval_micros
    return seconds(interval) if interval else None


def owner_of(pipeline: Pipeline) -> dict[str, Any] | None:
    """Return a pipeline's owner by its ownership label; None if it has none that names a task.

    :returns: ``dag, task, run, map_index`` and ``namespace`` of the task that created it, and ``deployment``: its
        ``group``, ``name`` and ``generation``, or None.
    """
    label: OwnershipLabel | None = None
    try:
        label = OwnershipLabel.of(pipeline)
        task = label.task if label else None
    except UnreadableLabelError as error:
        task = error.owner if isinstance(error.owner, Owner) else None
    # Values that Airflow's database cannot store never belonged to a task.
    if task is None or not all(
        is_storable(one) and len(one) <= _MAX_ID for one in (task.dag_id, task.task_id, task.run_id)
    ):
        return None
    if not -1 <= task.map_index < _MAX_MAP_INDEX:
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
