"""Metrics, through Airflow's stats: sent once, by the worker, where a task or a stretch of it ends.

Airflow sets its stats up in the processes of tasks, not where triggers run. What a trigger counted comes back with
its event. ``docs/reference/metrics.md`` lists the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.counts import Counts
    from airflow_provider_arroyo.monitoring.result import WaitResult

PREFIX = "arroyo."
"""In front of the name of each metric; Airflow puts its own ``[metrics] statsd_prefix`` before that."""

# Airflow allows these in the id of a connection, and logs an error for a metric that has them in a tag.
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.\-/]")


def emit(waits: Sequence[WaitResult], counts: Counts | None, *, operator: str, connection: str) -> None:
    """Send what the waits and the requests of a task counted and timed. What did not happen is not sent.

    :param waits: how they ended; one that a rescheduled task goes on with later has no outcome yet.
    :param counts: of the task's client; None where it had none.
    :param operator, connection: the tags: the class of the task, and its Airflow connection.
    :raises Exception: whatever Airflow's stats do.
    """
    from airflow.providers.common.compat.sdk import Stats

    tags = {"operator": operator, "connection": _NOT_IN_TAGS.sub("_", connection)}
    totals = {
        "polls": sum(wait.stats.polls for wait in waits),
        "retries": sum(wait.stats.retries for wait in waits) + (counts.retries if counts else 0),
        "outages": sum(wait.stats.outages for wait in waits),
        "restarts": sum(wait.restarts for wait in waits),
        "duplicates_removed": counts.duplicates_removed if counts else 0,
    }
    for name, total in totals.items():
        if total:
            Stats.incr(PREFIX + name, total, tags=tags)
    for wait in waits:
        if wait.is_over:
            Stats.incr(f"{PREFIX}waits.{wait.outcome.value}", tags=tags)
        times = {
            "time_to_running": wait.stats.running_seconds,
            "time_to_checkpoint": wait.stats.checkpoint_seconds,
            "stop_duration": wait.stats.stop_seconds,
        }
        for name, seconds in times.items():
            if seconds is not None:
                Stats.timing(PREFIX + name, timedelta(seconds=seconds), tags=tags)
