"""Whatever is requested at any time, a job follows the rules of the table."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.sandbox import ManualClock, runs
from airflow_provider_arroyo.sandbox.engine import Engine
from airflow_provider_arroyo.sandbox.lifecycle import Cause, Variant, transitions
from airflow_provider_arroyo.sandbox.records import Job, Pipeline, Store, Wanted
from airflow_provider_arroyo.sandbox.sql import Source

ALL: tuple[Variant, ...] = ("0.15", "0.16", "0.16-worker")
MODES = [mode.value for mode in StopMode if mode is not StopMode.NONE]
GRAPH: dict[str, Any] = {
    "nodes": [{"node_id": 0, "operator": "impulse", "description": "Impulse", "parallelism": 1}],
    "edges": [],
}


class World:
    """An engine with one job, without HTTP."""

    def __init__(self, variant: Variant, seed: int, *, counts: tuple[int | None, ...] = (None,)) -> None:
        self.clock = ManualClock(start_seconds=1_700_000_000)
        self.rng = random.Random(seed)
        self.engine = Engine(
            clock=self.clock, variant=variant, allowed_restarts=3, rng=self.rng, store=Store()
        )
        sources = tuple(Source(f"s{number}", 10.0, count) for number, count in enumerate(counts))
        pipeline = Pipeline("pl", "x", "", 0, GRAPH, sources=sources)
        self.job = Job("job", pipeline, 0, Wanted(parallelism=1, interval_micros=1_000_000))
        pipeline.job = self.job
        self.engine.store.pipelines[pipeline.id] = pipeline
        self.seen: list[tuple[str, str]] = []
        self.engine.on_change.append(lambda job, before: self.seen.append((before, job.state)))
        self.engine.want(self.job)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.engine.advance()
        runs.catch_up(self.job, self.engine.now, self.rng)

    def act(self, action: str) -> None:
        """Ask for something, or let something happen."""
        job, engine, wanted = self.job, self.engine, self.job.wanted
        match action.split(":"):
            case ["stop", mode]:
                wanted.stop = mode
            case ["restart", how]:
                wanted.restarts += 1
                wanted.restart_force = how == "force"
                wanted.ignore_state = how == "no_state"
            case ["parallelism", number]:
                wanted.parallelism = int(number)
            case ["interval", seconds]:
                wanted.interval_micros = int(seconds) * 1_000_000
            case ["fail"]:
                return engine.fail(job, error="e", domain="user")
            case ["worker"]:
                return engine.lose_worker(job)
            case ["controller", "away"]:
                return engine.stop_controller()
            case ["controller", "back"]:
                return engine.start_controller()
            case ["kafka", is_away]:
                job.kafka_away = is_away == "away"
            case ["skew", seconds]:
                return engine.set_skew(int(seconds) * 1_000_000)
        return engine.want(job)

    @property
    def stopping_checkpoints(self) -> int:
        """How many checkpoints of the type ``stopping`` there are."""
        return sum(item.stopping for item in self.job.checkpoints)


ACTIONS = st.sampled_from(
    [
        *(f"stop:{mode}" for mode in ("none", *MODES)),
        *(f"restart:{how}" for how in ("plain", "force", "no_state")),
        *("parallelism:1", "parallelism:2", "interval:1", "interval:5"),
        *("fail", "worker", "controller:away", "controller:back", "kafka:away", "kafka:back"),
        *("skew:3600", "skew:-3600", "skew:0"),
    ]
)


@given(
    variant=st.sampled_from(ALL),
    seed=st.integers(0, 1000),
    counts=st.sampled_from([(None,), (5,), (50,), (5, None), (5, 50)]),
    actions=st.lists(st.tuples(ACTIONS, st.floats(0, 3)), max_size=15),
)
@example("0.16", 0, (None,), [("stop:none", 2.6), ("skew:3600", 0.0), ("skew:0", 0.1)])
@example("0.15", 1, (None,), [("stop:none", 2.0), ("stop:checkpoint", 0.45), ("skew:-3600", 1.0)])
def test_any_order_of_events_keeps_the_rules(
    variant: Variant, seed: int, counts: tuple[int | None, ...], actions: list[tuple[str, float]]
) -> None:
    world = World(variant, seed, counts=counts)
    job = world.job
    allowed = {(row.state.value, row.to.value) for row in transitions(variant).values()}
    run_ids, epochs_in_finishing = [job.run_id], dict[int, list[int]]()
    for action, seconds in actions:
        world.act(action)
        world.advance(seconds)
        run_ids.append(job.run_id)
        epochs = [item.epoch for item in job.checkpoints]
        assert epochs == sorted(set(epochs))
        assert all(item.start <= item.operators_done <= item.finish for item in job.checkpoints)
        if job.state in (JobState.FAILED, JobState.FAILING):
            assert job.failure is not None
        if job.state == JobState.FINISHING:
            assert epochs_in_finishing.setdefault(job.run_id, epochs) == epochs
    assert set(world.seen) <= allowed
    assert run_ids == sorted(run_ids)
    assert not any(before == JobState.FINISHED for before, _ in world.seen)
    # Whatever happened, a stop takes effect once the server works again.
    world.act("controller:back")
    world.act("stop:immediate")
    world.advance(30)
    assert job.terminal


@given(variant=st.sampled_from(ALL), seed=st.integers(0, 1000), moment=st.floats(0, 3))
def test_a_stop_with_checkpoint_takes_one_whatever_the_clock_says(
    variant: Variant, seed: int, moment: float
) -> None:
    world = World(variant, seed)
    world.advance(5)
    world.act("stop:checkpoint")
    world.advance(moment)
    world.act("skew:-3600")
    world.advance(5)
    assert (world.job.state, world.stopping_checkpoints) == (JobState.STOPPED, 1)


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 0.6, 1.0, 1.9, 2.4])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", ALL)
def test_a_stop_works_at_every_moment(variant: Variant, mode: str, moment: float) -> None:
    world = World(variant, seed=3)
    world.advance(moment)
    world.act(f"stop:{mode}")
    world.advance(3)
    assert (world.job.state, world.job.run_id) == (JobState.STOPPED, 1)
    assert world.stopping_checkpoints == (1 if mode == "checkpoint" else 0)


@pytest.mark.parametrize("change", ["restart:plain", "parallelism:2"])
@pytest.mark.parametrize("moment", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("variant", ALL)
def test_a_stop_before_within_or_after_a_change_ends_stopped(
    variant: Variant, moment: float, change: str
) -> None:
    world = World(variant, seed=4)
    world.advance(3)
    world.act(change)
    world.advance(moment)
    world.act("stop:checkpoint")
    world.advance(3)
    assert world.job.state == JobState.STOPPED
    # One for the stop, and one for the change where that came first.
    assert world.stopping_checkpoints == world.job.run_id


def test_a_stop_while_the_controller_is_away_leaves_no_checkpoint() -> None:
    world = World("0.16", seed=1)
    world.advance(2)
    world.act("controller:away")
    world.act("stop:checkpoint")
    world.advance(60)
    assert world.job.state == JobState.RUNNING
    before = len(world.job.checkpoints)
    world.act("controller:back")
    world.advance(1)
    assert world.job.state == JobState.STOPPED
    assert len(world.job.checkpoints) == before


@pytest.mark.parametrize("variant", ALL)
def test_a_stop_of_a_job_that_no_controller_picked_up_leaves_it_unstarted(variant: Variant) -> None:
    world = World(variant, seed=1)
    world.act("controller:away")
    world.act("stop:checkpoint")
    world.advance(10)
    assert world.job.state == JobState.CREATED
    world.act("controller:back")
    world.advance(1)
    assert (world.job.state, world.job.run_id, world.job.checkpoints) == (JobState.STOPPED, 0, [])


@pytest.mark.parametrize("variant, runs", [("0.15", 4), ("0.16", 3)])
def test_workers_may_be_lost_as_often_as_restarts_are_allowed(variant: Variant, runs: int) -> None:
    world = World(variant, seed=1)
    for _ in range(10):
        world.advance(3)
        world.act("worker")
    world.advance(3)
    assert (world.job.state, world.job.run_id) == (JobState.FAILED, runs)


def test_a_long_healthy_run_clears_the_count_of_failures() -> None:
    world = World("0.16", seed=1)
    for _ in range(10):
        world.advance(200)
        world.act("worker")
    world.advance(5)
    assert (world.job.state, world.job.run_id) == (JobState.RUNNING, 11)


def test_an_interval_changes_how_often_checkpoints_come_without_a_new_run() -> None:
    world = World("0.16", seed=1)
    world.advance(20)
    many = len(world.job.checkpoints)
    assert 12 <= many <= 16
    world.act("interval:10")
    world.advance(20)
    assert len(world.job.checkpoints) - many <= 3
    assert world.job.run_id == 1


def test_the_oldest_checkpoints_of_a_long_run_are_forgotten_and_their_epochs_count() -> None:
    world = World("0.16", seed=1)
    world.advance(30 * 86400)
    listed = world.job.checkpoints
    assert runs.KEPT_CHECKPOINTS <= len(listed) <= 2 * runs.KEPT_CHECKPOINTS
    assert [item.epoch for item in listed] == list(range(listed[0].epoch, listed[-1].epoch + 1))
    assert listed[-1].epoch == pytest.approx(30 * 86400 / 1.3, rel=0.02)
    assert all(before.finish < after.start for before, after in pairwise(listed))
    assert listed[-1].finish > world.engine.now - 2_000_000


def test_start_time_is_renewed_by_a_resume_and_by_nothing_else() -> None:
    world = World("0.15", seed=1)
    world.advance(3)
    begun = world.job.start_time
    for action in ("restart:plain", "parallelism:2", "worker", "fail"):
        before = world.job.run_id
        world.act(action)
        world.advance(5)
        assert (world.job.run_id, world.job.start_time) == (before + 1, begun), action
    world.act("stop:checkpoint")
    world.advance(2)
    world.act("stop:none")
    world.advance(2)
    assert world.job.start_time is not None
    assert world.job.start_time > (begun or 0)


@pytest.mark.parametrize("variant", ALL)
def test_every_state_that_can_be_entered_can_be_left_or_is_terminal(variant: Variant) -> None:
    table = transitions(variant)
    entered = {row.to.value for row in table.values()}
    assert entered - {state for state, _ in table} == {JobState.FINISHED.value}
    timed = {row.to.value for row in table.values() if row.stays is not None}
    assert all((state, Cause.TIME) in table for state in timed)
