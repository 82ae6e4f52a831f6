"""A stop's final checkpoint is reported only if it is proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.checkpoints import (
    StopRequest,
    checkpoint_of_stop,
    checkpoint_of_stopped,
)

RECORDED = Path(__file__).parent.parent / "data" / "arroyo"

REQUESTED = 1_000_000_000
JOB = Job(id="job_1", state="Stopped", run_id=1, running_desired=False, start_time_micros=REQUESTED - 50)


def taken(
    epoch: int, kind: str | None = None, *, start: int = REQUESTED + 10, finished: bool = True
) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        backend="parquet",
        start_time_micros=start,
        finish_time_micros=start + 5 if finished else None,
        checkpoint_type=kind,
    )


def test_a_request_remembers_the_highest_epoch() -> None:
    assert StopRequest.after(()) == StopRequest(after_epoch=0, requested_at_micros=None)
    seen = [taken(3), taken(7, finished=False), taken(5)]
    assert StopRequest.after(seen, REQUESTED) == StopRequest(after_epoch=7, requested_at_micros=REQUESTED)


@given(epoch=st.integers(0, 2**40), requested_at=st.one_of(st.none(), st.integers(0, 2**60)))
def test_a_request_is_read_as_it_was_written(epoch: int, requested_at: int | None) -> None:
    request = StopRequest(after_epoch=epoch, requested_at_micros=requested_at)
    assert StopRequest.from_dict(json.loads(json.dumps({**request.to_dict(), "later": 1}))) == request


@pytest.mark.parametrize(
    "data",
    [
        *(None, "x", 5, [], {}, {"requested_at_micros": 1}),
        *({"after_epoch": epoch} for epoch in ("5", 1.5, True, None)),
        *({"after_epoch": 1, "requested_at_micros": at} for at in ("now", 1.5)),
    ],
    ids=repr,
)
def test_a_request_that_cannot_be_read_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"is missing|not an? "):
        StopRequest.from_dict(data)


@pytest.mark.parametrize(
    "checkpoints, proven",
    [
        pytest.param([taken(5, "scheduled"), taken(6, "stopping")], 6, id="made by this stop"),
        pytest.param([taken(6, "stopping"), taken(5, "scheduled")], 6, id="in any order"),
        pytest.param(
            [taken(6, "stopping", start=REQUESTED - 10_000)],
            6,
            id="times do not matter where there are types",
        ),
        pytest.param([], None, id="none at all"),
        pytest.param([taken(5, "stopping")], None, id="of the restart before"),
        pytest.param([taken(6, "scheduled")], None, id="only a scheduled one"),
        pytest.param([taken(6, "stopping", finished=False)], None, id="not finished"),
        pytest.param([taken(6, "stopping"), taken(7, "scheduled")], None, id="a scheduled one came after it"),
        pytest.param(
            [taken(6, "stopping"), taken(7, "stopping", finished=False)],
            None,
            id="the last one was cut short",
        ),
        pytest.param([taken(6, "final")], None, id="an unknown type"),
    ],
)
def test_proof_if_the_server_sends_types(checkpoints: list[Checkpoint], proven: int | None) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5, requested_at_micros=REQUESTED))
    assert (found.epoch if found else None) == proven


@pytest.mark.parametrize(
    "checkpoints, proven",
    [
        pytest.param([taken(5), taken(6)], 6, id="begun after the stop"),
        pytest.param([taken(6, start=REQUESTED)], 6, id="begun at that moment"),
        pytest.param([taken(6, start=REQUESTED - 1)], None, id="begun before it"),
        pytest.param([taken(5)], None, id="known before"),
        pytest.param([taken(6, finished=False)], None, id="not finished"),
        pytest.param([taken(6), taken(7, finished=False)], None, id="the last one was cut short"),
    ],
)
def test_proof_if_the_server_sends_no_types(checkpoints: list[Checkpoint], proven: int | None) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5, requested_at_micros=REQUESTED))
    assert (found.epoch if found else None) == proven
    # Our own clock proves nothing; without the server's, there is no proof.
    assert checkpoint_of_stop(checkpoints, StopRequest(after_epoch=5)) is None


@pytest.mark.parametrize(
    "checkpoints, job, proven",
    [
        pytest.param([taken(5, "stopping")], JOB, 5, id="of the run that ended"),
        pytest.param(
            [taken(5, "stopping", start=REQUESTED - 51)], JOB, None, id="of the restart before the run"
        ),
        pytest.param([taken(5, "stopping")], replace(JOB, run_id=2), None, id="it may be the restart's"),
        pytest.param([taken(5, "stopping"), taken(6, "scheduled")], JOB, None, id="not the last one"),
        pytest.param([taken(5, "stopping", finished=False)], JOB, None, id="not finished"),
        pytest.param([taken(5, "scheduled")], JOB, None, id="of another type"),
        pytest.param([taken(5)], JOB, None, id="no types, no proof"),
        pytest.param([], JOB, None, id="none at all"),
        pytest.param([taken(5, "stopping")], replace(JOB, start_time_micros=None), None, id="it never ran"),
    ],
)
def test_proof_for_a_stopped_job(checkpoints: list[Checkpoint], job: Job, proven: int | None) -> None:
    found = checkpoint_of_stopped(checkpoints, job)
    assert (found.epoch if found else None) == proven


def test_a_gateways_clock_invalidates_no_checkpoint() -> None:
    """Whatever the date of the response, a checkpoint with a higher epoch than at the request began after it."""
    for ahead in (-10_000, 0, 10_000):
        request = StopRequest.after([taken(5)], REQUESTED + ahead, accepted=[taken(5)])
        assert checkpoint_of_stop([taken(5), taken(6)], request) == taken(6)
    # It began between the two lists: the clock decides, if there is no gateway.
    request = StopRequest.after([taken(5)], REQUESTED, accepted=[taken(5), taken(6)])
    assert checkpoint_of_stop([taken(6)], request) == taken(6)
    assert checkpoint_of_stop([taken(6, start=REQUESTED - 1)], request) is None
    assert checkpoint_of_stop([taken(6)], replace(request, requested_at_micros=None)) is None


RUNNING = replace(JOB, state="Running", run_id=3)


@pytest.mark.parametrize("kind", ["stopping", None])
def test_a_restarts_checkpoint_after_the_request_does_not_count(kind: str | None) -> None:
    request = StopRequest.after([taken(5, kind)], REQUESTED, accepted=[taken(5, kind)], job=RUNNING)
    stopped = replace(RUNNING, state="Stopped", run_id=4)
    assert checkpoint_of_stop([taken(5, kind), taken(6, kind)], request, stopped) is None
    assert checkpoint_of_stop([taken(6, kind), taken(7, kind)], request, stopped) == taken(7, kind)
    assert checkpoint_of_stop([taken(6, kind)], request, replace(stopped, run_id=3)) == taken(6, kind)


@pytest.mark.parametrize("kind", ["stopping", None])
def test_the_first_run_after_the_request_is_no_restart(kind: str | None) -> None:
    """It was created a moment ago, and still runs before it is stopped."""
    request = StopRequest.after([], REQUESTED, accepted=[], job=replace(RUNNING, state="Created", run_id=0))
    stopped = replace(RUNNING, state="Stopped", run_id=1)
    assert checkpoint_of_stop([taken(1, kind)], request, stopped) == taken(1, kind)
    assert checkpoint_of_stop([taken(1, kind)], request, replace(stopped, run_id=2)) is None


def test_proof_for_a_stop_during_another_change() -> None:
    stopped = replace(RUNNING, state="Stopped", run_id=4)
    # The restart's checkpoint exists already, and its run precedes the stop.
    request = StopRequest.after([taken(5, "stopping")], job=replace(RUNNING, state="Restarting"))
    assert checkpoint_of_stop([taken(5, "stopping"), taken(6, "stopping")], request, stopped) == taken(
        6, "stopping"
    )
    assert checkpoint_of_stop([taken(5, "stopping")], request, stopped) is None
    # An earlier stop is in progress: its checkpoint counts for this one, too.
    stopping = replace(RUNNING, state="CheckpointStopping", running_desired=False)
    under_way = taken(6, "stopping", finished=False)
    request = StopRequest.after([taken(5, "scheduled"), under_way], job=stopping)
    assert checkpoint_of_stop([taken(6, "stopping")], request, replace(stopped, run_id=3)) == taken(
        6, "stopping"
    )
    request = StopRequest.after([taken(5, "scheduled"), under_way], job=RUNNING)
    assert checkpoint_of_stop([taken(6, "stopping")], request, replace(stopped, run_id=3)) is None


checkpoints_of = st.lists(
    st.builds(
        taken,
        st.integers(1, 12),
        st.sampled_from([None, "scheduled", "stopping", "other"]),
        start=st.integers(REQUESTED - 5, REQUESTED + 5),
        finished=st.booleans(),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(
    checkpoints=checkpoints_of,
    after=st.integers(0, 12),
    requested_at=st.one_of(st.none(), st.just(REQUESTED)),
)
def test_a_proven_checkpoint_is_finished_the_last_one_and_newer(
    checkpoints: list[Checkpoint], after: int, requested_at: int | None
) -> None:
    found = checkpoint_of_stop(checkpoints, StopRequest(after_epoch=after, requested_at_micros=requested_at))
    if found is None:
        return
    assert found.is_finished
    assert found.epoch > after
    assert found.epoch == max(each.epoch for each in checkpoints)
    assert found.checkpoint_type in ("stopping", None)
    if found.checkpoint_type is None:
        assert requested_at is not None
        assert found.start_time_micros >= requested_at


# -- recordings of real servers ------------------------------------------------------------------------------------


def _lists(version: str, name: str, end: str) -> Iterator[tuple[str, Any]]:
    for row in json.loads((RECORDED / version / f"{name}.json").read_text()):
        body = row["response"].get("body")
        if row["request"]["path"].endswith(end) and isinstance(body, dict) and "data" in body:
            yield row["note"], [Checkpoint.from_api(item) for item in body["data"]]


@pytest.mark.parametrize("version", ["0.15.0", "0.16-dev"])
def test_a_recorded_stop_is_proven(version: str) -> None:
    lists = dict(_lists(version, "checkpoints_of_restart_rescale_stop", "/checkpoints"))
    before, after = lists["after a rescale"], lists["after the stop with checkpoint"]
    requested_at = max(each.finish_time_micros or 0 for each in before)
    found = checkpoint_of_stop(after, StopRequest.after(before, requested_at))
    assert found is not None
    assert found.epoch == 4


@pytest.mark.parametrize("version", ["0.15.0", "0.16-dev"])
def test_recorded_restarts_and_rescales_prove_no_later_stop(version: str) -> None:
    lists = dict(_lists(version, "checkpoints_of_restart_rescale_stop", "/checkpoints"))
    for note in ("after a restart", "after a rescale", "after the stop with checkpoint"):
        seen = lists[note]
        requested_at = max(each.finish_time_micros or 0 for each in seen)
        assert checkpoint_of_stop(seen, StopRequest.after(seen, requested_at)) is None
    # The immediate stop took none, and that of the previous stop does not count.
    last = lists["resumed, then stopped immediately"]
    stopped = lists["after the stop with checkpoint"]
    requested_at = max(each.finish_time_micros or 0 for each in stopped)
    assert checkpoint_of_stop(last, StopRequest.after(stopped, requested_at)) is None


@pytest.mark.parametrize("version", ["0.15.0", "0.16-dev"])
def test_a_recorded_force_stop_after_a_restart_is_no_proof(version: str) -> None:
    notes = json.loads((RECORDED / version / "found_by_trying.json").read_text())
    body = next(row for row in notes if row["note"] == "job after restart and force stop")["response"]["body"]
    job = Job.from_api(body["data"][0])
    lists = dict(_lists(version, "found_by_trying", "/checkpoints"))
    seen = lists["its checkpoints: the newest stopping one is the restart's"]
    assert job.run_id == 3
    # Its start_time is that of the previous resume, so every checkpoint here is later.
    for last in (len(seen), len(seen) - 1, len(seen) - 2):
        assert checkpoint_of_stopped(seen[:last], job) is None
