"""Pipelines to begin with: a server that has been in use for a while."""

from __future__ import annotations

from airflow_provider_arroyo.client.models import JobState

from . import runs
from .engine import Engine
from .planning import plan
from .records import DEFAULT_INTERVAL_MICROS, Job, Pipeline, Wanted, new_id
from .store import Store

QUERY = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;"
)


def populate(engine: Engine, store: Store, *, version: str, count: int) -> None:
    """Add pipelines that have been running since they were created, one a second until now.

    :param count: how many; their names are ``pipeline-1``, ``pipeline-2`` …, the newest last.
    """
    planned = plan(QUERY, version=version, tables=(), udfs=(), parallelism=1, preview=False)
    if planned.graph is None:
        raise RuntimeError(f"the sandbox refuses its own SQL: {planned.refusal}")
    for number in range(1, count + 1):
        begun = engine.now - (count - number + 1) * 1_000_000
        pipeline = Pipeline(
            id=new_id(engine.rng, "pl"),
            name=f"pipeline-{number}",
            query=QUERY,
            created_at=store.dated(begun),
            sequence=store.next_sequence(),
            graph=planned.graph,
            sources=planned.sources,
            sinks=planned.sinks,
        )
        job = pipeline.job = Job(
            id=new_id(engine.rng, "job"),
            pipeline=pipeline,
            created_at=pipeline.created_at,
            sequence=store.next_sequence(),
            wanted=Wanted(1, DEFAULT_INTERVAL_MICROS),
            seen=Wanted(1, DEFAULT_INTERVAL_MICROS),
            state=JobState.RUNNING.value,
            run_id=1,
            start_time=begun,
            tasks=len(planned.graph["nodes"]),
            entered=begun,
        )
        runs.begin(job, begun, engine.rng)
        store.add(pipeline)
        engine.touch(job)
