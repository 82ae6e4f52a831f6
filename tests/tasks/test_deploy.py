"""The deploy operator as Airflow runs it: in the worker and deferred, its result, its errors, its arguments."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS, KilledError, Lines
from tests.tasks import harness
from tests.tasks.conftest import BROKEN, Arrange
from tests.tasks.harness import DEFERRED, SYNC, Ended, FakeTaskInstance, context, quiet, run_task

SECOND = ENDLESS.replace("'10'", "'20'")
RESULT = {
    *("pipeline_id", "pipeline_name", "job_id", "state", "run_id", "console_url", "failure_reason"),
    *("action", "generation", "changes", "not_applied", "checkpoint", "finished", "dry_run"),
}


def deploy(
    query: str = ENDLESS, mode: str = SYNC, *, ti: FakeTaskInstance | None = None, **more: Any
) -> Ended:
    return run_task(harness.deploy(query, **more), mode, ti)


@pytest.mark.arroyo_versions("0.15", "0.16")
@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_versions_are_deployed_in_turn(sandbox: ArroyoSandbox, arrange: Arrange, mode: str) -> None:
    created = deploy(mode=mode)
    assert created.error is None
    assert set(created.result) == RESULT
    assert created.result["action"] == "created"
    assert created.xcoms["pipeline_id"] == created.result["pipeline_id"]

    same = deploy(mode=mode)
    assert (same.result["action"], same.deferrals) == ("unchanged", 0)
    assert same.result["pipeline_id"] == created.result["pipeline_id"]

    scaled = deploy(mode=mode, parallelism=2)
    assert (scaled.result["action"], scaled.result["run_id"]) == ("updated", 2)
    assert scaled.result["changes"] == [{"argument": "parallelism", "difference": "parallelism: 1 → 2"}]

    replaced = deploy(SECOND, mode, parallelism=2)
    assert (replaced.result["action"], replaced.result["generation"]) == ("replaced", 2)
    assert replaced.result["checkpoint"]["epoch"] >= 1
    seen = replaced.xcoms["arroyo_transitions"]
    # Of both waits: for the old pipeline's stop, and for the new one's start.
    assert len({one["job_id"] for one in seen}) == 2
    assert "Stopped" in [one["state"] for one in seen]
    assert seen[-1]["state"] == "Running"
    assert "+ CREATE TABLE impulse" in replaced.result["changes"][0]["difference"]

    failed = deploy(BROKEN, mode, parallelism=2)
    assert isinstance(failed.error, ArroyoFatalTaskError)
    assert f"Rolled back: pipeline 'orders' ({replaced.result['pipeline_id']}) is Running again" in str(
        failed.error
    )
    # The new one, which it showed until then, is deleted.
    assert failed.xcoms["pipeline_id"] == replaced.result["pipeline_id"]
    assert failed.xcoms["_link_ArroyoPipelineLink"] == replaced.result["console_url"]
    assert len({one["job_id"] for one in failed.xcoms["arroyo_transitions"]}) == 2
    (only,) = sandbox.store.pipelines.values()
    assert (only.id, arrange.state(only.id)) == (replaced.result["pipeline_id"], "Running")
    assert all(one.deferrals for one in (created, scaled, replaced, failed)) == (mode == DEFERRED)


def test_an_empty_environment_is_not_the_same_as_none(sandbox: ArroyoSandbox) -> None:
    deploy(env_vars={"A": "1"})
    assert deploy().result["action"] == "unchanged"
    assert [one["argument"] for one in deploy(env_vars={}).result["changes"]] == ["env_vars"]


def test_both_modes_log_the_same(sandbox: ArroyoSandbox) -> None:
    def logged(mode: str) -> set[str]:
        texts = deploy(f"{ENDLESS}\n-- {mode}", mode).texts()
        # Which states are polled depends on timing.
        heads = [
            re.split(":[ \n]", text)[0]
            for text in texts
            if not re.search(r"\((run |no run yet)", text) or text.startswith("Done")
        ]
        # The number and age of a checkpoint, and the generation, differ between deploys.
        return {re.sub(r"(generation|Checkpoint) \d.*", r"\1", head) for head in heads}

    deploy()
    in_worker = logged(SYNC)
    assert in_worker >= {
        "Plan, replaced",
        "Changes query",
        "Source without state",
        "Stop requested (checkpoint)",
        "Created generation",
        "Deleted",
        "Done, Running",
    }
    assert logged(DEFERRED) >= in_worker


def test_the_link_and_the_name_are_pushed_before_the_end(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.never_starts("orders")
    ended = deploy(timeout=2, checkpoint_interval=1)
    assert isinstance(ended.error, ArroyoTaskError)
    (only,) = sandbox.store.pipelines.values()
    assert ended.xcoms["pipeline_id"] == only.id
    assert ended.xcoms["pipeline_name"] == "orders"


@pytest.mark.usefixtures("_soon_lost")
def test_a_killed_task_undoes_nothing_and_logs_that(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    there = deploy().result
    lines = Lines()
    log = logging.Logger("killed")
    log.addHandler(lines)
    operator = ArroyoDeployPipelineOperator(
        task_id="a_task",
        pipeline_name="orders",
        query=SECOND,
        checkpoint_interval=1,
        allow_state_loss=True,
        deferrable=False,
    )

    def kill(*_: Any, **__: Any) -> Any:
        operator.on_kill()
        raise KilledError

    sandbox.requests.clear()
    with mock.patch("airflow_provider_arroyo.polling.poll.poll_until", kill), pytest.raises(KilledError):
        quiet(operator, log).execute(context())
    expected = (
        f"interrupted when it had stopped pipeline 'orders' ({there['pipeline_id']}) and not yet created"
    )
    assert expected in lines.text("WARNING")
    assert [request.json for request in sandbox.requests.find("PATCH")] == [{"stop": "checkpoint"}]

    ti = FakeTaskInstance(try_number=2)
    ended = deploy(SECOND, ti=ti)
    assert (ended.result["action"], ended.result["generation"]) == ("replaced", 2)
    (only,) = sandbox.store.pipelines.values()
    assert only.id != there["pipeline_id"]
    assert arrange.state(only.id) == "Running"


def test_a_dry_run_changes_nothing(sandbox: ArroyoSandbox) -> None:
    first = deploy(dry_run=True)
    assert (first.result["action"], first.result["pipeline_id"]) == ("created", None)
    assert not sandbox.store.pipelines
    there = deploy().result
    ended = deploy(SECOND, dry_run=True)
    assert (ended.result["action"], ended.result["dry_run"]) == ("replaced", True)
    assert ended.result["pipeline_id"] == there["pipeline_id"]
    assert deploy("SELECT 1 FROM nowhere", dry_run=True).error is not None
    assert deploy().result["action"] == "unchanged"


def test_refused_sql_touches_nothing(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    there = deploy().result
    ended = deploy("SELECT 1 FROM nowhere")
    assert isinstance(ended.error, ArroyoFatalTaskError)
    assert re.search("able '?nowhere'? not found", str(ended.error))
    assert arrange.state(there["pipeline_id"]) == "Running"
    assert not sandbox.requests.find("PATCH")


def test_state_is_not_dropped_without_allow_state_loss(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    there = deploy().result
    ended = deploy(SECOND, allow_state_loss=False)
    assert isinstance(ended.error, AirflowFailException)
    assert "Set allow_state_loss=True" in str(ended.error)
    assert arrange.state(there["pipeline_id"]) == "Running"
    assert not sandbox.requests.find("PATCH")


def test_a_mapped_task_is_shown_by_its_pipeline(sandbox: ArroyoSandbox) -> None:
    operator = ArroyoDeployPipelineOperator(
        task_id="a_task", pipeline_name="orders", query=ENDLESS, dry_run=True
    )
    mapped: Any = {"ti": FakeTaskInstance(map_index=3), "map_index_template": None}
    operator.execute(mapped)
    assert mapped["map_index_template"] == "{{ task.pipeline_name }}"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"pipeline_name": "x" * 201}, "pipeline_name must have at most 200 characters, got 201"),
    ({"pipeline_name": "a\nb"}, "pipeline_name must be one line"),
    ({"query": " "}, "query must be a non-empty string"),
    ({"group": ""}, "group must not be empty"),
    ({"strategy": "blue_green"}, "strategy must be one of 'stop_first', 'start_first'"),
    ({"on_failure": "ignore"}, "on_failure must be one of 'rollback', 'leave'"),
    ({"keep_old": "false"}, "keep_old must be True or False, got 'false'"),
    ({"allow_state_loss": 1}, "allow_state_loss must be True or False"),
    ({"checkpoint_interval": timedelta(minutes=10)}, "timeout must be longer than checkpoint_interval"),
    (
        {"execution_timeout": timedelta(minutes=14)},
        "execution_timeout must be timeout + rollback_timeout or more",
    ),
    (
        {"execution_timeout": timedelta(minutes=9), "on_failure": "leave"},
        "execution_timeout must be timeout or more",
    ),
]


@pytest.mark.parametrize("given,words", BAD)
def test_invalid_arguments_are_refused_when_the_dag_is_parsed(given: dict[str, Any], words: str) -> None:
    arguments = {"pipeline_name": "orders", "query": ENDLESS, **given}
    with pytest.raises(ValueError, match=re.escape(words)):
        ArroyoDeployPipelineOperator(task_id="a_task", **arguments)


def test_rendered_templates_are_checked(sandbox: ArroyoSandbox) -> None:
    operator = ArroyoDeployPipelineOperator(task_id="a_task", pipeline_name="{{ x }}", query=ENDLESS)
    operator.pipeline_name = "a\nb"
    with pytest.raises(ArroyoFatalTaskError, match="pipeline_name must be one line"):
        operator.execute(context())
    assert not list(sandbox.requests)


@pytest.mark.parametrize(
    "status, message", [(500, "although Arroyo responds"), (429, "although Arroyo responds")]
)
def test_an_error_of_the_checkpoints_is_no_outage(status: int, message: str, sandbox: ArroyoSandbox) -> None:
    assert deploy().error is None
    sandbox.faults.status(status, path="*/checkpoints", error="the store is full", times=None)
    ended = deploy(SECOND, api_outage_tolerance=0.5)
    assert type(ended.error) is ArroyoTaskError
    text = str(ended.error)
    assert re.search(rf"GET /pipelines/.*/checkpoints failed for .*, {message}", text), text
    assert "the store is full" in text
    assert "unreachable" not in text
