"""What becomes of a pipeline that an earlier try made, in each state that it may be found in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.existing import How
from airflow_provider_arroyo.arroyo.models import JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoConnectionError, ArroyoError, ArroyoOwnershipError
from tests.arroyo_core.bench import OWNER, SPEC, Bench, bench
from tests.support import BOUNDED

T = TypeVar("T")


@dataclass
class Found:
    """A pipeline as the try finds it.

    :param arrange: brings it there from running.
    :param shown: the state that it is found in.
    :param how: how it is adopted.
    :param before: the state of the job before it was asked for something; None: nothing is asked.
    """

    arrange: Callable[[Bench, str], None]
    shown: str
    how: How
    before: str | None


def _leave(bench: Bench, pipeline_id: str) -> None:
    pass


def _stop_asked(bench: Bench, pipeline_id: str) -> None:
    bench.client.call(api.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT))


def _on_its_way_down(bench: Bench, pipeline_id: str) -> None:
    _stop_asked(bench, pipeline_id)
    _until(bench, pipeline_id, "CheckpointStopping")


def _stopped(bench: Bench, pipeline_id: str) -> None:
    _stop_asked(bench, pipeline_id)
    bench.sandbox.advance(5)


def _resuming(bench: Bench, pipeline_id: str) -> None:
    _stopped(bench, pipeline_id)
    bench.client.call(api.patch_pipeline(pipeline_id, stop=StopMode.NONE))


def _failing(bench: Bench, pipeline_id: str) -> None:
    bench.sandbox.faults.fail(pipeline_id)
    _until(bench, pipeline_id, "Failing")


def _failed(bench: Bench, pipeline_id: str) -> None:
    bench.sandbox.faults.fail(pipeline_id)
    bench.sandbox.advance(10)


def _failed_and_stopped(bench: Bench, pipeline_id: str) -> None:
    _failed(bench, pipeline_id)
    _stop_asked(bench, pipeline_id)


def _restarting(bench: Bench, pipeline_id: str) -> None:
    bench.client.call(api.restart_pipeline(pipeline_id))
    _until(bench, pipeline_id, "Restarting")


def _unknown(bench: Bench, pipeline_id: str) -> None:
    bench.sandbox.faults.show_state(pipeline_id, "Hibernating", seconds=5)
    bench.sandbox.advance(0)


def _until(bench: Bench, pipeline_id: str, state: str) -> None:
    for _ in range(1000):
        if bench.sandbox.state(pipeline_id) == state:
            return
        bench.sandbox.advance(0.01)
    pytest.fail(f"never {state}")


STATES = {
    "running": Found(_leave, "Running", How.ADOPTED, None),
    "asked to stop": Found(_stop_asked, "Running", How.RESUMED, "Stopped"),
    "stopping": Found(_on_its_way_down, "CheckpointStopping", How.RESUMED, "Stopped"),
    "stopped": Found(_stopped, "Stopped", How.RESUMED, "Stopped"),
    "resuming": Found(_resuming, "Stopped", How.RESUMED, "Stopped"),
    "failing": Found(_failing, "Failing", How.RESTARTED, "Failed"),
    "failed": Found(_failed, "Failed", How.RESTARTED, "Failed"),
    "failed, then stopped": Found(_failed_and_stopped, "Failed", How.RESTARTED, "Failed"),
    "restarting": Found(_restarting, "Restarting", How.ADOPTED, None),
    "of an unknown state": Found(_unknown, "Hibernating", How.ADOPTED, None),
}


def _arranged(bench: Bench, name: str) -> tuple[Found, str]:
    found = STATES[name]
    if name == "failing" and bench.version == "0.15":
        pytest.skip("0.15 goes from Running to Failed directly")
    pipeline_id = bench.submit().pipeline.id
    bench.sandbox.advance(5)
    found.arrange(bench, pipeline_id)
    assert bench.sandbox.state(pipeline_id) == found.shown
    bench.sandbox.requests.clear()
    return found, pipeline_id


@pytest.mark.parametrize("name", STATES)
def test_adopt(both: Bench, name: str) -> None:
    found, pipeline_id = _arranged(both, name)
    submitted = both.submit(try_number=2)
    assert (submitted.pipeline.id, submitted.how) == (pipeline_id, found.how)
    before = submitted.before
    assert (before.state if before else None) == found.before
    assert both.the_only_one().id == pipeline_id
    job = both.job(pipeline_id)
    assert job.state == "Running"
    if before is not None:
        assert job.run_id == before.run_id + 1
    assert both.sandbox.requests.count("DELETE") == 0


@pytest.mark.parametrize("name", STATES)
def test_replace(both: Bench, name: str) -> None:
    _, pipeline_id = _arranged(both, name)
    job_id = both.job(pipeline_id).id
    submitted = both.submit(try_number=2, on_existing="replace")
    assert (submitted.how, submitted.before) == (How.REPLACED, None)
    assert both.the_only_one().id == submitted.pipeline.id
    assert both.job(submitted.pipeline.id).id != job_id
    assert "is replaced; its state is lost" in both.lines.text("WARNING")
    if name == "resuming":
        # It is Stopped, and on its way up: deleted like that, it could start all the same.
        methods = [request.method for request in both.sandbox.requests]
        assert methods.index("PATCH") < methods.index("DELETE")


@pytest.mark.parametrize("name", STATES)
def test_fail(both: Bench, name: str) -> None:
    found, pipeline_id = _arranged(both, name)
    with pytest.raises(ArroyoOwnershipError) as caught:
        both.submit(try_number=2, on_existing="fail")
    assert f"({pipeline_id}) was made by an earlier try of this task and is " in str(caught.value)
    if name not in ("stopping", "restarting", "failing"):
        # The others have moved on by then.
        assert f" is {found.shown}; on_existing='fail' forbids" in str(caught.value)
    assert "It was not touched" in str(caught.value)
    # A create is refused by the id that is taken, or by 0.15, which has no PUT.
    assert {request.method for request in both.sandbox.requests} <= {"GET", "PUT"}


def test_finished_one_is_taken_as_it_is(both: Bench) -> None:
    spec = replace(SPEC, query=BOUNDED)
    pipeline_id = both.submit(spec).pipeline.id
    both.sandbox.advance(10)
    assert both.sandbox.state(pipeline_id) == "Finished"
    submitted = both.submit(spec, try_number=2)
    assert (submitted.pipeline.id, submitted.how, submitted.before) == (pipeline_id, How.ADOPTED, None)
    replaced = both.submit(spec, try_number=3, on_existing="replace")
    assert replaced.how is How.REPLACED
    assert len(both.pipelines()) == 1


def test_one_that_is_deleted_by_somebody_is_made_again(both: Bench) -> None:
    both.sandbox.faults.delete(both.submit().pipeline.id)
    assert both.submit(try_number=2).how is How.CREATED
    both.the_only_one()


def test_one_that_never_comes_to_rest(both: Bench) -> None:
    pipeline_id = both.submit().pipeline.id
    both.sandbox.advance(5)
    both.sandbox.faults.controller_away()
    _stop_asked(both, pipeline_id)
    began = both.now()
    for on_existing in ("adopt", "replace"):
        with pytest.raises(ArroyoError, match=r"has not come to rest in 120 s; it is Running.*controller"):
            both.submit(try_number=2, on_existing=on_existing)
    assert both.now() - began < 300
    both.sandbox.faults.controller_back()
    assert both.submit(try_number=3).how is How.RESUMED
    both.the_only_one()


@pytest.mark.parametrize("lost", ["before", "after"])
def test_restart_whose_answer_is_lost_restarts_once(both: Bench, lost: str) -> None:
    _, pipeline_id = _arranged(both, "failed")
    run_id = both.job(pipeline_id).run_id
    both.sandbox.faults.reset(method="POST", path="*/restart", after_effect=lost == "after")
    assert both.submit(try_number=2).how is How.RESTARTED
    both.sandbox.advance(5)
    job = both.job(pipeline_id)
    assert (job.state, job.run_id) == ("Running", run_id + 1)
    assert both.sandbox.requests.count("POST", "*/restart") == (1 if lost == "after" else 2)


def test_restart_that_is_never_answered(both: Bench) -> None:
    _arranged(both, "failed")
    both.sandbox.faults.reset(method="POST", path="*/restart", times=None)
    with pytest.raises(ArroyoConnectionError):
        both.submit(try_number=2)
    both.sandbox.faults.clear()
    assert both.submit(try_number=3).how is How.RESTARTED
    both.the_only_one()


def test_half_a_pipeline_without_a_job_is_left_as_it_is(new: Bench) -> None:
    submitted = new.submit()

    class Jobless:
        def call(self, call: api.Call[T]) -> T:
            answer = new.client.call(call)
            return () if call.path.endswith("/jobs") else answer  # type: ignore[return-value]  # of that call

    again = new.submit(try_number=2, caller=Jobless())
    assert (again.pipeline.id, again.how, again.before) == (submitted.pipeline.id, How.ADOPTED, None)
    with pytest.raises(ArroyoOwnershipError, match="is without a job"):
        new.submit(try_number=2, caller=Jobless(), on_existing="fail")


def test_replaced_one_in_worker_mode() -> None:
    with bench("0.16", job_controller="worker") as made:
        made.submit()
        made.sandbox.advance(5)
        assert made.submit(try_number=2, on_existing="replace").how is How.REPLACED
        assert made.job(made.the_only_one().id).state == JobState.RUNNING


def test_tries_of_other_owners_are_left_alone(both: Bench) -> None:
    others = [replace(OWNER, run_id=f"manual__{number}") for number in range(3)]
    kept = {both.submit(owner=owner).pipeline.id for owner in others}
    both.submit()
    both.submit(try_number=2, on_existing="replace")
    running = {pipeline.id for pipeline in both.running()}
    assert kept < running
    assert len(running) == 4
