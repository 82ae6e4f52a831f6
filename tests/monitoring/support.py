"""Jobs, plans and errors for the tests of waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.arroyo.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoApiError, ArroyoConnectionError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.plan import Baseline, WaitPlan
from airflow_provider_arroyo.monitoring.wait import PipelineWait

T0 = 1_795_572_000.0

REFUSED = ArroyoConnectionError("Connection refused", method="GET", path="/pipelines/pl_1/jobs")
GONE = ArroyoNotFoundError("Pipeline not found", status=404, method="GET", path="/pipelines/pl_1/jobs")


def api_error(status: int, kind: type[ArroyoApiError] = ArroyoApiError) -> ArroyoApiError:
    return kind(f"answered {status}", status=status, method="GET", path="/pipelines/pl_1/jobs")


def job(
    state: str = "Running",
    run_id: int = 1,
    *,
    desired: bool = True,
    job_id: str = "job_1",
    reason: str | None = None,
    domain: str | None = None,
) -> Job:
    failure = FailureReason(reason, domain) if reason is not None else None
    return Job(id=job_id, state=state, run_id=run_id, running_desired=desired, failure=failure)


def plan(*targets: str, **more: Any) -> WaitPlan:
    """A plan with 10 minutes; ``before=`` is the job before a change that was asked at ``T0``."""
    before = more.pop("before", None)
    if before is not None:
        more["baseline"] = Baseline.of(before, asked_at=T0)
    for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat"):
        if name in more:
            more[name] = timedelta(seconds=more[name])
    settings = {"pipeline_id": "pl_1", "deadline": T0 + 600, **more}
    return WaitPlan(targets=frozenset(targets or {"Running"}), **settings)


def wait(*targets: str, **more: Any) -> PipelineWait:
    return PipelineWait(plan(*targets, **more), now=T0, label="P")


def said(wait: PipelineWait) -> list[str]:
    return [str(note) for note in wait.notes()]
