"""Replaces, rollbacks, pipelines of other owners, and messages of a deploy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import (
    ArroyoDeployError,
    ArroyoError,
    ArroyoOwnershipError,
    ArroyoPipelineError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
)
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.pipelines.deploy_plan import Step
from airflow_provider_arroyo.pipelines.deploy_progress import Waiting
from airflow_provider_arroyo.pipelines.existing import Existing
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.pipelines.deploy_bench import (
    BROKEN,
    OTHER_TASK,
    SECOND,
    SPEC,
    DeployBench,
    open_deploy_bench,
)
from tests.support import BOUNDED, ONE_ENDS

both_versions = pytest.mark.parametrize("bench", ["0.15", "0.16"], indirect=True)
both_modes = pytest.mark.parametrize("is_deferred", [False, True], ids=["sync", "deferred"])


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Any:
    with open_deploy_bench(getattr(request, "param", "0.16")) as opened:
        yield opened


def when_created(fault: Callable[[str], object]) -> Callable[[Waiting], None]:
    """Return a hook that injects a fault into the new pipeline when a deploy begins to wait for it."""

    def inject(step: Waiting) -> None:
        if step.progress.step is Step.PROVE and step.progress.pipeline is not None:
            fault(step.progress.pipeline.pipeline_id)

    return inject


def only_running(bench: DeployBench) -> Pipeline:
    states = bench.states()
    (running,) = [one for one, state in states.items() if state == "Running"]
    return bench.client.get_pipeline(running)


# -- replaces ----------------------------------------------------------------------------------------------


@both_versions
@both_modes
def test_stop_first_and_start_first(bench: DeployBench, is_deferred: bool) -> None:
    old = bench.deployed()
    bench.deploy(SECOND, is_deferred=is_deferred)
    log = bench.lines.text()
    assert (
        log.index("Stop requested (checkpoint)")
        < log.index("Created generation 2")
        < log.index("Deleted: gener")
    )
    assert "run and write until" not in log
    new = only_running(bench)
    assert new.id != old.id
    bench.lines.lines.clear()

    both_ran = []

    def look(_: Any) -> None:
        # A pipeline that was asked to stop still runs for a moment.
        states = [bench.job(one.id).state for one in bench.pipelines()]
        both_ran.append(sum(state in ("Running", "CheckpointStopping") for state in states))

    done = bench.deploy(SPEC, strategy="start_first", is_deferred=is_deferred, at_wait=look)
    log = bench.lines.text()
    assert (
        log.index("Created generation 3")
        < log.index("Stop requested (checkpoint)")
        < log.index("Deleted: gener")
    )
    assert (
        "Both pipelines run and write until the new one is proven: orders (start_first)"
        in bench.lines.text("WARNING")
    )
    # During the wait for the old one's stop, both run.
    assert both_ran == [1, 2]
    assert done.progress.checkpoint is not None
    assert [one.query for one in [only_running(bench)]] != [new.query]
    assert len(bench.pipelines()) == 1


@both_versions
def test_an_old_version_that_cannot_be_stopped_after_the_new_one_started(bench: DeployBench) -> None:
    """The error says that both run, and the next try leaves one."""
    old = bench.deployed()
    away = bench.sandbox.faults.status
    with pytest.raises(ArroyoError, match=f"'orders' .{old.id}. may still run beside pipeline") as caught:
        bench.deploy(SECOND, strategy="start_first", at_wait=lambda _: away(503, method="PATCH", times=None))
    assert "so that both write" in str(caught.value)
    bench.sandbox.faults.clear()
    assert len([one for one in bench.states().values() if one == "Running"]) == 2
    bench.deploy(SECOND, strategy="start_first", try_number=2)
    assert only_running(bench).id != old.id


@both_versions
def test_the_log_before_a_replace(bench: DeployBench) -> None:
    bench.deployed()
    kafka = (
        "CREATE TABLE a (n BIGINT) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json', "
        "bootstrap_servers = 'localhost:9092', 'source.offset' = 'earliest', 'auth.password' = 'hunter2');\n"
        "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\nINSERT INTO sink SELECT n FROM a;"
    )
    away = when_created(bench.sandbox.faults.kafka_away)
    with pytest.raises(ArroyoDeployError):
        bench.deploy(replace(SPEC, query=kafka), timeout=timedelta(seconds=3), at_wait=away)
    log = bench.lines.text()
    dropped = r"Drops the state of generation 1 of orders \(checkpoint \d+, [\d.]+ s old\): Arroyo cannot carry state"
    assert re.search(dropped, bench.lines.text("WARNING"))
    assert "Source without state: a (kafka) reads from the earliest record" in log
    assert "hunter2" not in log
    assert only_running(bench).query.endswith(SPEC.query)


@both_versions
def test_state_is_dropped_only_where_that_is_allowed(bench: DeployBench) -> None:
    old = bench.deployed()
    bench.sandbox.requests.clear()
    with pytest.raises(ArroyoDeployError, match=r"Nothing was changed\. Set allow_state_loss=True") as caught:
        bench.deploy(SECOND, allow_state_loss=False)
    assert caught.value.is_fatal
    assert bench.changes_sent() == []
    assert only_running(bench).id == old.id


@both_versions
def test_refused_sql_changes_nothing(bench: DeployBench) -> None:
    old = bench.deployed()
    bench.sandbox.requests.clear()
    with pytest.raises(ArroyoQueryError):
        bench.deploy(replace(SPEC, query="SELECT nope FROM nowhere"))
    assert bench.changes_sent() == []
    assert only_running(bench).id == old.id


def test_a_replace_keeps_what_is_not_given_and_an_empty_one_removes_it(bench: DeployBench) -> None:
    def now() -> tuple[Any, Any]:
        job = bench.job(only_running(bench).id)
        return job.env_vars, job.scheduler_config

    given: tuple[Any, Any] = ({"TOKEN": "hunter2"}, {"labels": {"team": "a"}})
    bench.deployed(spec=replace(SPEC, env_vars=given[0], scheduler_config=given[1]))
    bench.deploy(SECOND)
    assert now() == given
    assert "Keeps env_vars (TOKEN) of generation 1" in bench.lines.text("INFO")
    assert "hunter2" not in bench.lines.text()
    assert bench.deploy(SECOND).progress.action == "unchanged"
    done = bench.deploy(replace(SECOND, env_vars={}))
    assert (done.progress.action, done.progress.changes[0]["argument"]) == ("updated", "env_vars")
    assert now() == ({}, given[1])
    bench.deploy(replace(SPEC, env_vars={"A": "1"}, scheduler_config={}))
    assert now() == ({"A": "1"}, {})


@both_versions
def test_the_old_pipeline_can_be_kept(bench: DeployBench) -> None:
    first = bench.deployed(keep_old=True)
    for number, spec in enumerate((SECOND, SPEC), start=2):
        done = bench.deploy(spec, keep_old=True)
        assert done.progress.generation == number
        kept = {one: state for one, state in bench.states().items() if state != "Running"}
        assert list(kept.values()) == ["Stopped"]
        assert (first.id in kept) == (number == 2)
        assert only_running(bench).query.endswith(spec.query)
    assert bench.deploy(keep_old=True).progress.action == "unchanged"
    assert bench.deploy(keep_old=False).progress.action == "replaced"
    assert len(bench.pipelines()) == 1


@pytest.mark.parametrize("bench, is_deferred", [("0.15", False), ("0.16", True)], indirect=["bench"])
def test_an_old_one_that_cannot_take_its_final_checkpoint_is_replaced(
    bench: DeployBench, is_deferred: bool
) -> None:
    """Its source is away: what the new version may be about to mend. Arroyo waits for the checkpoint for ever."""
    old = bench.deployed()
    bench.sandbox.faults.kafka_away(old.id)
    bench.sandbox.advance(25)
    began = bench.now()
    done = bench.deploy(SECOND, is_deferred=is_deferred, timeout=timedelta(minutes=6))
    assert (done.progress.action, done.progress.checkpoint) == ("replaced", None)
    assert only_running(bench).query.endswith(SECOND.query)
    assert 180 <= bench.now() - began < 240
    assert "has not finished its final checkpoint within 3 min; it is stopped without it" in bench.lines.text(
        "WARNING"
    )


@both_versions
def test_one_that_takes_its_final_checkpoint_in_the_last_moment_is_not_stopped_without(
    bench: DeployBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops after the last poll of the wait, so the checkpoint is found all the same."""
    bench.deployed()
    wait = bench._wait

    def one_poll_earlier(plan: WaitPlan, client: ArroyoClient) -> WaitResult:
        result = wait(plan, client)
        assert result.job is not None
        if result.job.state != JobState.STOPPED:
            return result
        job = replace(result.job, state=JobState.CHECKPOINT_STOPPING)
        return replace(result, outcome=Outcome.TIMED_OUT, job=job)

    monkeypatch.setattr(bench, "_wait", one_poll_earlier)
    done = bench.deploy(SECOND)
    assert (done.progress.action, done.progress.checkpoint is None) == ("replaced", False)
    assert "it is stopped without it" not in bench.lines.text()


# -- rollbacks ----------------------------------------------------------------------------------------------------


@both_versions
@both_modes
@pytest.mark.parametrize("strategy", ["stop_first", "start_first"])
def test_a_broken_version_is_rolled_back(bench: DeployBench, is_deferred: bool, strategy: str) -> None:
    old = bench.deployed()
    with pytest.raises(ArroyoDeployError) as caught:
        bench.deploy(BROKEN, is_deferred=is_deferred, strategy=strategy)
    assert caught.value.was_rolled_back
    assert caught.value.is_fatal
    run = 2 if strategy == "stop_first" else 1
    assert str(caught.value).endswith(
        f"Rolled back: pipeline 'orders' ({old.id}) is Running again (run {run})."
    )
    assert bench.known[-1].pipeline_id == old.id
    assert bench.states() == {old.id: "Running"}
    # The next deploy of the first version finds it.
    assert bench.deploy().progress.action == "unchanged"


@both_versions
def test_a_version_that_only_seems_to_run_is_rolled_back(bench: DeployBench) -> None:
    old = bench.deployed()
    away = when_created(bench.sandbox.faults.kafka_away)
    with pytest.raises(ArroyoDeployError, match="Rolled back: ") as caught:
        bench.deploy(SECOND, timeout=timedelta(seconds=50), at_wait=away)
    assert "checkpoint" in str(caught.value)
    assert bench.states() == {old.id: "Running"}


def test_leave_undoes_nothing(bench: DeployBench) -> None:
    old = bench.deployed()
    words = r"Nothing was undone \(on_failure='leave'\): the old pipeline"
    with pytest.raises(ArroyoDeployError, match=words) as caught:
        bench.deploy(BROKEN, on_failure="leave")
    assert not caught.value.is_fatal
    assert bench.states()[old.id] == "Stopped"
    # A later deploy of a good version replaces both.
    done = bench.deploy(SECOND, task=OTHER_TASK)
    assert done.progress.generation == 3
    assert list(bench.states().values()) == ["Running"]


def test_a_rollback_has_its_own_time_limit(bench: DeployBench) -> None:
    """The deploy's time is over when it begins; if its own is over, too, the error reports both."""
    old = bench.deployed()
    never = when_created(bench.sandbox.faults.never_starts)
    with pytest.raises(ArroyoDeployError, match="Rolled back"):
        bench.deploy(
            SECOND, timeout=timedelta(seconds=2), rollback_timeout=timedelta(seconds=20), at_wait=never
        )
    assert bench.states() == {old.id: "Running"}

    def down(_: Any) -> None:
        bench.sandbox.faults.controller_away()

    with pytest.raises(ArroyoDeployError, match=r"The rollback to pipeline 'orders' .* failed: ") as caught:
        bench.deploy(
            SECOND, timeout=timedelta(seconds=1), rollback_timeout=timedelta(seconds=3), at_wait=down
        )
    assert not caught.value.is_fatal
    bench.sandbox.faults.controller_back()
    bench.deploy(SECOND, task=replace(OTHER_TASK, run_id="retry"))
    assert list(bench.states().values()) == ["Running"]


def test_a_deadline_while_the_old_one_stops_withdraws_the_stop(bench: DeployBench) -> None:
    old = bench.deployed()
    bench.sandbox.faults.controller_away(seconds=5)
    with pytest.raises(ArroyoDeployError, match="Rolled back"):
        bench.deploy(SECOND, timeout=timedelta(seconds=2))
    assert bench.states() == {old.id: "Running"}


@pytest.fixture
def worker_bench() -> Any:
    """A server with job-controller = "worker", which lists checkpoints only while their run lasts."""
    with open_deploy_bench("0.16", job_controller="worker") as opened:
        yield opened


def test_state_that_a_worker_no_longer_lists_is_not_dropped_unasked(worker_bench: DeployBench) -> None:
    old = worker_bench.deployed()
    worker_bench.change(old.id, "stop", "Stopped")
    with pytest.raises(ArroyoDeployError, match="would drop the state of generation 1") as caught:
        worker_bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)
    assert "lists the checkpoints of a run only while it lasts" in str(caught.value)
    assert caught.value.is_fatal
    assert worker_bench.states() == {old.id: "Stopped"}
    assert worker_bench.deploy(SECOND, task=OTHER_TASK).progress.action == "replaced"


def test_nor_is_that_of_one_that_failed_after_it_had_run_for_long(worker_bench: DeployBench) -> None:
    old = worker_bench.deployed()
    worker_bench.change(old.id, 120, "fail", "Failed")
    with pytest.raises(ArroyoDeployError, match="would drop the state of generation 1"):
        worker_bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False)
    assert worker_bench.states() == {old.id: "Failed"}


def test_one_that_failed_at_once_is_replaced_without_asking(worker_bench: DeployBench) -> None:
    with pytest.raises(ArroyoPipelineError):
        worker_bench.deploy(BROKEN)
    worker_bench.sandbox.advance(60)
    assert worker_bench.deploy(SECOND, task=OTHER_TASK, allow_state_loss=False).progress.generation == 2


def test_a_stopped_version_without_listed_checkpoints_is_not_taken_for_one_that_never_came_up(
    worker_bench: DeployBench,
) -> None:
    first = worker_bench.deployed()
    second = worker_bench.deployed(spec=SECOND, keep_old=True)
    worker_bench.change(second.id, "stop", "Stopped")
    with pytest.raises(
        ArroyoDeployError, match=f"Rolled back: pipeline 'orders' .{second.id}. is Running again"
    ):
        worker_bench.deploy(BROKEN, task=OTHER_TASK, keep_old=True)
    assert worker_bench.states() == {second.id: "Running", first.id: "Stopped"}


def test_a_version_that_proved_itself_without_a_checkpoint_is_rolled_back_to(bench: DeployBench) -> None:
    rarely: dict[str, Any] = {"checkpoint_interval": timedelta(hours=1)}
    options: dict[str, Any] = {"until_checkpoint": False, "keep_old": True}
    first = bench.deployed(spec=replace(SPEC, **rarely), **options)
    second = bench.deployed(spec=replace(SECOND, **rarely), **options)
    with pytest.raises(ArroyoDeployError, match=rf"Rolled back: .* \({second.id}\) is Running again"):
        bench.deploy(BROKEN, task=OTHER_TASK, **options)
    assert bench.states() == {second.id: "Running", first.id: "Stopped"}


@both_versions
def test_a_version_that_has_finished_without_a_checkpoint_is_the_current_one(bench: DeployBench) -> None:
    bench.deployed(keep_old=True)
    bounded = replace(SPEC, query=BOUNDED)
    finished = bench.deployed(spec=bounded, keep_old=True)
    assert bench.states()[finished.id] == "Finished"
    assert bench.deploy(bounded, keep_old=True).progress.action == "unchanged"
    # There is no state that counts: the version before it was replaced.
    done = bench.deploy(SECOND, keep_old=True, allow_state_loss=False)
    assert done.pipeline is not None
    assert bench.states() == {finished.id: "Finished", done.pipeline.pipeline_id: "Running"}


def test_an_outage_before_any_change_causes_no_rollback(bench: DeployBench) -> None:
    old = bench.deployed()
    bench.sandbox.faults.status(503, times=None, path="*/jobs/*/checkpoints")
    with pytest.raises(Exception, match="503") as caught:
        bench.deploy(SECOND)
    assert not isinstance(caught.value, ArroyoDeployError)
    bench.sandbox.faults.clear()
    assert bench.states() == {old.id: "Running"}


def test_an_externally_stopped_pipeline_is_not_rolled_back(bench: DeployBench) -> None:
    bench.deployed()

    def stop(pipeline_id: str) -> None:
        bench.change(pipeline_id, "Running")
        bench.client.patch_pipeline(pipeline_id, stop="immediate")

    with pytest.raises(ArroyoPipelineError, match="was stopped externally"):
        bench.deploy(SECOND, at_wait=when_created(stop))
    # Another try continues and finishes the replace.
    done = bench.deploy(SECOND, task=replace(OTHER_TASK, run_id="retry"))
    assert done.progress.action == "replaced"
    assert list(bench.states().values()) == ["Running"]


@both_versions
def test_a_rollback_withdraws_its_stop_even_if_an_old_response_shows_none(bench: DeployBench) -> None:
    pipeline_id = bench.deployed().id
    before = bench.job(pipeline_id)
    assert (before.state, before.running_desired) == ("Running", True)
    bench.change(pipeline_id, "stop", "Stopped")
    Existing(bench.client).adopt(pipeline_id, before, withdraw_stop=True)
    assert bench.running() == {pipeline_id}


# -- owners -----------------------------------------------------------------------------------------------------


@both_versions
def test_a_pipeline_of_another_owner_is_not_touched(bench: DeployBench) -> None:
    theirs = bench.create_externally(SPEC)
    bench.sandbox.advance(5)
    with pytest.raises(
        ArroyoOwnershipError, match="carries no ownership label; this is deployment 'orders'"
    ) as caught:
        bench.deploy()
    assert "adopt_unowned=True takes it over" in str(caught.value)
    with pytest.raises(ArroyoOwnershipError, match="its SQL or UDFs differ from the wanted ones"):
        bench.deploy(SECOND, adopt_unowned=True)
    assert bench.states() == {theirs.id: "Running"}
    # A pipeline that does not run is no obstacle.
    bench.change(theirs.id, "stop", "Stopped")
    assert bench.deploy().progress.action == "created"
    assert bench.job(theirs.id).state == "Stopped"


@both_versions
@pytest.mark.parametrize("spec", [SPEC, SECOND])
@pytest.mark.parametrize("adopt_unowned", [False, True])
def test_a_pipeline_made_by_hand_beside_the_deployed_one_is_an_error(
    bench: DeployBench, spec: PipelineSpec, adopt_unowned: bool
) -> None:
    """Both would write. It is not taken over either: the deployment has a pipeline."""
    mine = bench.deployed()
    theirs = bench.create_externally(SPEC)
    bench.change(theirs.id, "Running")
    expected = (
        rf"{theirs.id}.* is Running, and carries no ownership label; .*generation 1 \({mine.id}, Running\)"
    )
    with pytest.raises(ArroyoOwnershipError, match=expected):
        bench.deploy(spec, adopt_unowned=adopt_unowned)
    assert bench.running() == {mine.id, theirs.id}
    # One that does not run may be kept.
    bench.change(theirs.id, "stop", "Stopped")
    bench.deploy(spec, adopt_unowned=adopt_unowned)
    assert bench.job(theirs.id).state == "Stopped"


@both_versions
def test_a_pipeline_of_another_owner_beside_the_deployed_one_is_ignored(bench: DeployBench) -> None:
    mine, other = bench.deployed(), bench.deployed(group="other")
    submitted = bench.submit(SPEC).pipeline
    assert bench.deploy().progress.action == "unchanged"
    assert bench.running() == {mine.id, submitted.id, other.id}


@both_versions
def test_an_unowned_pipeline_with_the_same_sql_is_adopted(bench: DeployBench) -> None:
    theirs = bench.create_externally(SPEC)
    bench.sandbox.advance(5)
    done = bench.deploy(replace(SPEC, parallelism=2), adopt_unowned=True)
    assert (done.progress.action, done.progress.generation) == ("updated", 0)
    assert bench.states() == {theirs.id: "Running"}


@both_versions
def test_a_copy_under_another_name_is_no_deployment(bench: DeployBench) -> None:
    """It has the label of the pipeline that was copied by hand."""
    options: dict[str, Any] = {"namespace": "staging", "is_explicit": True}
    copied = bench.deployed(spec=replace(SPEC, name="copied"), **options)
    fields = {**SPEC.to_request(query=copied.query), "tags": copied.tags}
    copy = bench.client.create_pipeline(**fields)
    with pytest.raises(ArroyoOwnershipError, match="carries no ownership label"):
        bench.deploy(SECOND, **options)
    assert bench.running() == {copied.id, copy.id}
    done = bench.deploy(adopt_unowned=True, **options)
    assert (done.progress.action, done.progress.generation) == ("unchanged", 0)
    assert bench.running() == {copied.id, copy.id}


@both_versions
def test_a_submitted_pipeline_is_not_deployed_over(bench: DeployBench) -> None:
    submitted = bench.submit(SPEC).pipeline
    with pytest.raises(
        ArroyoOwnershipError, match=r"belongs to task orders\.submit of run .*two would do the same"
    ):
        bench.deploy(adopt_unowned=True)
    assert bench.states() == {submitted.id: "Running"}


@both_versions
def test_the_same_deployment_in_another_namespace_is_an_error(bench: DeployBench) -> None:
    staging = bench.deployed(namespace="staging", is_explicit=True)
    with pytest.raises(ArroyoOwnershipError, match="set the connection's extra namespace to 'staging'"):
        bench.deploy(namespace="airflow.example.com")
    done = bench.deploy(SECOND, namespace="production", is_explicit=True)
    assert done.progress.action == "created"
    assert bench.states()[staging.id] == "Running"
    assert bench.deploy(namespace="staging", is_explicit=True).progress.action == "unchanged"


def test_a_deployment_from_before_there_was_a_namespace_is_an_error_or_a_warning(bench: DeployBench) -> None:
    """An empty namespace cannot be set, so a derived one is refused with other advice; an explicit one only warns."""
    old = bench.deployed()
    with pytest.raises(
        ArroyoOwnershipError, match="from before it had a namespace, stop and delete it; if not, set"
    ):
        bench.deploy(namespace="airflow.example.com")
    assert bench.states() == {old.id: "Running"}
    bench.deploy(namespace="production", is_explicit=True)
    assert f"(id {old.id}) belongs to the same deployment in no namespace; it is left" in bench.lines.text(
        "WARNING"
    )
    assert len(bench.states()) == 2


def test_a_deployment_from_before_the_namespace_was_set_is_a_warning(bench: DeployBench) -> None:
    old = bench.deployed(namespace="airflow.example.com")
    bench.deploy(namespace="production", is_explicit=True, derived="airflow.example.com")
    before = (
        f"(id {old.id}) belongs to the same deployment in namespace 'airflow.example.com'; it is left alone"
    )
    assert before in bench.lines.text("WARNING")
    assert len(bench.states()) == 2


@both_versions
def test_a_stop_that_finishing_ignored_is_withdrawn(bench: DeployBench) -> None:
    spec = replace(SPEC, query=ONE_ENDS)
    bench.deploy(spec, until_checkpoint=False)
    (found,) = bench.pipelines()
    bench.change(found.id, "Finishing", "stop")
    began = bench.now()
    done = bench.deploy(spec, until_checkpoint=False)
    assert (done.progress.action, bench.changes_sent()[-1]) == ("resumed", "PATCH stop=none")
    assert (bench.job(found.id).state, bench.job(found.id).running_desired) == ("Finishing", True)
    assert bench.now() - began < 10


def test_another_group_has_its_own_pipeline(bench: DeployBench) -> None:
    first = bench.deployed(group="a")
    done = bench.deploy(SECOND, group="b")
    assert (done.progress.action, len(bench.pipelines())) == ("created", 2)
    assert bench.job(first.id).state == "Running"


def test_a_label_of_a_newer_version_is_left_alone() -> None:
    with open_deploy_bench("0.15") as bench:
        bench.create_externally(SPEC, comment='-- airflow: {"label": "99", "key": "x"}\n')
        with pytest.raises(ArroyoOwnershipError, match="may belong to deployment 'orders'"):
            bench.deploy()


@pytest.mark.parametrize(
    "given", [{"env_vars": {"A": "1"}}, {"scheduler_config": {"a": 1}}, {"state_url": "s3://x"}]
)
def test_what_an_old_server_would_ignore_is_refused_before_any_change(given: dict[str, Any]) -> None:
    with open_deploy_bench("0.15") as bench:
        old = bench.deployed()
        for spec in (SPEC, SECOND):
            with pytest.raises(ArroyoUnsupportedError, match=r"older than 0\.16 and would ignore"):
                bench.deploy(replace(spec, **given))
        assert bench.states() == {old.id: "Running"}


# -- proof -----------------------------------------------------------------------------------------------------------


@both_versions
def test_a_flapping_pipeline_is_not_reported_as_unchanged(bench: DeployBench) -> None:
    """It is Running for 30 seconds at a time."""
    old = bench.deployed()
    assert bench.deploy().progress.action == "unchanged"
    bench.sandbox.faults.kafka_away(old.id)
    bench.client.restart_pipeline(old.id, force=True)
    bench.change(old.id, 70.0, "Running")
    with pytest.raises(ArroyoPipelineError, match="until_checkpoint=True waits for a checkpoint"):
        bench.deploy(timeout=timedelta(seconds=20))


# -- external changes
# -------------------------------------------------------------------------------------------------------


@both_versions
def test_two_dags_that_deploy_one_name_get_a_warning(bench: DeployBench) -> None:
    bench.deployed()
    theirs = replace(OTHER_TASK, dag_id="crm")
    bench.deploy(task=theirs)
    assert "DAG" not in bench.lines.text("WARNING")
    message = "was deployed by DAG 'shop', and this is DAG 'crm': if both go on"
    for spec in (replace(SPEC, parallelism=2), SECOND):
        bench.lines.lines.clear()
        bench.deploy(spec, task=theirs)
        assert message in bench.lines.text("WARNING")


@both_versions
@pytest.mark.parametrize("when", [Step.STOP_OLD, Step.PROVE])
def test_a_pipeline_that_is_deleted_externally_during_the_deploy(bench: DeployBench, when: Step) -> None:
    bench.deployed()

    def delete(step: Waiting) -> None:
        if step.progress.step is when:
            bench.client.patch_pipeline(step.wait.pipeline.pipeline_id, stop="immediate")
            bench.sandbox.advance(5)
            bench.client.delete_pipeline(step.wait.pipeline.pipeline_id)

    if when is Step.STOP_OLD:
        assert bench.deploy(SECOND, at_wait=delete).progress.action == "replaced"
        assert "was deleted externally" in bench.lines.text("WARNING")
    else:
        with pytest.raises(ArroyoDeployError, match=r"was deleted externally(?s:.*)Rolled back: "):
            bench.deploy(SECOND, at_wait=delete)
    assert len(bench.running()) == 1


@both_versions
def test_an_outage_while_the_old_pipeline_stops_mentions_the_request(bench: DeployBench) -> None:
    old = bench.deployed()

    def away(_: Waiting) -> None:
        bench.sandbox.faults.status(503, times=None, path="*/pipelines*")

    with pytest.raises(
        ArroyoPipelineError, match="was asked to stop, and nothing was created in its"
    ) as caught:
        bench.deploy(SECOND, at_wait=away, outage_tolerance=timedelta(seconds=5))
    assert f"ArroyoRestartPipelineOperator(pipeline_id={old.id!r})" in str(caught.value)
    bench.sandbox.faults.clear()
    assert bench.states() == {old.id: "Stopped"}
