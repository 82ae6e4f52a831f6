"""Whatever is asked, whenever: a job's life keeps the rules of the table."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.models import JobState, StopMode
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock, running
from airflow_provider_arroyo.sandbox.engine import Engine
from airflow_provider_arroyo.sandbox.lifecycle import Cause, Flavour, moves
from airflow_provider_arroyo.sandbox.records import Job, Pipeline, Source, Wanted
from tests.sandbox.support import Caller

FLAVOURS: tuple[Flavour, ...] = ("0.15", "0.16", "0.16-worker")
MODES = [mode.value for mode in StopMode if mode is not StopMode.NONE]
GRAPH: dict[str, Any] = {
    "nodes": [{"node_id": 0, "operator": "impulse", "description": "Impulse", "parallelism": 1}],
    "edges": [],
}


class World:
    """An engine with one job, without HTTP."""

    def __init__(self, flavour: Flavour, seed: int, *, count: int | None = None) -> None:
        self.clock = ManualClock(start_seconds=1_700_000_000)
        self.rng = random.Random(seed)
        self.engine = Engine(clock=self.clock, flavour=flavour, allowed_restarts=3, rng=self.rng)
        pipeline = Pipeline("pl", "x", "", 0, 1, GRAPH, sources=(Source("s", "impulse", 10.0, count),))
        self.job = Job("job", pipeline, 0, 2, Wanted(parallelism=1, interval_micros=1_000_000))
        pipeline.job = self.job
        self.seen: list[tuple[str, str]] = []
        self.engine.on_change.append(lambda job, before: self.seen.append((before, job.state)))
        self.engine.want(self.job)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.engine.advance()
        running.catch_up(self.job, self.engine.now, self.rng)

    def act(self, action: str) -> None:
        """Ask for something, or let something happen."""
        job, engine = self.job, self.engine
        match action.split(":"):
            case ["stop", mode]:
                job.wanted.stop = mode
                engine.want(job)
            case ["restart", how]:
                job.wanted.restarts += 1
                job.wanted.restart_force = how == "force"
                job.wanted.ignore_state = how == "no_state"
                engine.want(job)
            case ["parallelism", number]:
                job.wanted.parallelism = int(number)
                engine.want(job)
            case ["interval", seconds]:
                job.wanted.interval_micros = int(seconds) * 1_000_000
                engine.want(job)
            case ["fail"]:
                engine.fail(job, error="e", domain="user")
            case ["worker"]:
                engine.lose_worker(job)
            case ["away"]:
                engine.controller_goes([job])
            case ["back"]:
                engine.controller_comes([job])
            case ["skew", seconds]:
                engine.set_skew(int(seconds) * 1_000_000, [job])


ACTIONS = st.sampled_from(
    [
        *(f"stop:{mode}" for mode in ("none", *MODES)),
        "restart:plain",
        "restart:force",
        "restart:no_state",
        "parallelism:1",
        "parallelism:2",
        "interval:1",
        "interval:5",
        "fail",
        "worker",
        "away",
        "back",
        "skew:3600",
        "skew:0",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    flavour=st.sampled_from(FLAVOURS),
    seed=st.integers(0, 1000),
    count=st.sampled_from([None, 5, 50]),
    story=st.lists(st.tuples(ACTIONS, st.floats(0, 3)), max_size=15),
)
def test_any_story_keeps_the_rules(
    flavour: Flavour, seed: int, count: int | None, story: list[tuple[str, float]]
) -> None:
    world = World(flavour, seed, count=count)
    job = world.job
    allowed = {(move.state.value, move.to.value) for move in moves(flavour).values()}
    runs = [job.run_id]
    for action, seconds in story:
        world.act(action)
        world.advance(seconds)
        runs.append(job.run_id)
        epochs = [item.epoch for item in job.checkpoints]
        assert epochs == sorted(set(epochs))
        assert all(item.start <= item.operators_done <= item.finish for item in job.checkpoints)
        if job.state in (JobState.FAILED, JobState.FAILING):
            assert job.failure is not None
    assert set(world.seen) <= allowed
    assert runs == sorted(runs)
    assert not any(before == JobState.FINISHED for before, _ in world.seen)
    # However it came here, a stop asked of a server in good order comes to an end.
    world.act("back")
    world.act("stop:immediate")
    world.advance(30)
    assert job.terminal


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 0.6, 1.0, 1.9, 2.4])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_stop_works_at_every_moment(flavour: Flavour, mode: str, moment: float) -> None:
    world = World(flavour, seed=3)
    world.advance(moment)
    world.act(f"stop:{mode}")
    world.advance(3)
    assert world.job.state == JobState.STOPPED
    assert world.job.run_id == 1
    stopping = [item for item in world.job.checkpoints if item.stopping]
    assert len(stopping) == (1 if mode == "checkpoint" else 0)


def test_a_stop_while_the_controller_is_away_leaves_no_checkpoint() -> None:
    world = World("0.16", seed=1)
    world.advance(2)
    world.act("away")
    world.act("stop:checkpoint")
    world.advance(60)
    assert world.job.state == JobState.RUNNING
    before = len(world.job.checkpoints)
    world.act("back")
    world.advance(1)
    assert world.job.state == JobState.STOPPED
    assert len(world.job.checkpoints) == before


@pytest.mark.parametrize("flavour, runs", [("0.15", 4), ("0.16", 3)])
def test_workers_may_be_lost_as_often_as_restarts_are_allowed(flavour: Flavour, runs: int) -> None:
    world = World(flavour, seed=1)
    for _ in range(10):
        world.advance(3)
        world.act("worker")
    world.advance(3)
    assert world.job.state == JobState.FAILED
    assert world.job.run_id == runs


def test_a_long_healthy_run_clears_the_count_of_failures() -> None:
    world = World("0.16", seed=1)
    for _ in range(10):
        world.advance(200)
        world.act("worker")
    world.advance(5)
    assert world.job.state == JobState.RUNNING
    assert world.job.run_id == 11


def test_an_interval_changes_the_beat_of_checkpoints_without_a_new_run() -> None:
    world = World("0.16", seed=1)
    world.advance(20)
    many = len(world.job.checkpoints)
    assert 12 <= many <= 16
    world.act("interval:10")
    world.advance(20)
    assert len(world.job.checkpoints) - many <= 3
    assert world.job.run_id == 1


def test_every_state_that_can_be_entered_can_be_left_or_is_terminal() -> None:
    for flavour in FLAVOURS:
        table = moves(flavour)
        left = {state for state, _ in table}
        entered = {move.to.value for move in table.values()}
        assert entered - left == {JobState.FINISHED.value}
        timed = {move.to.value for move in table.values() if move.stays is not None}
        assert all((state, Cause.TIME) in table for state in timed)


def test_a_scaled_clock_lives_faster() -> None:
    import requests

    with ArroyoSandbox(speed=50) as sandbox, requests.Session() as session:
        call = Caller(session, sandbox.url)
        pipeline_id = call.create()
        for _ in range(2000):
            if call.job(pipeline_id)["state"] == "Running":
                break
        begun = call.job(pipeline_id)["start_time"]
        for _ in range(5000):
            if len(call.checkpoints(pipeline_id)) >= 20:
                break
        last = call.checkpoints(pipeline_id)[-1]["start_time"]
        assert last - begun > 15_000_000
