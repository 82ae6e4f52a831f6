"""What happens to a pipeline of an earlier try, in each state that it may be in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoOwnershipError,
)
from airflow_provider_arroyo.pipelines.choices import Action
from tests.pipelines.bench import OWNER, SPEC, Bench, open_bench
from tests.support import BOUNDED, NOT_TERMINAL


@dataclass
class Found:
    """The pipeline that a try finds.

    :param steps: bring it there from Running, as in :meth:`Bench.change`.
    :param state: its state.
    :param action: the action of an adoption.
    :param before: the state of the job before a request; None if none is sent.
    """

    steps: tuple[str | float, ...]
    state: str
    action: Action
    before: str | None


STATES = {
    "running": Found((), "Running", Action.ADOPTED, None),
    "stop requested": Found(("stop",), "Running", Action.RESUMED, "Stopped"),
    "stopping": Found(("stop", "CheckpointStopping"), "CheckpointStopping", Action.RESUMED, "Stopped"),
    "stopped": Found(("stop", 5), "Stopped", Action.RESUMED, "Stopped"),
    "resuming": Found(("stop", 5, "resume"), "Stopped", Action.RESUMED, "Stopped"),
    "failing": Found(("fail", "Failing"), "Failing", Action.RESTARTED, "Failed"),
    "failed": Found(("fail", 10), "Failed", Action.RESTARTED, "Failed"),
    "failed, then stopped": Found(("fail", 10, "stop"), "Failed", Action.RESTARTED, "Failed"),
    "restarting": Found(("restart", "Restarting"), "Restarting", Action.ADOPTED, None),
    "in an unknown state": Found(("hibernate", 0), "Hibernating", Action.ADOPTED, None),
}


def _arrange(bench: Bench, name: str) -> tuple[Found, str]:
    if name == "failing" and bench.version == "0.15":
        pytest.skip("0.15 goes from Running to Failed directly")
    found, pipeline_id = STATES[name], bench.submit().pipeline.id
    bench.change(pipeline_id, 5, *found.steps)
    assert bench.sandbox.state(pipeline_id) == found.state
    bench.sandbox.requests.clear()
    return found, pipeline_id


@pytest.mark.parametrize("name", STATES)
def test_on_existing_adopt(bench: Bench, name: str) -> None:
    found, pipeline_id = _arrange(bench, name)
    submitted = bench.submit(try_number=2)
    assert (submitted.pipeline.id, submitted.action) == (pipeline_id, found.action)
    before = submitted.before
    assert (before.state if before else None) == found.before
    assert bench.only_pipeline().id == pipeline_id
    job = bench.job(pipeline_id)
    assert job.state == "Running"
    assert before is None or job.run_id == before.run_id + 1
    assert bench.sandbox.requests.count("DELETE") == 0


@pytest.mark.parametrize("name", STATES)
def test_on_existing_replace(bench: Bench, name: str) -> None:
    _, pipeline_id = _arrange(bench, name)
    job_id = bench.job(pipeline_id).id
    submitted = bench.submit(try_number=2, on_existing="replace")
    assert (submitted.action, submitted.before) == (Action.REPLACED, None)
    assert bench.only_pipeline().id == submitted.pipeline.id
    assert bench.job(submitted.pipeline.id).id != job_id
    warning = f"Replacing pipeline {SPEC.name} of an earlier try (id {pipeline_id}); its state is lost"
    assert warning in bench.lines.text("WARNING")
    if name == "resuming":
        # It is Stopped and about to start: if it were deleted now, it could still start.
        methods = [request.method for request in bench.sandbox.requests]
        assert methods.index("PATCH") < methods.index("DELETE")


@pytest.mark.parametrize("name", STATES)
def test_on_existing_fail(bench: Bench, name: str) -> None:
    found, pipeline_id = _arrange(bench, name)
    with pytest.raises(ArroyoOwnershipError) as caught:
        bench.submit(try_number=2, on_existing="fail")
    assert f"({pipeline_id}) was created by an earlier try of this task and is " in str(caught.value)
    if name not in ("stopping", "restarting", "failing"):
        # These have changed their state in the meantime.
        assert f" is {found.state}. It was not touched, because of on_existing='fail'" in str(caught.value)
    assert "It was not touched" in str(caught.value)
    # A PUT is refused because the id exists, or by 0.15, which has no PUT.
    assert {request.method for request in bench.sandbox.requests} <= {"GET", "PUT"}


def test_a_finished_pipeline_is_adopted_unchanged(bench: Bench) -> None:
    spec = replace(SPEC, query=BOUNDED)
    pipeline_id = bench.submit(spec).pipeline.id
    bench.sandbox.advance(10)
    assert bench.sandbox.state(pipeline_id) == "Finished"
    submitted = bench.submit(spec, try_number=2)
    assert (submitted.pipeline.id, submitted.action, submitted.before) == (pipeline_id, Action.ADOPTED, None)
    replaced = bench.submit(spec, try_number=3, on_existing="replace")
    assert replaced.action is Action.REPLACED
    assert len(bench.pipelines()) == 1


def test_an_externally_deleted_pipeline_is_created_again(bench: Bench) -> None:
    bench.sandbox.faults.delete(bench.submit().pipeline.id)
    assert bench.submit(try_number=2).action is Action.CREATED
    bench.only_pipeline()


def test_a_pipeline_that_never_stops_is_an_error(bench: Bench) -> None:
    _, pipeline_id = _arrange(bench, "running")
    bench.sandbox.faults.controller_away()
    bench.change(pipeline_id, "stop")
    began = bench.now()
    for on_existing in ("adopt", "replace"):
        with pytest.raises(ArroyoError, match=r"has not stopped within 120 s; it is Running.*controller"):
            bench.submit(try_number=2, on_existing=on_existing)
    assert bench.now() - began < 300
    bench.sandbox.faults.controller_back()
    assert bench.submit(try_number=3).action is Action.RESUMED
    bench.only_pipeline()


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_restart_whose_response_is_lost_happens_once(bench: Bench, after_effect: bool) -> None:
    _, pipeline_id = _arrange(bench, "failed")
    run_id = bench.job(pipeline_id).run_id
    bench.sandbox.faults.reset(method="POST", path="*/restart", after_effect=after_effect)
    assert bench.submit(try_number=2).action is Action.RESTARTED
    bench.sandbox.advance(5)
    job = bench.job(pipeline_id)
    assert (job.state, job.run_id) == ("Running", run_id + 1)
    assert bench.sandbox.requests.count("POST", "*/restart") == (1 if after_effect else 2)


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_restart_with_status_500_is_checked_and_not_repeated(bench: Bench, after_effect: bool) -> None:
    _arrange(bench, "failed")
    bench.sandbox.faults.status(500, method="POST", path="*/restart", after_effect=after_effect)
    if after_effect:
        assert bench.submit(try_number=2).action is Action.RESTARTED
    else:
        with pytest.raises(ArroyoApiError, match="failed internally"):
            bench.submit(try_number=2)
    assert bench.sandbox.requests.count("POST", "*/restart") == 1


def test_a_restart_that_never_gets_a_response_is_an_error(bench: Bench) -> None:
    _arrange(bench, "failed")
    bench.sandbox.faults.reset(method="POST", path="*/restart", times=None)
    with pytest.raises(ArroyoConnectionError):
        bench.submit(try_number=2)
    bench.sandbox.faults.clear()
    assert bench.submit(try_number=3).action is Action.RESTARTED
    bench.only_pipeline()


def test_a_refused_delete_is_reported(bench_016: Bench) -> None:
    _arrange(bench_016, "running")
    bench_016.sandbox.faults.status(400, method="DELETE", error=NOT_TERMINAL, times=None)
    with pytest.raises(ArroyoApiError, match=NOT_TERMINAL):
        bench_016.submit(try_number=2, on_existing="replace")


def test_a_pipeline_without_a_job_is_adopted_unchanged(bench_016: Bench) -> None:
    pipeline_id = bench_016.submit().pipeline.id
    no_jobs = {"body": '{"data": []}', "content_type": "application/json"}
    bench_016.sandbox.faults.not_json(**no_jobs, path="*/jobs", times=None)
    again = bench_016.submit(try_number=2)
    assert (again.pipeline.id, again.action, again.before) == (pipeline_id, Action.ADOPTED, None)
    with pytest.raises(ArroyoOwnershipError, match="is without a job"):
        bench_016.submit(try_number=2, on_existing="fail")


def test_on_existing_replace_works_in_worker_mode() -> None:
    with open_bench("0.16", job_controller="worker") as bench:
        _arrange(bench, "running")
        assert bench.submit(try_number=2, on_existing="replace").action is Action.REPLACED
        assert bench.job(bench.only_pipeline().id).state == JobState.RUNNING


def test_pipelines_of_other_owners_are_left_alone(bench: Bench) -> None:
    others = [replace(OWNER, run_id=f"manual__{number}") for number in range(3)]
    kept = {bench.submit(owner=owner).pipeline.id for owner in others}
    bench.submit()
    replaced = bench.submit(try_number=2, on_existing="replace")
    assert len(kept) == 3
    assert replaced.pipeline.id not in kept
    assert bench.running() == {*kept, replaced.pipeline.id}
