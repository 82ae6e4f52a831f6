"""Two concurrent deploys of one pipeline: one wins, the other reports that, and one pipeline runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import ArroyoDeployError
from airflow_provider_arroyo.pipelines.deploy_plan import Step
from airflow_provider_arroyo.pipelines.deploy_progress import Waiting
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel, without_label
from tests.pipelines.deploy_bench import BROKEN, OTHER_TASK, SECOND, SPEC, DeployBench, open_deploy_bench
from tests.support import KilledError

both_versions = pytest.mark.parametrize("bench", ["0.15", "0.16"], indirect=True)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Any:
    with open_deploy_bench(request.param) as opened:
        yield opened


def overtaken(bench: DeployBench, winner: Callable[[], object]) -> ArroyoClient:
    """Return a client before whose create another deploy runs from start to end."""
    pending = [winner]

    def before(request: requests.PreparedRequest) -> None:
        creates = request.method == "PUT" or (
            request.method == "POST" and str(request.url).endswith("/pipelines")
        )
        if creates and pending and (request.method == "POST") == (bench.version == "0.15"):
            pending.pop()()

    return bench.new_client(before=before)


@both_versions
@pytest.mark.parametrize("is_replace", [False, True], ids=["create", "replace"])
def test_of_two_concurrent_deploys_one_wins_and_one_says_so(bench: DeployBench, is_replace: bool) -> None:
    if is_replace:
        bench.deployed()
    third = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))
    client = overtaken(bench, lambda: bench.deploy(third, task=OTHER_TASK))
    with pytest.raises(
        ArroyoDeployError, match="Another deploy of 'orders' has created generation"
    ) as caught:
        bench.deploy(SECOND, client=client)
    assert caught.value.is_lost_race
    assert not caught.value.is_fatal
    assert "run r2" in str(caught.value)
    # The old version, which is stopped and may be kept, must not be started beside the winner's.
    assert "ArroyoRestartPipelineOperator" not in str(caught.value)
    is_named = re.search(r"This one's was deleted; both existed for up to [\d.]+ s", str(caught.value))
    # 0.16 refuses the second create.
    assert bool(is_named) == (bench.version == "0.15")
    (only,) = bench.pipelines()
    assert without_label(only.query) == third.query
    assert bench.states() == {only.id: "Running"}


@both_versions
def test_a_lost_try_and_its_successor_count_as_one_deploy(bench: DeployBench) -> None:
    client = overtaken(bench, lambda: bench.deploy())
    done = bench.deploy(client=client)
    (only,) = bench.pipelines()
    assert done.pipeline is not None
    assert done.pipeline.pipeline_id == only.id
    assert bench.states() == {only.id: "Running"}


@both_versions
@pytest.mark.parametrize("crashes", [True, False], ids=["crashes", "ends"])
def test_a_deploy_that_resumes_the_old_version_yields_to_another(bench: DeployBench, crashes: bool) -> None:
    """While it waits for the old version, which was stopped externally, another deploy replaces that version."""
    old = bench.deployed()
    bench.change(old.id, "stop", "Stopped")

    def crash(step: Waiting) -> None:
        if crashes and step.progress.step is Step.PROVE:
            raise KilledError

    def overtake(_: Waiting) -> None:
        with suppress(KilledError):
            bench.deploy(SECOND, task=OTHER_TASK, at_wait=crash)
            return
        # It stopped the old one, which the first deploy had asked to run; which request was later is unknown.
        bench.client.patch_pipeline(old.id, stop="none")

    with pytest.raises(
        ArroyoDeployError, match="Another deploy of 'orders' has created generation 2"
    ) as caught:
        bench.deploy(at_wait=overtake)
    assert caught.value.is_lost_race
    running = [
        bench.client.get_pipeline(one).query for one, state in bench.states().items() if state == "Running"
    ]
    assert [without_label(query) for query in running] == [SECOND.query]


def test_duplicates_of_two_deploys_are_deleted_but_not_by_a_dry_run() -> None:
    """One of the two deploys was killed before it deleted its own."""
    with open_deploy_bench("0.15") as bench:
        old = bench.deployed()
        label = OwnershipLabel.of(old)
        assert label is not None
        comment = label.for_new_request().to_comment({})
        younger = bench.create_externally(SECOND, comment=comment)
        assert bench.deploy(dry_run=True).progress.action == "unchanged"
        assert len(bench.pipelines()) == 2
        assert bench.deploy().progress.action == "unchanged"
        assert bench.states() == {old.id: "Running"}
        assert f"{old.id} is kept, {younger.id} is deleted" in bench.lines.text("WARNING")
        # A manual copy has the same label, but is too late to be a gateway's repetition of the request.
        bench.sandbox.advance(60)
        copy = bench.create_externally(SPEC, comment=old.query.partition("\n")[0] + "\n")
        assert bench.deploy().progress.action == "unchanged"
        assert set(bench.states()) == {old.id, copy.id}


@both_versions
def test_a_deploy_that_two_others_overtook_yields(bench: DeployBench) -> None:
    """Its generation is free again: the first of the two has created it, and the second has deleted it."""
    bench.deployed()
    third = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))

    def overtake() -> None:
        for number, spec in enumerate((SPEC, third)):
            bench.deploy(spec, task=replace(OTHER_TASK, run_id=f"r{number}"), keep_old=False)

    fourth = replace(SPEC, query=SPEC.query.replace("'10'", "'40'"))
    bench.deploy(fourth, task=OTHER_TASK)
    client = overtaken(bench, overtake)
    with pytest.raises(ArroyoDeployError, match="has created generation 4") as caught:
        bench.deploy(SECOND, client=client)
    assert caught.value.is_lost_race
    assert [without_label(one.query) for one in running(bench)] == [third.query]


@both_versions
def test_the_loser_says_nothing_of_an_old_version_that_the_winner_replaces(bench: DeployBench) -> None:
    bench.deployed()
    third = replace(SPEC, query=SPEC.query.replace("'10'", "'30'"))

    def overtake(step: Waiting) -> None:
        if step.progress.step is Step.PROVE:
            bench.deploy(third, task=OTHER_TASK)

    with pytest.raises(ArroyoDeployError, match="has created generation 3") as caught:
        bench.deploy(SECOND, strategy="start_first", at_wait=overtake)
    assert caught.value.is_lost_race
    assert "may still run beside" not in str(caught.value)
    assert [without_label(one.query) for one in running(bench)] == [third.query]


@both_versions
@pytest.mark.parametrize("at", [1, 2])
def test_a_pipeline_that_is_replaced_while_it_is_listed_is_not_new(bench: DeployBench, at: int) -> None:
    """The name must not count as new."""
    bench.deployed()
    sent = 0

    def overtake(_: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == at:
            bench.deploy(SECOND, task=OTHER_TASK)

    done = bench.deploy(client=bench.new_client(before=overtake))
    assert (done.progress.action, done.progress.generation) == ("replaced", 3)
    assert [without_label(one.query) for one in running(bench)] == [SPEC.query]


@both_versions
def test_a_rollback_leaves_what_another_deploy_created_meanwhile(bench: DeployBench) -> None:
    """It has the generation of the pipeline that the rollback has deleted, and on 0.16 its id."""
    bench.deployed()

    def overtake(step: Waiting) -> None:
        if step.progress.step is Step.ROLL_BACK:
            bench.deploy(SECOND, task=OTHER_TASK, keep_old=True)

    with pytest.raises(ArroyoDeployError, match="Another deploy of 'orders' has created generation 2"):
        bench.deploy(BROKEN, at_wait=overtake)
    assert [without_label(one.query) for one in running(bench)] == [SECOND.query]


def running(bench: DeployBench) -> list[Pipeline]:
    """Return the running pipelines, after each has had time to reach its state."""
    return [bench.client.get_pipeline(one) for one in bench.running()]
