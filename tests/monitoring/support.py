"""Jobs, plans and errors for the tests of waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    Disposition,
)
from airflow_provider_arroyo.monitoring.plan import Baseline, PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.wait import PipelineWait

T0 = 1_795_572_000.0
ORDERS = PipelineRef(
    pipeline_id="pl_1", name="orders_per_minute", console_url="http://arroyo:5115/pipelines/pl_1"
)
UNNAMED = PipelineRef(pipeline_id="pl_1")


def api_error(
    status: int,
    kind: type[ArroyoApiError] = ArroyoApiError,
    message: str | None = None,
    disposition: Disposition | None = None,
) -> ArroyoApiError:
    """An error for a response; the default disposition is that of its kind, or of its status."""
    more: dict[str, Any] = {}
    if disposition is not None:
        more["disposition"] = disposition
    elif kind is ArroyoApiError and (status >= 500 or status == 429):
        more["disposition"] = Disposition.RETRY if status == 429 else Disposition.RETRY_IF_IDEMPOTENT
    return kind(
        message or f"responded {status}", status=status, method="GET", path="/pipelines/pl_1/jobs", **more
    )


REFUSED = ArroyoConnectionError(
    "Connection refused", method="GET", path="/pipelines/pl_1/jobs", disposition=Disposition.RETRY
)
GONE = api_error(404, ArroyoNotFoundError, "Pipeline not found")
FOREIGN = api_error(200, ArroyoForeignResponseError, "A gateway's page")


def job(
    state: str = "Running",
    run_id: int = 1,
    *,
    desired: bool = True,
    job_id: str = "job_1",
    reason: str | None = None,
    domain: str | None = None,
) -> Job:
    failure = None if reason is None else FailureReason.from_api({"error": reason, "domain": domain})
    return Job(id=job_id, state=state, run_id=run_id, running_desired=desired, failure=failure)


def plan(*targets: str, **more: Any) -> WaitPlan:
    """A plan of 10 minutes; ``before=`` is the job before a change that was requested at ``T0``."""
    before = more.pop("before", None)
    if before is not None:
        more["baseline"] = Baseline.of(before, requested_at=T0)
    for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat"):
        if name in more:
            more[name] = timedelta(seconds=more[name])
    settings = {"pipeline": ORDERS, "deadline": T0 + 600, **more}
    return WaitPlan(target_states=frozenset(targets or {"Running"}), **settings)


def wait(*targets: str, **more: Any) -> PipelineWait:
    return PipelineWait(plan(*targets, **more), now=T0)


def move(wait: PipelineWait, now: float, **changes: Any) -> PipelineWait:
    """The wait as another process continues it, from JSON; ``changes`` are applied to its progress."""
    progress = {**json.loads(json.dumps(wait.progress.to_dict())), **changes}
    return PipelineWait(wait.plan, now=now, progress=progress)


def logged(wait: PipelineWait) -> list[str]:
    return [message.text for message in wait.messages()]


@contextmanager
def no_messages(wait: PipelineWait) -> Iterator[None]:
    """Check that the block logs nothing."""
    wait.messages()
    yield
    assert logged(wait) == []
