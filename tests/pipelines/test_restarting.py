"""Changes that Arroyo accepts at the wrong moment: it is stuck in them for ever, or drops them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import requests

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.pipelines.change import Change, still_different
from airflow_provider_arroyo.pipelines.change_notes import ChangeNotes
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.restarting import StuckRestart
from tests.client.conftest import PIPELINE
from tests.client.server import Reply, Server, reply
from tests.pipelines.bench import Bench, open_bench
from tests.support import ENDLESS, ONE_ENDS

FORCED = "The restart is forced"


@pytest.fixture(params=["0.15", "0.16"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench of each version, with a pipeline that takes a checkpoint every second."""
    with open_bench(request.param, seconds_per_request=0.01, allowed_restarts=5) as opened:
        opened.client.create_pipeline(name="orders", query=ENDLESS, checkpoint_interval=timedelta(seconds=1))
        opened.change(pipeline_id(opened), "Running", 3)
        yield opened


def pipeline_id(bench: Bench) -> str:
    return bench.pipelines()[0].id


def changing(bench: Bench, *, seconds: float = 60.0) -> Change:
    client = bench.client.with_limits(deadline=bench.now() + seconds)
    return Change(client, client.get_pipeline(pipeline_id(bench)), notes=ChangeNotes(None), clock=bench.now)


def baseline(job: Job, began: float) -> object:
    """Return what is equal to the baseline of a job that was taken within a second."""
    return Baseline.of(job, requested_at=pytest.approx(began, abs=1))  # type: ignore[arg-type]  # of a float


def get_stuck(bench: Bench) -> str:
    """Restart the pipeline until that meets a checkpoint, and return its id."""
    stuck = pipeline_id(bench)
    for _ in range(60):
        bench.client.restart_pipeline(stuck)
        bench.sandbox.advance(2.07)
        if bench.sandbox.state(stuck) == JobState.RESTARTING:
            bench.sandbox.advance(60)
            assert bench.sandbox.state(stuck) == JobState.RESTARTING
            return stuck
    raise AssertionError("no restart met a checkpoint")


def restart(bench: Bench, number: int) -> Action:
    return changing(bench).restart().action


def new_environment(bench: Bench, number: int) -> Action:
    return changing(bench).update({"env_vars": {"NUMBER": str(number)}}).action


def adopted_with_a_patch(bench: Bench, number: int) -> Action:
    job = bench.job(pipeline_id(bench))
    existing = Existing(bench.client)
    return existing.adopt(pipeline_id(bench), job, patch={"env_vars": {"NUMBER": str(number)}})[0]


@pytest.mark.parametrize(
    "bench, request_it",
    [("0.15", restart), ("0.16", restart), ("0.16", new_environment), ("0.16", adopted_with_a_patch)],
    indirect=["bench"],
)
def test_each_requested_restart_results_in_a_new_run(
    request_it: Callable[[Bench, int], Action], bench: Bench
) -> None:
    for number in range(40):
        before = bench.job(pipeline_id(bench))
        assert request_it(bench, number) in (Action.RESTARTED, Action.UPDATED)
        bench.change(before_id := pipeline_id(bench), "Running", 1.3 + number % 10 / 10)
        job = bench.job(before_id)
        assert (job.state, job.run_id) == (JobState.RUNNING, before.run_id + 1)
    assert 1 <= bench.lines.text("WARNING").count(FORCED) < 30


def forced_restarts(list_checkpoints: Callable[[float], Reply]) -> tuple[list[float], float]:
    """Watch a restart that never ends, from 1,000 s on; return when it was forced, and the time at the end.

    :param list_checkpoints: returns the response about its checkpoints at a time.
    """
    now, restarts = 1000.0, list[float]()
    job = {"id": "job_1", "state": "Restarting", "run_id": 1, "running_desired": True, "created_at": 1}

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def answer(target: str) -> Reply:
        if target.endswith("/restart"):
            restarts.append(now)
            return reply(PIPELINE)
        return reply({"data": [job]}) if target.endswith("/jobs") else list_checkpoints(now)

    with (
        Server(answer=answer) as server,
        ArroyoClient(ClientSettings(base_url=server.url()), sleep=sleep, clock=lambda: now) as client,
    ):
        Existing(client).see_restart("pl_1", Job(id="job_1", state="Running", run_id=1))
    return restarts, now


@pytest.mark.parametrize(
    "checkpoints, is_forced",
    [
        ([(1, None, True)], True),
        ([(1, "scheduled", True)], True),
        ([(1, "stopping", True), (2, "scheduled", True)], True),
        # In progress: the final one, or one that has yet to finish.
        ([(1, None, True), (2, None, False)], False),
        ([(1, "scheduled", True), (2, "stopping", False)], False),
        ([(1, "scheduled", False)], False),
        # Its tasks take their time to end.
        ([(2, "stopping", True)], False),
        ([], False),
        # They cannot be read.
        (None, False),
    ],
)
def test_a_restart_is_forced_only_if_no_checkpoint_is_in_progress(
    checkpoints: list[tuple[int, str | None, bool]] | None, is_forced: bool
) -> None:
    def list_checkpoints(_now: float) -> Reply:
        if checkpoints is None:
            return reply({"error": "Something went wrong"}, 500)
        listed = [
            {"epoch": epoch, "start_time": 1, "finish_time": 2 if is_done else None, "checkpoint_type": kind}
            for epoch, kind, is_done in checkpoints
        ]
        for one in listed:
            if one["checkpoint_type"] is None:
                del one["checkpoint_type"]
        return reply({"data": listed})

    restarts, now = forced_restarts(list_checkpoints)
    assert len(restarts) == is_forced
    assert now < 1135


def test_a_restart_that_met_a_checkpoint_of_a_minute_is_forced_after_it() -> None:
    def list_checkpoints(now: float) -> Reply:
        return reply({"data": [{"epoch": 7, "start_time": 1, "finish_time": 2 if now >= 1060 else None}]})

    (forced_at,), _ = forced_restarts(list_checkpoints)
    assert 1070 <= forced_at < 1075


@pytest.mark.parametrize("run_id, epoch, is_forced", [(1, 7, True), (2, 7, False), (1, 8, False)])
def test_only_one_restart_without_a_checkpoint_in_between_counts_as_stuck(
    run_id: int, epoch: int, is_forced: bool
) -> None:
    """During an outage, the one that was seen before it may have ended, and another one begun."""
    now, last, restarts = 1000.0, 7, list[str]()

    def answer(target: str) -> Reply:
        if target.endswith("/restart"):
            restarts.append(target)
            return reply(PIPELINE)
        return reply({"data": [{"epoch": last, "start_time": 1, "finish_time": 2}]})

    with (
        Server(answer=answer) as server,
        ArroyoClient(ClientSettings(base_url=server.url()), clock=lambda: now) as client,
    ):
        stuck = StuckRestart(client, "pl_1")
        job = Job(id="job_1", state="Restarting", run_id=1, running_desired=True)
        assert stuck.poll(job)
        now, last = now + 60, epoch
        assert stuck.poll(replace(job, run_id=run_id)) is not is_forced
    assert len(restarts) == is_forced


def test_a_restart_that_is_to_stop_is_not_forced(bench: Bench) -> None:
    """The restart would come first, and the pipeline run again for a moment."""
    stuck = StuckRestart(bench.client, get_stuck(bench))
    job = replace(bench.job(pipeline_id(bench)), running_desired=False)
    for _ in range(3):
        stuck.poll(job)
        bench.sandbox.advance(5)
    assert FORCED not in bench.lines.text()


def test_a_restart_that_is_stuck_already_is_freed_by_the_next(bench: Bench) -> None:
    """Even if someone else requested it."""
    stuck = get_stuck(bench)
    before = bench.job(stuck)
    assert changing(bench).restart().action is Action.RESTARTED
    bench.change(stuck, "Running", 1)
    assert bench.job(stuck).run_id == before.run_id + 2  # it was freed, and then restarted
    assert bench.lines.text("WARNING").count(FORCED) >= 1


@pytest.mark.parametrize(
    "bench, ignore_state", [("0.15", False), ("0.16", False), ("0.16", True)], indirect=["bench"]
)
def test_one_that_is_restarting_is_forced_at_once_where_that_is_wanted(
    ignore_state: bool, bench: Bench
) -> None:
    stuck = get_stuck(bench)
    before, began = bench.job(stuck), bench.now()
    changed = changing(bench).restart(force=True, ignore_state=ignore_state)
    assert (changed.action, changed.before) == (Action.RESTARTED, baseline(before, began))
    assert bench.now() - began < 1
    bench.change(stuck, "Running", 1)
    assert bench.job(stuck).run_id == before.run_id + 1


def test_a_checkpoint_that_never_finishes_is_left_to_the_user(bench: Bench) -> None:
    """Forcing the restart would drop what it has of the state."""
    stuck = pipeline_id(bench)
    bench.sandbox.faults.kafka_away(stuck)
    bench.change(stuck, 2)
    changing(bench).restart()
    assert bench.sandbox.state(stuck) == JobState.RESTARTING
    asks = r"it is Restarting .* The change was not requested, .* or restart it with force=True"
    with pytest.raises(ArroyoError, match=asks):
        changing(bench).restart()
    assert FORCED not in bench.lines.text()
    changing(bench).restart(force=True)
    bench.change(stuck, "Running")


def test_a_restart_that_is_to_stop_needs_no_force(bench: Bench) -> None:
    """It is not forced, so that the advice would not help."""
    bench.sandbox.faults.show_state(pipeline_id(bench), "Restarting")
    bench.client.patch_pipeline(pipeline_id(bench), stop="checkpoint")
    with pytest.raises(ArroyoError, match="or stop the pipeline first, with mode='force'"):
        changing(bench).restart(force=True)


# -- a restart without state on a server that requires a stop first ------------------------------------------------


@pytest.fixture
def worker_bench() -> Iterator[Bench]:
    with open_bench("0.16", job_controller="worker") as opened:
        yield opened


@pytest.mark.parametrize(
    "state, force, mode",
    [
        ("Running", False, "checkpoint"),
        ("Running", True, "immediate"),
        ("Restarting", True, "immediate"),
    ],
)
def test_the_stop_before_it_takes_no_checkpoint_with_force(
    state: str, force: bool, mode: str, worker_bench: Bench
) -> None:
    orders = worker_bench.submit().pipeline.id
    worker_bench.change(orders, "Running", 3)
    before = worker_bench.job(orders)
    worker_bench.sandbox.faults.show_state(orders, state, seconds=1)
    changing(worker_bench).restart(force=force, ignore_state=True)
    assert [request.json for request in worker_bench.sandbox.requests.find("PATCH")] == [{"stop": mode}]
    worker_bench.change(orders, "Running")
    assert worker_bench.job(orders).id != before.id


def test_the_error_after_that_stop_says_how_to_start_it(worker_bench: Bench) -> None:
    orders = worker_bench.submit().pipeline.id
    worker_bench.change(orders, "Running", 3)

    def before(request: requests.PreparedRequest) -> None:
        if request.method == "PATCH":
            worker_bench.sandbox.faults.status(500, method="POST", path="*/restart", times=None)

    client = worker_bench.new_client(before).with_limits(deadline=worker_bench.now() + 60)
    change = Change(client, client.get_pipeline(orders), notes=ChangeNotes(None), clock=worker_bench.now)
    with pytest.raises(ArroyoError, match="was asked to stop, which a restart without state req") as caught:
        change.restart(ignore_state=True)
    assert f"ArroyoRestartPipelineOperator(pipeline_id={orders!r}, ignore_state=True)" in str(caught.value)
    assert worker_bench.sandbox.state(orders) == JobState.STOPPED
    worker_bench.sandbox.faults.clear()
    assert changing(worker_bench).restart(ignore_state=True).action is Action.RESTARTED
    assert worker_bench.running() == {orders}


def test_one_that_is_deleted_during_that_stop_cannot_be_started(worker_bench: Bench) -> None:
    orders = worker_bench.submit().pipeline.id
    worker_bench.change(orders, "Running", 3)

    def before(request: requests.PreparedRequest) -> None:
        if request.method == "PATCH":
            worker_bench.sandbox.faults.delete(orders)

    client = worker_bench.new_client(before).with_limits(deadline=worker_bench.now() + 60)
    change = Change(client, client.get_pipeline(orders), notes=ChangeNotes(None), clock=worker_bench.now)
    with pytest.raises(ArroyoNotFoundError) as caught:
        change.restart(ignore_state=True)
    assert "was not started again" not in str(caught.value)
    assert change.left_stopped is None


def test_one_that_finishes_during_that_stop_is_an_error_that_says_so(worker_bench: Bench) -> None:
    worker_bench.client.create_pipeline(name="orders", query=ONE_ENDS)
    worker_bench.change(pipeline_id(worker_bench), "Finishing")
    worker_bench.sandbox.faults.show_state(pipeline_id(worker_bench), "Running", seconds=1)
    with pytest.raises(ArroyoError, match="has finished while it was stopped, which") as caught:
        changing(worker_bench).restart(ignore_state=True)
    assert caught.value.is_fatal
    assert "Nothing was changed" not in str(caught.value)


def test_a_stop_whose_checkpoint_never_finishes_does_without(bench: Bench) -> None:
    """Arroyo waits for it for ever. The pipeline is to be deleted, or does not work anyway."""
    orders = pipeline_id(bench)
    bench.sandbox.faults.kafka_away(orders)
    bench.sandbox.advance(2)
    bench.client.patch_pipeline(orders, stop="checkpoint")
    bench.sandbox.advance(600)
    assert bench.sandbox.state(orders) == JobState.CHECKPOINT_STOPPING
    began = bench.now()
    Existing(bench.client).stop(orders)
    assert bench.sandbox.state(orders) == JobState.STOPPED
    assert 115 < bench.now() - began < 135
    said = f"Pipeline {orders!r} has not finished its final checkpoint within 2 min; it is stopped without it"
    assert bench.lines.text("WARNING") == said


def test_a_stop_ends_a_restart_that_is_stuck(bench: Bench) -> None:
    stuck = get_stuck(bench)
    Existing(bench.client).stop(stuck)
    assert bench.sandbox.state(stuck) == JobState.STOPPED


# -- a parallelism that is not in effect -------------------------------------------------------------------------


def test_a_parallelism_that_arroyo_dropped_is_applied_by_a_restart(bench: Bench) -> None:
    """It was requested between two runs: the server has it, and the pipeline runs without it."""
    dropped = bench.sandbox.engine.store.job_of(pipeline_id(bench))
    assert dropped is not None
    dropped.tasks = 1
    bench.sandbox.engine.touch(dropped)
    assert still_different(bench.client, dropped.pipeline.id, {"parallelism": 1}) == ("parallelism",)
    assert still_different(bench.client, dropped.pipeline.id, {"checkpoint_interval": None}) == ()
    before, began = bench.job(dropped.pipeline.id), bench.now()
    changed = changing(bench).update({"parallelism": 1})
    assert (changed.action, changed.must_run) == (Action.UPDATED, True)
    assert changed.before == baseline(before, began)
    assert "it runs 1 tasks instead of 3" in bench.lines.text("WARNING")
    bench.change(before_id := dropped.pipeline.id, "Running", 1)
    assert bench.job(before_id).run_id == before.run_id + 1
    assert still_different(bench.client, before_id, {"parallelism": 1}) == ()


def test_a_parallelism_that_is_about_to_take_effect_needs_no_restart(bench: Bench) -> None:
    """As requested by an earlier try of the task."""
    orders = pipeline_id(bench)
    before = bench.job(orders)
    bench.client.patch_pipeline(orders, parallelism=2)
    began = bench.now()
    changed = changing(bench).update({"parallelism": 2})
    assert (changed.action, changed.before) == (Action.UPDATED, baseline(before, began))
    bench.change(orders, "Running", 2)
    assert bench.job(orders).run_id == before.run_id + 1
    assert not list(bench.sandbox.requests.find("POST", "*/restart"))


@pytest.mark.parametrize("how", ["restart", "worker"])
def test_a_parallelism_is_not_requested_between_two_runs(how: str, bench: Bench) -> None:
    """Arroyo would show it, and not use it."""
    states = list[str | None]()

    def before(request: requests.PreparedRequest) -> None:
        if request.method == "PATCH":
            states.append(bench.sandbox.state(orders))

    orders, client = pipeline_id(bench), bench.new_client(before)
    if how == "restart":
        bench.client.restart_pipeline(orders)
    else:
        bench.sandbox.faults.kill_worker(orders)
    while (job := bench.job(orders)).state == JobState.RUNNING:
        bench.sandbox.advance(0.02)
    existing = Existing(client)
    assert existing.adopt(orders, job, patch={"parallelism": 2})[0] is Action.UPDATED
    assert states == [JobState.RUNNING]


@pytest.mark.parametrize("seconds, waited", [(None, 30), (600, 30), (20, 10)])
def test_one_that_stays_between_two_runs_gets_it_all_the_same(
    seconds: float | None, waited: float, bench: Bench
) -> None:
    """With less, it may find the workers that it lacks. Before its deadline, there is time for the next run."""
    orders = pipeline_id(bench)
    bench.sandbox.faults.show_state(orders, "Scheduling")
    began = bench.now()
    client = bench.client.with_limits(deadline=None if seconds is None else began + seconds)
    adopted = Existing(client).adopt(orders, bench.job(orders), patch={"parallelism": 2})
    assert adopted == (Action.UPDATED, None)
    assert waited - 2 < bench.now() - began < waited + 5
    assert bench.client.get_pipeline(orders).graph.parallelism == 2


@pytest.mark.parametrize(
    "states", [["Failing", "Failed"], ["CheckpointStopping", "Stopped"], ["Stopping", "Stopped"]]
)
def test_one_that_goes_down_between_two_runs_is_brought_back_with_it(states: list[str]) -> None:
    """As if it had gone down before."""
    now, sent, left = 1000.0, list[str](), list(states)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += max(seconds, 20.0)

    def answer(target: str) -> Reply:
        if not target.endswith("/jobs"):
            sent.append(target)
            return reply(PIPELINE)
        state = left.pop(0) if len(left) > 1 else left[0]
        desired = state.startswith("Fail")
        return reply({"data": [{"id": "job_1", "state": state, "run_id": 1, "running_desired": desired}]})

    with (
        Server(answer=answer) as server,
        ArroyoClient(ClientSettings(base_url=server.url()), sleep=sleep, clock=lambda: now) as client,
    ):
        job = Job(id="job_1", state="Recovering", run_id=1, running_desired=True)
        action, before = Existing(client).adopt("pl_1", job, patch={"parallelism": 2})
    assert action is (Action.RESTARTED if "Failed" in states else Action.RESUMED)
    assert before is not None
    assert before.state == states[-1]
