"""Metrics in Airflow's stats. The worker sends them once, at the end of a task or of one stretch of it.

Airflow sets up its stats in task processes, not where triggers run. A trigger's counts come back with its event.
``docs/reference/metrics.md`` lists the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.link import Counts
    from airflow_provider_arroyo.monitoring.result import WaitResult

PREFIX = "arroyo."
"""Prefix of each metric's name; Airflow puts its own ``[metrics] statsd_prefix`` before it."""

# Airflow allows these characters in a connection id, but logs an error if a metric's tag contains them.
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.\-/]")


def emit(waits: Sequence[WaitResult], counts: Counts | None, *, operator: str, connection: str) -> None:
    """Send the counts and times of a task's waits and requests. What did not happen is not sent.

    :param waits: the results of the waits; a wait that a rescheduled task continues later has no outcome yet.
    :param counts: of the task's client; None if it had none.
    :param operator, connection: the tags: the task's class and its Airflow connection.
    :raises Exception: any error of Airflow's stats.
    """
    from airflow.providers.common.compat.sdk import Stats

    tags = {"operator": operator, "connection": _NOT_IN_TAGS.sub("_", connection)}
    totals = {
        "polls": sum(wait.stats.polls for wait in waits),
        "retries": sum(wait.stats.retries for wait in waits) + (counts.retries if counts else 0),
        "outages": sum(wait.stats.outages for wait in waits),
        "restarts": sum(wait.stats.restarts for wait in waits),
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
