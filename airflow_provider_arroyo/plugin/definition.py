"""The definition that a pipeline's own page shows: SQL, UDFs, graph, label, and the diff to another generation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.body_secrets import redact_code
from airflow_provider_arroyo.client.models import Pipeline, PipelineGraph, PipelineNode
from airflow_provider_arroyo.client.secret_names import MASK, is_secret_name
from airflow_provider_arroyo.client.sql_secrets import redact_sql, secret_values
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.pipelines.ownership import label_fields, user_tags_of, without_label
from airflow_provider_arroyo.pipelines.sql_diffs import redacted_diff
from airflow_provider_arroyo.plugin.facts import MAX_NAME, NOT_SHOWN, Facts
from airflow_provider_arroyo.plugin.metrics import MAX_NODES
from airflow_provider_arroyo.plugin.snapshot import Row, Snapshot
from airflow_provider_arroyo.text import visible

if TYPE_CHECKING:
    from airflow_provider_arroyo.plugin.watch import Watch

KEPT_SECONDS = 30.0
MAX_KEPT = 8
MAX_AT_ONCE = 2
"""How many are fetched at once from one Arroyo: one that hangs must not occupy every thread."""

_FAILURE_SECONDS = 5.0
"""How long a failure is kept, in seconds; requests before that get the same failure."""

MAX_SQL = 200_000
"""How many characters of SQL, and of each UDF, are shown."""

MAX_DIFF_LINES = 2000
"""Maximum number of lines on each side of a diff; more would take long to compare."""

_MARGIN = 20_000
"""How many more characters of SQL are read, so that a secret at the cut is recognized."""

_MAX_UDFS = 50
_MAX_EDGES = 5000
_MAX_TAGS = 100
_MAX_TEXT = 1000
_UDF_NAME = re.compile(r"^\s*(?:pub\s+)?(?:async\s+)?(?:fn|def)\s+(\w{1,200})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kept:
    of: tuple[Any, ...]
    at: float
    task: asyncio.Task[dict[str, Any]]

    def seconds(self) -> float:
        has_failed = self.task.done() and (self.task.cancelled() or self.task.exception() is not None)
        return _FAILURE_SECONDS if has_failed else KEPT_SECONDS


class Definitions:
    """Fetches definitions once for all viewers, and keeps the last few for a short time.

    :param watch: sends the requests.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._kept: dict[str, _Kept] = {}
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def get(self, row: Row) -> dict[str, Any]:
        """Return the definition of a pipeline.

        :raises ArroyoError: if the request fails.
        """
        snapshot = self._watch.snapshot
        other = kept_generation(row, snapshot.rows.values())
        facts, job = row.facts, row.job
        of = (
            snapshot.epoch,
            facts.created,
            facts.parallelism,
            facts.interval_seconds,
            job and job.id,
            other and other.pipeline_id,
        )
        now, kept = self._watch.clock(), self._kept.pop(row.pipeline_id, None)
        if kept is None or kept.of != of or now - kept.at > kept.seconds():
            fetch = self._fetch(row, other, snapshot)
            kept = _Kept(of, now, asyncio.get_running_loop().create_task(fetch, name="arroyo-definition"))
        self._kept[row.pipeline_id] = kept
        while len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        # Others wait for the same result.
        return await asyncio.shield(kept.task)

    async def _fetch(self, row: Row, other: Row | None, snapshot: Snapshot) -> dict[str, Any]:
        send, run = self._watch.send, self._watch.run
        async with self._turns:
            pipeline: Pipeline = await send(endpoints.get_pipeline(row.pipeline_id))
            compared, missing = None, []
            if other is not None:
                number = other.facts.generation
                try:
                    compared = await send(endpoints.get_pipeline(other.pipeline_id)), number
                except ArroyoError as error:
                    missing.append(f"Diff to generation {number}: {other.facts.shown(str(error), 500)}")
            facts = await run(lambda: row.facts.updated(pipeline))
            snapshot.take_facts(row, facts)
            result: dict[str, Any] = await run(lambda: definition(pipeline, facts, compared, missing))
        if row.job is not None:
            # For a diagnosis, with the names that may be shown.
            nodes = (
                PipelineNode(one["id"], one["operator"], one["description"], one["parallelism"])
                for one in result["graph"]["nodes"]
            )
            row.readings_of(row.job).graph = PipelineGraph(tuple(nodes))
        return result


def kept_generation(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return the pipeline of the same deployment to compare with: the previous generation, otherwise the next.

    :param row: the pipeline.
    :param rows: all pipelines.
    """
    deployment = row.facts.deployment
    if deployment is None:
        return None
    number = row.facts.generation
    kept = [
        one for one in rows if one.facts.deployment == deployment and one.facts.generation not in (0, number)
    ]
    before = [one for one in kept if one.facts.generation < number]
    if before:
        return max(before, key=lambda one: one.facts.generation)
    return min(kept, key=lambda one: one.facts.generation, default=None)


def definition(
    pipeline: Pipeline, facts: Facts, other: tuple[Pipeline, int] | None, missing: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a pipeline's definition as its page shows it, of limited size and without secrets.

    It reads the whole SQL, so run it in a thread.

    :param pipeline: as the server describes it.
    :param facts: the pipeline's facts.
    :param other: the pipeline to compare it with, and its generation; None if there is none.
    :param missing: what could not be read, a sentence each.
    """
    sql = without_label(pipeline.query)
    missing = list(missing)
    diff = None
    if other is not None:
        try:
            diff = _diff((pipeline, facts.generation), other)
        except ValueError as error:
            missing.append(f"Diff: {error}")
    tags = list(user_tags_of(pipeline).items())
    if len(tags) > _MAX_TAGS:
        missing.append(f"Tags: {len(tags) - _MAX_TAGS} more are not shown.")
    if len(pipeline.udfs) > _MAX_UDFS:
        missing.append(f"UDFs: {len(pipeline.udfs) - _MAX_UDFS} more are not shown.")
    label = label_fields(pipeline)
    return {
        "tags": {
            visible(name[:MAX_NAME]): MASK if is_secret_name(name) else facts.shown(value, _MAX_TEXT)
            for name, value in tags[:_MAX_TAGS]
        },
        "label": None
        if label is None
        else {
            visible(name[:MAX_NAME]): facts.shown(value, _MAX_TEXT)
            for name, value in [*label.items()][:_MAX_TAGS]
        },
        "sql": _cut(sql, redact_sql),
        "sql_truncated": len(sql) > MAX_SQL,
        "udfs": [_udf(udf, facts) for udf in pipeline.udfs[:_MAX_UDFS]],
        "graph": _graph(pipeline.graph, facts),
        "diff": diff,
        "missing": missing,
    }


def _cut(text: str, redact: Callable[[str], str]) -> str:
    """Return the part of a text that is shown. A secret that was cut off cannot be recognized, so it is left out."""
    read = text[: MAX_SQL + 2 * _MARGIN]
    shown = redact(read)
    return (shown if len(read) == len(text) else shown[:-_MARGIN])[:MAX_SQL]


def _udf(udf: Udf, facts: Facts) -> dict[str, Any]:
    secrets = facts.secrets
    return {
        "name": _name_of(udf),
        "language": udf.language or "rust",
        "definition": NOT_SHOWN
        if secrets is None
        else _cut(udf.definition, lambda code: redact_code(code, udf.language, secrets)),
    }


def _name_of(udf: Udf) -> str:
    found = _UDF_NAME.search(udf.definition[:MAX_SQL])
    return found[1] if found else ""


def _graph(graph: PipelineGraph, facts: Facts) -> dict[str, Any]:
    nodes = {node.node_id: node for node in reversed(graph.nodes[:MAX_NODES])}
    return {
        "nodes": [
            {
                "id": node.node_id,
                "operator": _of_node(facts, node.operator),
                "description": _of_node(facts, node.description),
                "parallelism": node.parallelism,
            }
            for node in reversed(nodes.values())
        ],
        "edges": [
            {"from": edge.src_id, "to": edge.dest_id, "type": edge.edge_type[:MAX_NAME]}
            for edge in graph.edges[:_MAX_EDGES]
        ],
        "truncated": len(graph.nodes) > MAX_NODES or len(graph.edges) > _MAX_EDGES,
    }


def _of_node(facts: Facts, text: str) -> str:
    """Return a text of a node. It has no room for a reason if it is not shown."""
    return "" if facts.secrets is None else facts.shown(text, _MAX_TEXT)


def _diff(one: tuple[Pipeline, int], other: tuple[Pipeline, int]) -> dict[str, Any]:
    """Return the differences between two generations.

    :raises ValueError: if there is too much to compare.
    """
    (old, old_number), (new, new_number) = sorted((one, other), key=lambda item: item[1])
    lines: list[str] = []
    for name, before, after in _texts(old, new):
        for text in (before, after):
            if len(text) > MAX_SQL or text.count("\n") > MAX_DIFF_LINES:
                raise ValueError(
                    f"generations {old_number} and {new_number} are too large to be compared here: {name} has more "
                    f"than {MAX_SQL:,} characters or {MAX_DIFF_LINES:,} lines."
                )
        if found := redacted_diff(before, after, has_places=True):
            lines += [f"--- generation {old_number}: {name}", f"+++ generation {new_number}: {name}", *found]
    return {
        "from_generation": old_number,
        "to_generation": new_number,
        "other_id": other[0].id,
        "text": "\n".join(lines),
    }


def _texts(old: Pipeline, new: Pipeline) -> Iterator[tuple[str, str, str]]:
    """Yield the texts to compare: a name, the old text, the new text."""
    yield "SQL", without_label(old.query), without_label(new.query)
    before, after = ({_name_of(udf): udf for udf in one.udfs[:_MAX_UDFS]} for one in (old, new))
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    if names:
        # A function may repeat a secret of the SQL.
        secrets = secret_values(old.query) | secret_values(new.query)
        for name in names:
            udfs = (one.get(name, Udf("")) for one in (before, after))
            # A text that is too large to compare is also too large to search for secrets.
            old_text, new_text = (
                redact_code(udf.definition, udf.language, secrets)
                if len(udf.definition) <= MAX_SQL
                else " " * (MAX_SQL + 1)
                for udf in udfs
            )
            yield f"UDF {name}", old_text, new_text
