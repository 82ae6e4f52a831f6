"""A replace is killed at each of its requests, and the next try finishes it: one pipeline, of the wanted version."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.exceptions import ArroyoDeployError, ArroyoQueryError
from airflow_provider_arroyo.pipelines.deploy_plan import Step
from airflow_provider_arroyo.pipelines.deploy_progress import Waiting
from airflow_provider_arroyo.pipelines.ownership import Owner
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.deploy_bench import BROKEN, OTHER_TASK, SECOND, SPEC, DeployBench, open_deploy_bench
from tests.support import KilledError, kill_at

RETRY = Owner(dag_id="shop", task_id="deploy", run_id="retry")
THIRD = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))
STEP = 7
"""Each of the first few requests, then every seventh, since most of them are equivalent polls."""


def _is_killed(
    bench: DeployBench, spec: PipelineSpec, at: int, *, after_effect: bool, **options: Any
) -> bool:
    client = bench.new_client(**{"after" if after_effect else "before": kill_at(at)})
    try:
        bench.deploy(spec, client=client, **options)
    except KilledError:
        return True
    except ArroyoDeployError:
        return False
    return False


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("strategy", ["stop_first", "start_first"])
@pytest.mark.parametrize("then", [SPEC, THIRD], ids=["taken back", "another one"])
def test_killed_at_a_request_then_another_version(version: str, strategy: str, then: PipelineSpec) -> None:
    went_back = kills = 0
    for at in (*range(3, 16, 2), *range(16, 200, 3 * STEP)):
        with open_deploy_bench(version) as bench:
            old = bench.deployed()
            if not _is_killed(bench, SECOND, at, after_effect=at % 4 == 1, strategy=strategy):
                break
            kills += 1
            there = sorted(bench.pipelines(), key=lambda one: one.created_at_micros)
            is_proven = any(one.is_finished for one in _checkpoints(bench, there[-1].id))
            done = bench.deploy(then, task=RETRY, strategy=strategy)
            assert done.pipeline is not None
            assert bench.states() == {done.pipeline.pipeline_id: "Running"}, f"killed at {at}"
            # A change that is reverted in time loses no state.
            is_back = then is SPEC and (there[-1].id == old.id or not is_proven)
            assert (done.pipeline.pipeline_id == old.id) == is_back, f"killed at {at}"
            went_back += is_back and len(there) > 1
    assert kills > 7
    assert bool(went_back) == (then is SPEC)


def _checkpoints(bench: DeployBench, pipeline_id: str) -> list[Checkpoint]:
    return list(bench.client.list_checkpoints(pipeline_id, bench.job(pipeline_id).id))


CASES = [
    (version, strategy, spec)
    for version in ("0.15", "0.16")
    for strategy, spec in (("stop_first", SECOND), ("start_first", SECOND), ("stop_first", BROKEN))
]


@pytest.mark.parametrize("version,strategy,spec", CASES)
def test_killed_at_every_request(version: str, strategy: str, spec: PipelineSpec) -> None:
    kills = 0
    for at in (*range(1, 10), *range(10, 200, STEP)):
        with open_deploy_bench(version) as bench:
            old = bench.deployed()
            if not _is_killed(bench, spec, at, after_effect=at % 2 == 0, strategy=strategy):
                break
            kills += 1
            if spec is BROKEN:
                with pytest.raises(ArroyoDeployError, match="Rolled back: "):
                    bench.deploy(spec, task=RETRY, strategy=strategy)
                assert bench.states() == {old.id: "Running"}, f"killed at {at}"
                continue
            done = bench.deploy(spec, task=RETRY, strategy=strategy)
            assert done.pipeline is not None
            assert bench.states() == {done.pipeline.pipeline_id: "Running"}, f"killed at {at}"
            # The first try may have done everything except report it.
            assert done.progress.action in ("replaced", "unchanged"), f"killed at {at}"
    else:
        pytest.fail("the deploy sends requests forever")
    assert kills > 9


LEFT = [
    (
        "stop_first",
        Step.STOP_OLD,
        "No version of 'orders' that has proven itself runs now; the last is generation 1",
    ),
    (
        "stop_first",
        Step.PROVE,
        "No version of 'orders' that has proven itself runs now; the last is generation 1",
    ),
    ("start_first", Step.PROVE, "Two versions of 'orders' run and write now: generation 1"),
]


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("strategy,step,words", LEFT)
def test_a_refused_retry_reports_what_is_left(version: str, strategy: str, step: Step, words: str) -> None:
    def kill(waiting: Waiting) -> None:
        if waiting.progress.step is step:
            raise KilledError

    with open_deploy_bench(version) as bench:
        old = bench.deployed()
        with pytest.raises(KilledError):
            bench.deploy(SECOND, strategy=strategy, at_wait=kill)
        bench.sandbox.advance(1)
        before = bench.changes_sent()
        with pytest.raises(ArroyoQueryError, match=words) as caught:
            bench.deploy(replace(SPEC, query="SELECT 1 FROM nowhere"), task=RETRY, strategy=strategy)
        assert old.id in str(caught.value)
        assert bench.changes_sent() == before
        # A good version ends this.
        done = bench.deploy(SECOND, task=RETRY, strategy=strategy)
        assert done.pipeline is not None
        assert bench.states() == {done.pipeline.pipeline_id: "Running"}


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("until_checkpoint", [True, False])
@pytest.mark.parametrize("then", [THIRD, BROKEN], ids=["another one", "a broken one"])
def test_killed_before_the_old_one_is_stopped_then_another_version(
    version: str, until_checkpoint: bool, then: PipelineSpec
) -> None:
    """No two run afterwards, nor while the third one has to prove itself."""
    options: dict[str, Any] = {"until_checkpoint": until_checkpoint}
    running: list[str] = []
    with open_deploy_bench(version) as bench:
        first = bench.deployed(**options)

        def kill(step: Waiting) -> None:
            if step.progress.step is Step.STOP_OLD:
                raise KilledError

        with pytest.raises(KilledError):
            bench.deploy(SECOND, strategy="start_first", at_wait=kill, **options)
        bench.client.patch_pipeline(first.id, stop="none")
        assert list(bench.states().values()) == ["Running", "Running"]

        def note(step: Waiting) -> None:
            if step.progress.step is Step.PROVE:
                running.extend(one.id for one in bench.pipelines() if bench.job(one.id).state == "Running")

        with contextlib.suppress(ArroyoDeployError):
            bench.deploy(then, task=RETRY, at_wait=note, **options)
        assert running == []
        assert list(bench.states().values()).count("Running") == 1


def test_an_older_version_that_was_brought_back_runs_until_the_new_one_has_proven_itself() -> None:
    with open_deploy_bench("0.16") as bench:
        first = bench.deployed()
        second = bench.deployed(spec=SECOND, keep_old=True)
        bench.change(second.id, "fail", "Failed")
        bench.change(first.id, "resume", "Running")
        with pytest.raises(ArroyoDeployError):
            bench.deploy(BROKEN, task=RETRY, keep_old=True)
        assert bench.states()[first.id] == "Running"


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_one_that_proved_itself_without_a_checkpoint_is_unchanged(version: str) -> None:
    rarely: dict[str, Any] = {"checkpoint_interval": timedelta(hours=1)}
    options: dict[str, Any] = {"until_checkpoint": False, "keep_old": True}
    with open_deploy_bench(version) as bench:
        bench.deployed(spec=replace(SPEC, **rarely), **options)
        bench.deployed(spec=replace(SECOND, **rarely), **options)
        bench.sandbox.requests.clear()
        done = bench.deploy(replace(SECOND, **rarely), task=OTHER_TASK, **options)
        assert (done.progress.action, bench.changes_sent()) == ("unchanged", [])
