"""When a task defers and when it may resume, by Airflow's configuration."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import airflow
from airflow.providers.common.compat.sdk import conf

from airflow_provider_arroyo.client.checks import check_bool

AIRFLOW_GRACE = timedelta(minutes=1)
"""How much later than our own deadline Airflow ends a wait. Our deadline is exact, and its error says more."""

HOLD_MARGIN_SECONDS = 3.0
"""How long Airflow may take to notice that a worker's process has ended; one second was measured."""

MAX_HOLD_SECONDS = 3600.0


def deferrable_or_default(deferrable: Any) -> bool:
    """Return the argument, or Airflow's ``[operators] default_deferrable`` if it is None.

    :raises ValueError: if it is not a boolean (the string ``"false"`` would count as true), or, for a task that may
        defer, if ``[arroyo] deferral_hold`` is invalid.
    """
    if deferrable is None:
        deferrable = bool(conf.getboolean("operators", "default_deferrable", fallback=False))
    if check_bool(deferrable, "deferrable"):
        # Now, not after the task has started a pipeline.
        deferral_hold_seconds()
    return bool(deferrable)


def keeps_task_state() -> bool:
    """Return whether Airflow keeps state for a task between its tries and pokes (3.3 and later)."""
    return tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 3)


def deferral_hold_seconds() -> float:
    """Return how long after its deferral a task may resume at the earliest: ``[arroyo] deferral_hold``, in seconds.

    :raises ValueError: if it is neither ``auto`` nor a number of seconds.
    """
    value = str(conf.get("arroyo", "deferral_hold", fallback="auto")).strip()
    if value.lower() == "auto":
        interval = str(conf.get("workers", "min_heartbeat_interval", fallback="5"))
        what = "[workers] min_heartbeat_interval: must be seconds"
        return _seconds(interval, f"{what} if [arroyo] deferral_hold is 'auto',") + HOLD_MARGIN_SECONDS
    return _seconds(value, "[arroyo] deferral_hold: must be 'auto' or seconds")


def _seconds(value: str, what: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_HOLD_SECONDS:
        raise ValueError(f"Airflow's configuration, {what} from 0 to {MAX_HOLD_SECONDS:.0f}, got {value!r}")
    return seconds
