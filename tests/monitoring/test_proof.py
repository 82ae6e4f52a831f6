"""A final checkpoint is claimed only where it is proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.details import Checkpoint
from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.monitoring.proof import StopRequest, checkpoint_of_stop, checkpoint_of_stopped

RECORDED = Path(__file__).parent.parent / "data" / "arroyo"

ASKED = 1_000_000_000
JOB = Job(id="job_1", state="Stopped", run_id=1, running_desired=False, start_time_micros=ASKED - 50)


def made(
    epoch: int, kind: str | None = None, *, start: int = ASKED + 10, finished: bool = True
) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        backend="parquet",
        start_time_micros=start,
        finish_time_micros=start + 5 if finished else None,
        checkpoint_type=kind,
    )


def test_request_remembers_the_highest_epoch() -> None:
    assert StopRequest.after(()) == StopRequest(after_epoch=0, asked_at_micros=None)
    seen = [made(3), made(7, finished=False), made(5)]
    assert StopRequest.after(seen, ASKED) == StopRequest(after_epoch=7, asked_at_micros=ASKED)


@given(epoch=st.integers(0, 2**40), asked=st.one_of(st.none(), st.integers(0, 2**60)))
def test_request_crosses_processes(epoch: int, asked: int | None) -> None:
    request = StopRequest(after_epoch=epoch, asked_at_micros=asked)
    assert StopRequest.from_dict(json.loads(json.dumps({**request.to_dict(), "later": 1}))) == request


@pytest.mark.parametrize(
    "data",
    [
        None,
        "x",
        5,
        [],
        {},
        {"asked_at_micros": 1},
        {"after_epoch": "5"},
        {"after_epoch": 1.5},
        {"after_epoch": True},
        {"after_epoch": None},
        {"after_epoch": 1, "asked_at_micros": "now"},
        {"after_epoch": 1, "asked_at_micros": 1.5},
    ],
)
def test_request_that_cannot_be_read_proves_nothing_by_guesses(data: Any) -> None:
    with pytest.raises(ValueError, match="does not say what was asked to stop"):
        StopRequest.from_dict(data)


@pytest.mark.parametrize(
    "checkpoints, proven",
    [
        pytest.param([made(5, "scheduled"), made(6, "stopping")], 6, id="made by this stop"),
        pytest.param([made(6, "stopping"), made(5, "scheduled")], 6, id="whatever the order"),
        pytest.param(
            [made(6, "stopping", start=ASKED - 10_000)], 6, id="times do not matter where types tell"
        ),
        pytest.param([], None, id="none at all"),
        pytest.param([made(5, "stopping")], None, id="of the restart before"),
        pytest.param([made(6, "scheduled")], None, id="only a scheduled one"),
        pytest.param([made(6, "stopping", finished=False)], None, id="not finished"),
        pytest.param([made(6, "stopping"), made(7, "scheduled")], None, id="a scheduled one came after it"),
        pytest.param(
            [made(6, "stopping"), made(7, "stopping", finished=False)], None, id="the last one broke off"
        ),
        pytest.param([made(6, "final")], None, id="a type that we do not know"),
    ],
)
def test_proof_where_the_server_tells_types(checkpoints: list[Checkpoint], proven: int | None) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5, asked_at_micros=ASKED))
    assert (found.epoch if found else None) == proven


@pytest.mark.parametrize(
    "checkpoints, proven",
    [
        pytest.param([made(5), made(6)], 6, id="begun after the stop"),
        pytest.param([made(6, start=ASKED)], 6, id="begun at that very moment"),
        pytest.param([made(6, start=ASKED - 1)], None, id="begun before it"),
        pytest.param([made(5)], None, id="known before"),
        pytest.param([made(6, finished=False)], None, id="not finished"),
        pytest.param([made(6), made(7, finished=False)], None, id="the last one broke off"),
    ],
)
def test_proof_where_the_server_tells_no_types(checkpoints: list[Checkpoint], proven: int | None) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5, asked_at_micros=ASKED))
    assert (found.epoch if found else None) == proven
    # Our own clock proves nothing: without the server's there is no proof.
    assert checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5)) is None


@pytest.mark.parametrize(
    "checkpoints, job, proven",
    [
        pytest.param([made(5, "stopping")], JOB, 5, id="of the run that ended"),
        pytest.param(
            [made(5, "stopping", start=ASKED - 51)], JOB, None, id="of the restart that began the run"
        ),
        pytest.param([made(5, "stopping"), made(6, "scheduled")], JOB, None, id="not the last one"),
        pytest.param([made(5, "stopping", finished=False)], JOB, None, id="not finished"),
        pytest.param([made(5, "scheduled")], JOB, None, id="of another type"),
        pytest.param([made(5)], JOB, None, id="no types, no proof"),
        pytest.param([], JOB, None, id="none at all"),
        pytest.param([made(5, "stopping")], replace(JOB, start_time_micros=None), None, id="it never ran"),
    ],
)
def test_proof_for_one_that_was_found_stopped(
    checkpoints: list[Checkpoint], job: Job, proven: int | None
) -> None:
    found = checkpoint_of_stopped(checkpoints, job)
    assert (found.epoch if found else None) == proven


checkpoints_of = st.lists(
    st.builds(
        made,
        st.integers(1, 12),
        st.sampled_from([None, "scheduled", "stopping", "other"]),
        start=st.integers(ASKED - 5, ASKED + 5),
        finished=st.booleans(),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(checkpoints=checkpoints_of, after=st.integers(0, 12), asked=st.one_of(st.none(), st.just(ASKED)))
def test_whatever_is_proven_is_finished_last_and_newer(
    checkpoints: list[Checkpoint], after: int, asked: int | None
) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=after, asked_at_micros=asked))
    if found is None:
        return
    assert found.is_finished
    assert found.epoch > after
    assert found.epoch == max(checkpoint.epoch for checkpoint in checkpoints)
    assert found.checkpoint_type in ("stopping", None)
    if found.checkpoint_type is None:
        assert asked is not None
        assert found.start_time_micros >= asked


# -- what real servers left ------------------------------------------------------------------------------------


def _answers(version: str, name: str, end: str) -> Iterator[tuple[str, Any]]:
    for row in json.loads((RECORDED / version / f"{name}.json").read_text()):
        body = row["response"]["body"]
        if row["request"]["path"].endswith(end) and isinstance(body, dict) and "data" in body:
            yield row["note"], [Checkpoint.from_api(item) for item in body["data"]]


@pytest.mark.parametrize("version", ["0.15.0", "0.16-dev"])
def test_recorded_stop_is_proven(version: str) -> None:
    lists = dict(_answers(version, "checkpoints_of_restart_rescale_stop", "/checkpoints"))
    before, after = lists["after a rescale"], lists["after the stop with checkpoint"]
    asked = max(checkpoint.finish_time_micros or 0 for checkpoint in before)
    found = checkpoint_of_stop(after, StopRequest.after(before, asked))
    assert found is not None
    assert found.epoch == 4


@pytest.mark.parametrize("version", ["0.15.0", "0.16-dev"])
def test_recorded_restart_and_rescale_prove_no_later_stop(version: str) -> None:
    lists = dict(_answers(version, "checkpoints_of_restart_rescale_stop", "/checkpoints"))
    for note in ("after a restart", "after a rescale", "after the stop with checkpoint"):
        seen = lists[note]
        asked = max(checkpoint.finish_time_micros or 0 for checkpoint in seen)
        assert checkpoint_of_stop(seen, StopRequest.after(seen, asked)) is None
    # The immediate stop left none of its own, and the one of the stop before is not taken for it.
    last = lists["resumed, then stopped immediately"]
    stopped = lists["after the stop with checkpoint"]
    asked = max(checkpoint.finish_time_micros or 0 for checkpoint in stopped)
    assert checkpoint_of_stop(last, StopRequest.after(stopped, asked)) is None
