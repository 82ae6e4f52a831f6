"""Creates pipelines that a sandbox starts with, for demos and tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from airflow_provider_arroyo.client.enums import JobState

from . import runs
from .api import Api
from .faults import Faults
from .messages import Call, RefusedError

QUERY = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;"
)


def populate(api: Api, count: int) -> None:
    """Add pipelines that have been running since they were created, one a second until now.

    :param count: how many; their names are ``pipeline-1``, ``pipeline-2`` …, the newest last.
    """
    engine = api.engine
    planned = api.plan({"query": QUERY})
    for number in range(1, count + 1):
        fields = {"name": f"pipeline-{number}", "query": QUERY, "parallelism": 1}
        job = api.create(Call(fields=fields, plan=planned))
        engine.enter(job, JobState.SCHEDULING.value)
        engine.enter(job, JobState.RUNNING.value)
        begun = engine.now - (count - number + 1) * 1_000_000
        job.created_at = job.pipeline.created_at = api.store.dated(begun)
        job.start_time = job.entered = begun
        # Only checkpoints of the last minute, since there may be ten thousand pipelines.
        runs.begin(job, max(begun, engine.now - 60_000_000), engine.rng)


DEMO_SECONDS = 900
"""The age of the demo's pipelines."""
_MINUTES = """\
CREATE TABLE events WITH (connector = 'impulse', event_rate = '{rate}');
CREATE TABLE totals (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO totals SELECT count(*) FROM events GROUP BY tumble(interval '1 minute');"""
_SHIPMENTS = """\
CREATE TABLE shipments (id TEXT) WITH (connector = 'kafka', bootstrap_servers = 'kafka:9092',
  topic = 'shipments', type = 'source', format = 'json');
CREATE TABLE archive (id TEXT) WITH (connector = 'blackhole');
INSERT INTO archive SELECT id FROM shipments;"""
_BOUNDED = QUERY.replace("'10'", "'100', message_count = '6000'")
_FAILED = {"error": "error in connector: the table refunds has no column amount", "domain": "user"}
# Name, SQL, and a fault with its fields.
_DEMO: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("clicks_per_day", QUERY, "stop", {"after": 400.0}),
    ("inventory_snapshot", _BOUNDED, "", {}),
    ("orders_per_minute", _MINUTES.format(rate=1000), "traffic", {"swing": 0.4, "period": 240.0}),
    ("payments_to_warehouse", _MINUTES.format(rate=500), "traffic", {"rate": 120, "backpressure": 0.93}),
    ("shipments_archive", _SHIPMENTS, "kafka_away", {}),
    ("sessions_flapping", QUERY, "flap", {"runs": 1_000_000, "every": 40.0}),
    ("refunds_backfill", QUERY, "fail", {"after": 90.0, **_FAILED}),
    ("fraud_scores", QUERY, "never_starts", {}),
)
HALF_MADE_ID = "half-made"


def demo(api: Api, faults: Faults, advance: Callable[[float], None]) -> None:
    """Add a pipeline in each common situation, and let a quarter of an hour pass.

    Two run with changing metrics, one of them slowly with backpressure; one keeps restarting, one has no broker, one
    failed, one was stopped, one finished, one waits for workers. A half-made record has an id but no job.

    :param advance: lets so many seconds pass.
    """
    for name, query, fault, fields in _DEMO:
        if fault:
            faults.inject(fault, pipeline=name, **fields)
        _create(api, name, query, 10_000_000)
        advance(30)
    with suppress(RefusedError):
        # On 0.15 clients cannot choose ids, so nothing shows it.
        _create(api, "half_made", QUERY, 1, *([HALF_MADE_ID] if api.version == "0.16" else []))
    advance(DEMO_SECONDS - 30 * len(_DEMO))


def _create(api: Api, name: str, query: str, interval_micros: int, *ids: str) -> None:
    fields = {"name": name, "query": query, "parallelism": 2, "tags": {"team": "shop"}}
    fields["checkpoint_interval_micros"] = interval_micros
    api.create(Call(ids, fields=fields, plan=api.plan(fields)))
