"""The progress of a deferred wait that lasts for days, stored in an XCom of its task.

Airflow stores a trigger's arguments once, when its task defers, and rebuilds the trigger from them after each restart
of the triggerer. Without this, a wait that counts restarts would start counting again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.triggers.supervisor import pull_xcom, push_xcoms

if TYPE_CHECKING:
    from airflow_provider_arroyo.monitoring.wait import PipelineWait

PROGRESS_XCOM_KEY = "arroyo_wait_progress"

KEEP_SECONDS = 10.0
"""Time between two checks for a new run that must be stored, in seconds."""


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
        log.warning("The progress of this wait cannot be read, so restarts are counted from zero: %r", err)
        return progress
    if not isinstance(kept, Mapping) or kept.get("try_number") != ti.try_number:
        return progress
    seen = kept.get("progress")
    return seen if _seen_at(seen) > _seen_at(progress) else progress


async def keep_progress(ti: Any, wait: PipelineWait, window_seconds: float, log: Any) -> None:
    """Store the progress of a wait after each new run and from time to time, until cancelled.

    :param ti: the task instance.
    :param wait: the wait.
    :param window_seconds: the time in which the wait counts restarts.
    :param log: gets one warning if Airflow fails.
    """
    kept_run, kept_at, has_failed = None, 0.0, False
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        progress, job = wait.progress.to_dict(), wait.progress.job
        run = None if job is None else (job.id, job.run_id)
        # Restarts while no triggerer runs are spread over the time since the last store, so that must be short.
        if run is None or (run == kept_run and progress["now"] < kept_at + window_seconds / 2):
            continue
        try:
            await push_xcoms(ti, {PROGRESS_XCOM_KEY: progress_note(ti, progress)})
        except Exception as err:  # noqa: BLE001  # as above
            if not has_failed:
                log.warning("The progress of this wait cannot be stored for another triggerer: %r", err)
            has_failed = True
        else:
            kept_run, kept_at, has_failed = run, progress["now"], False


def _seen_at(progress: Any) -> float:
    now = progress.get("now") if isinstance(progress, Mapping) else None
    return float(now) if isinstance(now, int | float) else float("-inf")
