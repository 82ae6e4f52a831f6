"""When a task is deferred, and when it may be resumed at the earliest: what Airflow's configuration says."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import airflow
from airflow.providers.common.compat.sdk import conf

from airflow_provider_arroyo.client.checks import check_bool

AIRFLOW_GRACE = timedelta(minutes=1)
"""How much later than our own deadline Airflow ends a wait; ours is exact and says what was going on."""

HOLD_MARGIN_SECONDS = 3.0
"""How long Airflow may take to notice the end of a worker's process; one second was measured."""

MAX_HOLD_SECONDS = 3600.0


def deferrable_or_default(deferrable: Any) -> bool:
    """Return the argument, or Airflow's ``[operators] default_deferrable`` where it is None.

    :raises ValueError: on anything but a boolean, as the string ``"false"`` would be true; and for a task that may
        defer on a bad ``[arroyo] deferral_hold``.
    """
    if deferrable is None:
        deferrable = bool(conf.getboolean("operators", "default_deferrable", fallback=False))
    if check_bool(deferrable, "deferrable"):
        # Now, rather than after the task has started a pipeline.
        deferral_hold_seconds()
    return bool(deferrable)


def keeps_task_state() -> bool:
    """Return whether Airflow keeps state for a task between its tries and pokes: from 3.3 on."""
    return tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 3)


def deferral_hold_seconds() -> float:
    """Return how long after its deferral a task may be resumed at the earliest: ``[arroyo] deferral_hold``.

    :raises ValueError: on anything but ``auto`` and a number of seconds.
    """
    value = str(conf.get("arroyo", "deferral_hold", fallback="auto")).strip()
    if value.lower() == "auto":
        interval = str(conf.get("workers", "min_heartbeat_interval", fallback="5"))
        what = "[workers] min_heartbeat_interval: must be seconds"
        return _seconds(interval, f"{what} where [arroyo] deferral_hold is 'auto',") + HOLD_MARGIN_SECONDS
    return _seconds(value, "[arroyo] deferral_hold: must be 'auto' or seconds")


def _seconds(value: str, what: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_HOLD_SECONDS:
        raise ValueError(f"Airflow's configuration, {what} from 0 to {MAX_HOLD_SECONDS:.0f}, got {value!r}")
    return seconds
