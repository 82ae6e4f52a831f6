"""A task that resumes in another world than it was deferred in: its DAG was changed, or its connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoStopPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS
from tests.tasks.conftest import SPEED, Arrange
from tests.tasks.harness import DEFERRED, SYNC, Ended, Make, deploy, run_task

SECOND = ENDLESS.replace("'10'", "'20'")
THIRD = ENDLESS.replace("'10'", "'30'")


@pytest.fixture(autouse=True)
def _no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ARROYO__DEFERRAL_HOLD", "0")


def halves(*makes: Make) -> Make:
    """Return what makes one task for each half of a deferred one, the last one for all that follow."""
    made: Iterator[Make] = iter(makes)
    last: list[Make] = []

    def make(**mode: Any) -> Any:
        last[:] = [next(made, *last)]
        return last[0](**mode)

    return make


def running(sandbox: ArroyoSandbox) -> dict[str, str]:
    """Return the ids of the pipelines that run, with their names."""
    pipelines = sandbox.store.pipelines.values()
    return {one.id: one.name for one in pipelines if sandbox.state(one.id) == "Running"}


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("stop_first", {"pipeline_name": "payments"}),
    ("stop_first", {"pipeline_name": "payments", "query": SECOND, "keep_old": True}),
    ("start_first", {"pipeline_name": "payments", "group": "other"}),
]


@pytest.mark.parametrize("strategy, changed", CHANGES)
def test_deploy_whose_task_is_for_another_pipeline_now(
    strategy: str, changed: dict[str, Any], sandbox: ArroyoSandbox
) -> None:
    """As where a new file in a folder moves the indexes of a mapped task."""
    for query in (SECOND, THIRD):
        assert run_task(deploy(query), SYNC).error is None
    for group in ("default", "other"):
        assert run_task(deploy(pipeline_name="payments", group=group), SYNC).error is None
    before = running(sandbox)

    given = {"strategy": strategy}
    # Nothing has happened yet when the task defers.
    sandbox.faults.controller_away(4)
    ended = run_task(halves(deploy(**given), deploy(**{**given, **changed})), DEFERRED)

    after = running(sandbox)
    assert sorted(after.values()) == ["orders", "payments", "payments"]
    if strategy == "stop_first":
        # The new one was still to be created, from SQL that is of another pipeline by now.
        assert isinstance(ended.error, ArroyoFatalTaskError)
        assert "began to deploy pipeline 'orders', and is for 'payments' now" in str(ended.error)
        assert "Rolled back: pipeline 'orders'" in str(ended.error)
        assert after == before
    else:
        assert ended.error is None
        assert (ended.result["pipeline_name"], ended.result["generation"]) == ("orders", 3)
        assert after.keys() - before.keys() == {ended.result["pipeline_id"]}


def test_deploy_that_only_moved_to_another_group(sandbox: ArroyoSandbox) -> None:
    for query in (SECOND, ENDLESS):
        ended = run_task(halves(deploy(query), deploy(query, group="other")), DEFERRED)
        assert ended.error is None
    assert list(running(sandbox)) == [ended.result["pipeline_id"]]
    assert ended.result["generation"] == 2


def test_deploy_whose_sql_was_changed_again_meanwhile(sandbox: ArroyoSandbox) -> None:
    """What was validated before anything was stopped is not what is to be created."""
    old = run_task(deploy(), SYNC).result["pipeline_id"]

    def resumed_with(query: str) -> Ended:
        sandbox.requests.clear()
        return run_task(halves(deploy(SECOND), deploy(query)), DEFERRED)

    refused = resumed_with("SELECT 1 FROM nowhere")
    assert isinstance(refused.error, ArroyoFatalTaskError)
    assert re.search("able '?nowhere'? not found", str(refused.error))
    assert f"Rolled back: pipeline 'orders' ({old})" in str(refused.error)
    creates = [one for one in sandbox.requests if one.method == "PUT" or one.path.endswith("/pipelines")]
    assert not [one for one in creates if one.method != "GET"]

    back = resumed_with(ENDLESS)
    assert "was changed back while this task was deferred" in str(back.error)
    assert list(running(sandbox)) == [old]
    assert run_task(deploy(), SYNC).result["action"] == "unchanged"

    third = resumed_with(THIRD)
    assert "The arguments were changed while this task was deferred: orders" in third.texts("WARNING")
    assert "event_rate = '30'" in third.result["changes"][0]["difference"]
    assert list(running(sandbox)) == [third.result["pipeline_id"]]

    same = run_task(deploy(SECOND), DEFERRED)
    assert same.result["action"] == "replaced"
    assert not [text for text in same.texts() if text.startswith("The arguments were changed")]


# -- another server ------------------------------------------------------------------------------------------------


def _stop(pipeline_id: str) -> Make:
    return lambda **mode: ArroyoStopPipelineOperator(
        task_id="a_task", pipeline_id=pipeline_id, timeout=20, require_checkpoint=True, **mode
    )


def _delete(pipeline_id: str) -> Make:
    return lambda **mode: ArroyoDeletePipelineOperator(
        task_id="a_task", pipeline_id=pipeline_id, timeout=20, **mode
    )


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("make", [_stop, _delete, lambda _: deploy(SECOND)], ids=["stop", "delete", "deploy"])
def test_connection_that_leads_to_another_server_meanwhile(
    make: Callable[[str], Make], sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch, arrange: Arrange
) -> None:
    """Ids of pipelines are the same on both, so what the task knows of one must not be done to the other."""

    def lead_to(server: ArroyoSandbox) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())

    with ArroyoSandbox(arroyo_version="0.16", seed=2, speed=SPEED) as other:
        for server in (other, sandbox):
            lead_to(server)
            created: Ended = run_task(deploy(), SYNC)
        task, pipeline_id = make(created.result["pipeline_id"]), created.result["pipeline_id"]
        assert list(running(other)) == [pipeline_id]
        other.requests.clear()

        def elsewhere(**mode: Any) -> Any:
            lead_to(other)
            return task(**mode)

        ended = run_task(halves(task, elsewhere), DEFERRED)
        assert ended.deferrals == 1
        assert isinstance(ended.error, ArroyoTaskError | ArroyoFatalTaskError)
        assert f"led to {sandbox.url} when this wait began, and now leads to {other.url}" in str(ended.error)
        assert "is Running again" not in str(ended.error)
        assert other.requests.total == 0
