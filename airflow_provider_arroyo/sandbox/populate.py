"""Pipelines to begin with: a server that has been in use for a while."""

from __future__ import annotations

from airflow_provider_arroyo.client.models import JobState

from . import running
from .api import Api
from .engine import new_id
from .planning import plan
from .records import DEFAULT_INTERVAL_MICROS, Job, Pipeline, Wanted

QUERY = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;"
)


def populate(api: Api, count: int) -> None:
    """Add pipelines that have been running since they were created, one a second until now.

    :param count: how many; they are called ``pipeline-1``, ``pipeline-2`` …, the newest last.
    """
    engine, store = api.engine, api.store
    planned = plan(QUERY, version=api.version, tables=(), udfs=(), parallelism=1, preview=False, strict=False)
    if planned.graph is None:
        raise RuntimeError(f"the sandbox refuses its own SQL: {planned.refusal}")
    for number in range(1, count + 1):
        begun = engine.now - (count - number + 1) * 1_000_000
        pipeline = Pipeline(
            id=new_id(api.rng, "pl"),
            name=f"pipeline-{number}",
            query=QUERY,
            created_at=store.dated(begun),
            sequence=store.next_sequence(),
            graph=planned.graph,
            sources=planned.sources,
            sinks=planned.sinks,
        )
        job = pipeline.job = Job(
            id=new_id(api.rng, "job"),
            pipeline=pipeline,
            created_at=pipeline.created_at,
            sequence=store.next_sequence(),
            wanted=Wanted(parallelism=1, interval_micros=DEFAULT_INTERVAL_MICROS),
            state=JobState.RUNNING.value,
            run_id=1,
            start_time=begun,
            tasks=len(planned.graph["nodes"]),
            seen_parallelism=1,
            seen_interval_micros=DEFAULT_INTERVAL_MICROS,
            entered=begun,
        )
        running.begin(job, begun, api.rng)
        store.add(pipeline)
        engine.touch(job)
