"""The progress of a deferred wait that lasts for hours or days, stored in an XCom of its task.

Airflow stores a trigger's arguments once, when its task defers, and rebuilds the trigger from them after each restart
of the triggerer. Without this, a wait that counts restarts would start counting again, or take requested restarts for
others, and ``stable_for`` would begin again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow_provider_arroyo.triggers.supervisor import pull_xcom, push_xcoms

if TYPE_CHECKING:
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

PROGRESS_XCOM_KEY = "arroyo_wait_progress"

KEEP_SECONDS = 10.0
"""Time between two checks for a new run that must be stored, in seconds."""

_LONG_SECONDS = 3590.0
"""An hour, less the moment between the begin of a ``timeout`` and that of its wait. Shorter waits lose little, and
there may be thousands of them, so only a ``restart_window`` makes them store.
"""

_LONG_STABLE_SECONDS = 600.0
"""A shorter ``stable_for`` may begin again."""

_STORES_PER_STABLE = 10
"""How often the progress is stored during one ``stable_for`` of a state."""

_MEASURED_SECONDS = 120.0
"""Time between two stores while a metric must last, in seconds: Arroyo keeps its values for five minutes."""

_COUNTED_SECONDS = 600.0
"""Time between two stores while checkpoints are counted, in seconds; Arroyo still lists those that follow a store."""

_turns = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()
"""Thousands of waits that began together store together: one after the other, so that other requests get through."""


def keep_interval(wait: PipelineWait) -> float | None:
    """Return how often the progress of a wait is stored at least, in seconds; None if it is not.

    :param wait: the wait; its progress may be that of the worker.
    :returns: infinity if it is stored only after new runs.
    """
    plan, intervals = wait.plan, list[float]()
    if plan.restart_window is not None:
        # Restarts while no triggerer runs are spread over the time since the last store, so that must be short.
        intervals.append(plan.restart_window.total_seconds() / 2)
    elif plan.deadline - wait.progress.started_at < _LONG_SECONDS:
        return None
    elif plan.max_restarts is not None:
        intervals.append(float("inf"))
    if (stable_seconds := plan.stable_for.total_seconds()) >= _LONG_STABLE_SECONDS:
        intervals.append(stable_seconds / _STORES_PER_STABLE)
    if plan.metric is not None and plan.metric.stable_for.total_seconds() >= _LONG_STABLE_SECONDS:
        intervals.append(_MEASURED_SECONDS)
    if plan.checkpoint is not None and plan.checkpoint.new_checkpoints:
        intervals.append(_COUNTED_SECONDS)
    return min(intervals, default=None)


def progress_note(ti: Any, progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stored about a wait.

    :param ti: the task instance.
    :param progress: from :class:`.Progress`, as JSON values.
    """
    return {"try_number": ti.try_number, "progress": dict(progress)}


async def latest_progress(ti: Any, progress: Mapping[str, Any] | None, log: Any) -> Mapping[str, Any] | None:
    """Return the latest progress: stored by another triggerer, or from before the task deferred.

    :param ti: the task instance, as the triggerer knows it.
    :param progress: what the worker saw.
    :param log: gets a warning if Airflow fails.
    """
    try:
        kept = await pull_xcom(ti, PROGRESS_XCOM_KEY)
    except Exception as err:  # noqa: BLE001  # Airflow's backend for XComs may raise anything
        log.warning("The progress of this wait cannot be read, so it continues from its deferral: %r", err)
        return progress
    if not isinstance(kept, Mapping) or kept.get("try_number") != ti.try_number:
        return progress
    seen = kept.get("progress")
    return seen if _seen_at(seen) > _seen_at(progress) else progress


async def keep_progress(
    ti: Any, wait: PipelineWait, clock: Callable[[], float], interval_seconds: float, log: Any
) -> None:
    """Store the progress of a wait after each new run and from time to time, until cancelled.

    :param ti: the task instance.
    :param wait, clock: the wait and its clock.
    :param interval_seconds: from :func:`keep_interval`.
    :param log: gets one warning if Airflow fails.
    """
    p, has_failed = wait.progress, False
    kept_run, kept_at = p.seen_run, p.now
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        run, now = p.seen_run, clock()
        if run is None or (run == kept_run and now < kept_at + interval_seconds):
            continue
        try:
            async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                run, now = p.seen_run, clock()
                p.follow(now)  # polls that show no change are not observed
                await push_xcoms(ti, {PROGRESS_XCOM_KEY: progress_note(ti, p.to_dict())})
        except Exception as err:  # noqa: BLE001  # as above
            if not has_failed:
                log.warning("The progress of this wait cannot be stored for another triggerer: %r", err)
            has_failed = True
        else:
            kept_run, kept_at, has_failed = run, now, False


def _seen_at(progress: Any) -> float:
    now = progress.get("now") if isinstance(progress, Mapping) else None
    return float(now) if isinstance(now, int | float) else float("-inf")
