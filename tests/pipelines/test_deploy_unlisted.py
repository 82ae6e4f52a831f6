"""Deploys where Arroyo may not list all checkpoints: no state is dropped unasked, and none is asked for in vain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.exceptions import ArroyoDeployError, ArroyoError
from airflow_provider_arroyo.pipelines.deploy_plan import Step
from airflow_provider_arroyo.pipelines.deploy_progress import Waiting
from tests.pipelines.deploy_bench import BROKEN, OTHER_TASK, SECOND, SPEC, DeployBench, open_deploy_bench
from tests.support import KilledError

ASKS = "would drop the state of generation 1"


@pytest.fixture(params=["0.15", "0.16", "worker"])
def bench(request: pytest.FixtureRequest) -> Iterator[DeployBench]:
    """A server of each version, also with job-controller = "worker"."""
    options: dict[str, Any] = {"job_controller": "worker"} if request.param == "worker" else {}
    with open_deploy_bench("0.16" if options else request.param, **options) as opened:
        yield opened


def away_from_kafka(bench: DeployBench) -> Any:
    """Return a hook that keeps each new pipeline from its Kafka broker."""

    def inject(step: Waiting) -> None:
        if step.progress.step is Step.PROVE and step.progress.pipeline is not None:
            bench.sandbox.faults.kafka_away(step.progress.pipeline.pipeline_id)

    return inject


@pytest.mark.parametrize("seconds", [0.3, 1.0, 10.4])
def test_the_state_of_one_that_has_just_started_again_is_not_dropped(
    bench: DeployBench, seconds: float
) -> None:
    often = timedelta(seconds=10)
    first = bench.deployed(spec=replace(SPEC, checkpoint_interval=often))
    bench.change(first.id, 3600)
    bench.client.restart_pipeline(first.id, force=True)
    while bench.job(first.id).run_id == 1:
        bench.sandbox.advance(0.01)
    bench.sandbox.advance(seconds)
    with pytest.raises(ArroyoDeployError, match=ASKS):
        bench.deploy(
            replace(SECOND, checkpoint_interval=often),
            task=OTHER_TASK,
            allow_state_loss=False,
        )
    assert bench.states() == {first.id: "Running"}


def test_nor_is_that_of_one_that_had_many_runs_and_failed_after_a_long_one(bench: DeployBench) -> None:
    first = bench.deployed()
    bench.sandbox.advance(120)
    for _ in range(30):
        bench.change(first.id, "stop", "Stopped", "resume", "Running")
    bench.change(first.id, 1500, "fail", "Failed")
    with pytest.raises(ArroyoDeployError, match=ASKS):
        bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)


def test_one_that_keeps_starting_again_is_replaced_without_asking(bench: DeployBench) -> None:
    with pytest.raises(ArroyoError):
        bench.deploy(at_wait=away_from_kafka(bench))
    for _ in range(40):
        bench.sandbox.advance(37)
    (first,) = bench.pipelines()
    assert bench.job(first.id).run_id > 30
    done = bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)
    assert (done.progress.action, done.progress.generation) == ("replaced", 2)


def test_one_that_failed_again_when_it_was_restarted_a_day_later_is_replaced_without_asking(
    bench: DeployBench,
) -> None:
    with pytest.raises(ArroyoError):
        bench.deploy(BROKEN)
    bench.sandbox.advance(86_400)
    with pytest.raises(ArroyoError):
        bench.deploy(BROKEN, try_number=2)
    done = bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)
    assert (done.progress.action, done.progress.generation) == ("replaced", 2)


@pytest.mark.parametrize("seconds, asks", [(0, False), (40, True)])
@pytest.mark.parametrize("bench", ["0.16", "worker"], indirect=True)
def test_one_that_was_stopped_before_its_first_checkpoint_is_replaced_without_asking(
    bench: DeployBench, seconds: float, asks: bool
) -> None:
    """Nothing else tells it from one whose checkpoints are listed no longer."""
    spec = replace(SPEC, checkpoint_interval=timedelta(seconds=30))
    first = bench.deployed(spec=spec, until_checkpoint=False)
    bench.sandbox.faults.kafka_away(first.id)
    bench.change(first.id, seconds)
    bench.client.patch_pipeline(first.id, stop="immediate")
    bench.change(first.id, "Stopped", 3600)
    assert not list(bench.client.list_checkpoints(first.id, bench.job(first.id).id))
    if asks:
        with pytest.raises(ArroyoDeployError, match=ASKS):
            bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)
    else:
        assert bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False).progress.action == "replaced"


@pytest.mark.parametrize("bench", ["0.15", "0.16"], indirect=True)
def test_a_version_whose_removal_was_cut_short_is_rolled_back_by_the_next_try(bench: DeployBench) -> None:
    first = bench.deployed()

    def kill(request: requests.PreparedRequest) -> None:
        if request.method == "DELETE":
            raise KilledError

    away = away_from_kafka(bench)
    with pytest.raises(KilledError):
        bench.deploy(SECOND, at_wait=away, client=bench.new_client(before=kill))
    assert sorted(bench.states().values()) == ["Stopped", "Stopped"]
    with pytest.raises(ArroyoDeployError, match=f"Rolled back: pipeline 'orders' .{first.id}. is Running"):
        bench.deploy(SECOND, try_number=2)
    assert bench.states() == {first.id: "Running"}


def test_a_failure_just_before_the_stop_causes_no_rollback(bench: DeployBench) -> None:
    first, reads = bench.deployed(), []
    bench.sandbox.requests.clear()

    def refuse(request: requests.PreparedRequest) -> None:
        if str(request.path_url).endswith("/checkpoints"):
            reads.append(request)
            if len(reads) == 2:
                bench.sandbox.faults.status(401, path="*/checkpoints")

    with pytest.raises(ArroyoError, match="requires credentials") as caught:
        bench.deploy(SECOND, task=OTHER_TASK, client=bench.new_client(before=refuse))
    assert "Rolled back" not in str(caught.value)
    assert "was asked to stop" not in str(caught.value)
    assert (bench.changes_sent(), bench.states()) == ([], {first.id: "Running"})


def test_an_old_version_that_fails_while_it_is_stopped_is_called_failed(bench: DeployBench) -> None:
    first = bench.deployed()

    def fail(step: Waiting) -> None:
        if step.progress.step is Step.STOP_OLD:
            bench.sandbox.faults.fail(first.id)

    bench.deploy(SECOND, task=OTHER_TASK, at_wait=fail)
    assert f"({first.id}) is Failed, " in bench.lines.text("WARNING")
    assert "is Stopped" not in bench.lines.text()
