"""Run numbers that decrease: briefly because of an old response, permanently because of a restored backup."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import ORDERS, T0, job, logged, plan

SECONDS = range(1, 100)


def _observed(wait: PipelineWait, *seen: tuple[float, Job]) -> str:
    """Return the status of a wait after these polls, seconds after its start."""
    for seconds, one in seen:
        result = wait.observe(one, T0 + seconds)
        if result.is_over:
            return f"{result.outcome} at {seconds}"
    return str(result.outcome)


@pytest.mark.parametrize(
    "targets, more, first, then, outcome",
    [
        (("Running",), {}, job("Scheduling", 5), job("Running", 3), "reached at 61"),
        (("Finished",), {}, job("Running", 5), job("Finished", 3), "reached at 61"),
        (("Running",), {}, job("Scheduling", 5), job("Failed", 3), "failed at 61"),
        (("Running",), {"stable_for": 9}, job("Running", 5), job("Running", 3), "reached at 70"),
        # A guard's pipeline has failed, whatever its run number.
        (("Stopped",), {"timeout_is_success": True}, job("Running", 5), job("Failed", 3), "failed at 61"),
        (("Stopped",), {"before": job("Running", 5)}, job("Running", 5), job("Stopped", 3, desired=False),
         "reached at 61"),
    ],
)  # fmt: skip
def test_permanently_lower_run_numbers_are_accepted_after_a_minute(
    targets: tuple[str, ...], more: dict[str, Any], first: Job, then: Job, outcome: str
) -> None:
    wait = PipelineWait(plan(*targets, pipeline=ORDERS, **more), now=T0)
    assert _observed(wait, (0, first), *((second, then) for second in SECONDS)) == outcome
    assert "back from run 5" in "\n".join(logged(wait))


def test_a_poll_is_due_when_lower_run_numbers_are_accepted() -> None:
    wait = PipelineWait(plan("Running", heartbeat=3600), now=T0)
    wait.observe(job("Scheduling", 5), T0)
    wait.observe(job("Failed", 3), T0 + 1)
    assert wait.next_due() == T0 + 61
    assert _observed(wait, (61, job("Failed", 3))) == "failed at 61"


def test_a_replaced_job_is_ignored() -> None:
    """A restart without state can replace the job; a lagging replica still shows the old one."""
    old, new = (
        replace(job("Running", 3, job_id=f"job_{at}"), created_at_micros=at) for at in (1_000_000, 2_000_000)
    )
    wait = PipelineWait(plan("Running", stable_for=5), now=T0)
    seen = [(0, new), (1, replace(old, state="Failed")), (2, new), (3, replace(old, state="Stopped"))]
    assert _observed(wait, *seen, (4, new)) == "waiting"
    assert _observed(wait, (5, new)) == "reached at 5"


@pytest.mark.parametrize("late", [10.0, 59.0])
def test_a_lagging_replica_is_ignored(late: float) -> None:
    wait = PipelineWait(plan("Finished"), now=T0)
    seen = [(0.0, job("Running", 5))]
    for begin in range(1, 500, 70):
        seen += [(begin, job("Failed", 3)), (begin + late, job("Failed", 3)), (begin + 65, job("Running", 5))]
    assert _observed(wait, *seen) == "waiting"


def test_a_guard_that_ends_with_old_responses_does_not_succeed() -> None:
    wait = PipelineWait(plan("Stopped", timeout_is_success=True, deadline=T0 + 30), now=T0)
    polls = [(0.0, job("Running", 5)), *((float(second), job("Failed", 3)) for second in range(1, 31))]
    assert _observed(wait, *polls) == "timed_out at 30.0"


def test_checkpoints_read_during_that_time_prove_nothing() -> None:
    wait = PipelineWait(plan("Running", until_checkpoint=True), now=T0)
    wait.observe(job("Running", 1), T0)
    wait.observe(job("Running", 0), T0 + 1)
    read = Reading((Checkpoint(epoch=1, start_time_micros=1, finish_time_micros=2),))
    result = wait.observe_details(job("Running", 1), read, T0 + 2, sent_at=T0 + 1.9)
    assert result.outcome == "waiting"
    assert _observed(wait, (3.0, job("Running", 1))) == "reached at 3.0"


def test_the_memory_of_lower_run_numbers_survives_json() -> None:
    first = PipelineWait(plan("Running"), now=T0)
    _observed(first, (0.0, job("Scheduling", 5)), (1.0, job("Failed", 3)), (31.0, job("Failed", 3)))
    # Time without polls does not count.
    second = PipelineWait(plan("Running"), now=T0 + 131, progress=first.progress.to_dict())
    polls = ((float(seconds), job("Failed", 3)) for seconds in range(131, 200))
    assert _observed(second, *polls) == "failed at 161.0"
