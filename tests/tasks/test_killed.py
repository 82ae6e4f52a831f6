"""A killed task keeps polling until Airflow ends its process, so its error names who requested the stop."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from airflow_provider_arroyo.polling import poll
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .harness import SYNC, FakeTaskInstance, run_task, submit


@pytest.mark.parametrize(
    "stop_on_kill, who",
    [
        ("checkpoint", "by this task, which was killed (stop_on_kill='checkpoint')"),
        ("immediate", "by this task, which was killed (stop_on_kill='immediate')"),
        (None, "externally"),
    ],
)
def test_the_error_names_who_requested_the_stop(
    stop_on_kill: str | None, who: str, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti, made = FakeTaskInstance(), []

    def make(**mode: Any) -> Any:
        made.append(submit(wait_for="Finished", stop_on_kill=stop_on_kill)(**mode))
        return made[-1]

    def sleep(seconds: float) -> None:
        """Kill the task as Airflow does, from a signal between two polls, once its pipeline runs."""
        sandbox.advance(seconds)
        waiting = made[-1]._waiting
        if ti.state == "running" and waiting.job is not None and waiting.job.state == "Running":
            ti.state = "failed"
            made[-1].on_kill()
            if stop_on_kill is None:
                sandbox.faults.stop("orders")

    monkeypatch.setattr(poll, "poll_until", functools.partial(poll.poll_until, sleep=sleep))
    ended = run_task(make, SYNC, ti)
    assert f"was stopped {who}; Finished was wanted" in str(ended.error)
