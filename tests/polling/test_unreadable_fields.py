"""A poll counts in every mode, whatever the optional fields of the job contain."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.poll import poll_until
from tests.polling.fake_arroyo import CHECKPOINTS, FakeArroyo
from tests.polling.support import ALONE, INTERVAL, Waits, a_logger, a_plan
from tests.polling.virtual_time import EPOCH, ManualTime, VirtualClock, virtual

INVALID: dict[str, Any] = {
    "failure_reason": {"error": "x", "domain": 7},
    "failure_message": ["no"],
    "created_at": "yesterday",
    "running_desired": "false",
    "start_time": float("inf"),
    "tasks": "many",
    "scheduler_config": 5,
    "env_vars": [],
}
MODES = ("worker", "single", "list")


def ended_in(
    mode: str,
    version: str,
    fields: dict[str, Any],
    state: str,
    *targets: str,
    unknown_seconds: float = 0.0,
    **plan: Any,
) -> WaitResult:
    """Return how a wait ends for a job with such fields, in each way of polling.

    :param unknown_seconds: how long the server does not know the pipeline, like a lagging replica.
    """

    def prepare(server: FakeArroyo) -> None:
        begins = server.monotonic()
        server.set("pl_0", state, **fields)
        if not unknown_seconds:
            return
        server.hide("pl_0")
        server.at(begins + unknown_seconds, lambda: server.show("pl_0"))
        gone = (404, '{"error": "Pipeline not found"}')
        server.fault = lambda kind, of: (
            gone if of == "pl_0" and server.monotonic() < begins + unknown_seconds else None
        )

    if mode == "worker":
        time = ManualTime()
        server = FakeArroyo(version=version, monotonic=time, spend=time.sleep)
        prepare(server)
        wait = PipelineWait(a_plan("pl_0", *targets, at=EPOCH, **plan), now=EPOCH)
        options: dict[str, Any] = {"clock": VirtualClock(monotonic=time), "interval_seconds": INTERVAL}
        return poll_until(server.client(), wait, log=a_logger(), sleep=time.sleep, **options)
    seen: list[WaitResult] = []

    @virtual
    async def main() -> None:
        server = FakeArroyo(version=version)
        others = server.many(ALONE if mode == "single" else 20)[1:]
        prepare(server)
        waits = Waits(server)
        if mode == "list":
            waits.start_all(others, "Stopped", timeout=1e6)
        seen.append(await waits.start("pl_0", *targets, **plan))

    main()
    return seen[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_failed_job_with_invalid_fields_has_failed(mode: str, version: str) -> None:
    """Which values a field may have is in ``test_model_fields``."""
    result = ended_in(mode, version, INVALID, "Failed", "Running", timeout=30.0)
    assert result.outcome is Outcome.FAILED
    assert result.error is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [None, "false", "true", 0, 1, []])
def test_an_invalid_running_desired_does_not_count_as_true(mode: str, value: Any) -> None:
    fields = {"running_desired": value}
    result = ended_in(
        mode, "0.16", fields, "Running", "Running", timeout=30.0, stable_for=timedelta(seconds=1)
    )
    assert result.outcome is Outcome.TIMED_OUT
    assert result.job is not None
    assert result.job.running_desired is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "value, outcome", [(None, Outcome.TIMED_OUT), ("true", Outcome.TIMED_OUT), (True, Outcome.REACHED)]
)
def test_an_invalid_running_desired_ends_no_guard_well(mode: str, value: Any, outcome: Outcome) -> None:
    fields = {"running_desired": value}
    result = ended_in(mode, "0.16", fields, "Running", "Stopped", timeout=30.0, timeout_is_success=True)
    assert result.outcome is outcome


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name, value", [("run_id", "1"), ("run_id", None), ("state", 5)])
def test_the_fields_that_identify_a_run_must_be_valid(mode: str, name: str, value: Any) -> None:
    fields: dict[str, Any] = {} if name == "state" else {name: value}
    state = value if name == "state" else "Running"
    limits: dict[str, Any] = {"timeout": 200.0, "outage_tolerance": timedelta(seconds=60)}
    result = ended_in(mode, "0.16", fields, state, "Running", **limits)
    assert result.outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seconds, outcome", [(2.0, Outcome.REACHED), (20.0, Outcome.DELETED)])
def test_a_new_pipeline_may_be_unknown_for_a_moment(mode: str, seconds: float, outcome: Outcome) -> None:
    result = ended_in(mode, "0.16", {}, "Running", "Running", unknown_seconds=seconds, created_at=EPOCH)
    assert result.outcome is outcome
    assert result.waited_seconds < 8


@virtual
async def test_many_waits_read_their_checkpoints_two_at_a_time() -> None:
    server = FakeArroyo()
    names = server.many(50, "Running")
    server.seconds = lambda kind, of: 0.05 if kind == CHECKPOINTS else 0.0
    waits = Waits(server)
    waits.start_all(names, until_checkpoint=True)
    for name in names:
        server.checkpoint(name, 1)
    assert await waits.all_over() == {"reached": 50}
    assert server.count(CHECKPOINTS) == 50
    assert server.most_at_once[CHECKPOINTS] <= 2


@virtual
async def test_a_hanging_read_delays_no_other_wait_and_no_deadline() -> None:
    server = FakeArroyo()
    names = server.many(10, "Running")
    server.fault = lambda kind, of: "hangs" if kind == CHECKPOINTS and of in names[:4] else None
    waits = Waits(server)
    waits.start_all(names[:4], until_checkpoint=True, timeout=30.0)
    waits.start_all(names[4:], until_checkpoint=True, timeout=30.0)
    for name in names:
        server.checkpoint(name, 1)
    assert await waits.all_over() == {"timed_out": 4, "reached": 6}
    late = [task.result().waited_seconds for task in waits.tasks]
    assert max(late[:4]) <= 30.01
    assert max(late[4:]) <= 10
