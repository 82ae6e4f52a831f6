"""The changes of state that a wait stores: each once, the last fifty, across processes."""

from __future__ import annotations

import json

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import to_json
from airflow_provider_arroyo.monitoring.result import MAX_TRANSITIONS, WaitResult
from tests.monitoring.support import REFUSED, T0, job, move, wait

SEEN: list[tuple[Job, tuple[str, int, bool] | None]] = [
    (job("Created", 0), ("Created", 0, False)),
    (job("Created", 0), None),
    (job("Running", 1), ("Running", 1, False)),
    (job("Running", 1), None),
    # The same state of another run.
    (job("Running", 2), ("Running", 2, False)),
    # A stop that was requested and has had no effect yet.
    (job("Running", 2, desired=False), ("Running", 2, True)),
    (job("CheckpointStopping", 2, desired=False), ("CheckpointStopping", 2, True)),
    (job("CheckpointStopping", 2, desired=False, reason="x"), None),
    (job("Hibernating", 2, desired=False), ("Hibernating", 2, True)),
    (job("Failing", 2, job_id="job_2"), ("Failing", 2, False)),
]


@pytest.mark.parametrize("moves", [False, True], ids=["one process", "a new process each time"])
def test_each_change_is_remembered_once(moves: bool) -> None:
    one = wait("Finished", "Failed")
    for second, (seen, _) in enumerate(SEEN):
        one.observe(seen, T0 + second)
        one.observe_error(REFUSED, T0 + second + 0.5)
        one.observe(None, T0 + second + 0.6)
        if moves:
            one = move(one, T0 + second + 0.7)
    result = one.observe(job("Failed", 2, job_id="job_2"), T0 + 20.25)
    expected = [wanted for _, wanted in SEEN if wanted is not None] + [("Failed", 2, False)]
    assert [(one.state, one.run_id, one.stop_requested) for one in result.transitions] == expected
    assert result.transitions[-1].job_id == "job_2"
    first, last = to_json(result.transitions)[0], to_json(result.transitions)[-1]
    assert first == {
        "at": "2026-11-25T02:00:00.000+00:00",
        "state": "Created",
        "run_id": 0,
        "job_id": "job_1",
        "stop_requested": False,
    }
    assert last["at"] == "2026-11-25T02:00:20.250+00:00"


def test_only_the_last_fifty_are_kept() -> None:
    flapping = wait("Finished")
    for run in range(1, 200):
        result = flapping.observe(job("Running", run), T0 + run)
    assert len(result.transitions) == MAX_TRANSITIONS == 50
    assert [one.run_id for one in result.transitions] == list(range(150, 200))
    assert len(json.dumps(flapping.progress.to_dict())) < 10_000
    assert WaitResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
