"""A task that resumes after its DAG or its connection has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoStopPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BROKEN, ENDLESS
from tests.tasks.conftest import SPEED, Arrange
from tests.tasks.harness import DEFERRED, SYNC, Ended, FakeTaskInstance, Make, deploy, run_task, submit
from tests.tasks.test_meanwhile import at_request

SECOND = ENDLESS.replace("'10'", "'20'")
THIRD = ENDLESS.replace("'10'", "'30'")


@pytest.fixture(autouse=True)
def _no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ARROYO__DEFERRAL_HOLD", "0")


def halves(*makes: Make) -> Make:
    """Return a factory for a different task in each half of a deferred one; the last is used for all later halves."""
    made: Iterator[Make] = iter(makes)
    last: list[Make] = []

    def make(**mode: Any) -> Any:
        last[:] = [next(made, *last)]
        return last[0](**mode)

    return make


def running(sandbox: ArroyoSandbox) -> dict[str, str]:
    """Return the ids of the running pipelines, with their names."""
    pipelines = sandbox.store.pipelines.values()
    return {one.id: one.name for one in pipelines if sandbox.state(one.id) == "Running"}


def rendered(make: Make, folder: Path) -> Make:
    """Return a factory for the task as Airflow runs it: in a DAG of this folder, with rendered fields."""

    def make_rendered(**mode: Any) -> Any:
        dag: Any = DAG("a_dag", schedule=None, template_searchpath=[str(folder)])
        operator = make(dag=dag, **mode)
        dag.resolve_template_files()
        operator.render_template_fields({"params": {}})
        return operator

    return make_rendered


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of SQL, next to the DAG."""
    path = tmp_path / "orders.sql"
    path.write_text(SECOND)
    return path


# -- a deploy or a submit whose DAG, file or Variable was changed ---------------------------------------------------

GONE: dict[str, Any] = {"query": "gone.sql"}
CHANGES: dict[str, dict[str, Any]] = {
    "its file is gone": GONE,
    "a name in its SQL is gone": {"query": "{{ nope }}"},
    "it has other SQL": {"query": THIRD},
    "its SQL is a path": {"query": "{{ 'orders.sql' }}"},
    "it has no name": {"pipeline_name": "{{ nope }}"},
    "it is for another pipeline": {"pipeline_name": "payments"},
    "it moved to another group": {"group": "{{ 'other' }}"},
    "an argument is wrong": {"parallelism": "{{ 'x' }}"},
    "it has another connection": {"arroyo_conn_id": "{{ nope }}"},
}
REPLACE = {"strategy": "stop_first"}
SOON: dict[str, Any] = {"until_checkpoint": False, "stable_for": 0}
"""For a pipeline that only has to exist."""


@dataclass
class Wait:
    """The wait during which a deploy's task is changed.

    :param given: its arguments.
    :param error: the text of the error; None: it succeeds, with a new generation.
    :param deferrals: how often it defers at most.
    """

    given: dict[str, Any]
    error: str | None = None
    deferrals: int = 1


WAITS = {
    "proof": Wait(REPLACE),
    "stop after the proof": Wait({"strategy": "start_first"}, deferrals=2),
    "rollback": Wait({"query": BROKEN}, "Rolled back: pipeline 'orders'", deferrals=2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_deploy_finishes_what_it_began(sandbox: ArroyoSandbox, change: str, file: Path) -> None:
    _continues(sandbox, "proof", change, file)


@pytest.mark.parametrize("wait", WAITS)
def test_a_deploy_finishes_without_its_file(sandbox: ArroyoSandbox, wait: str, file: Path) -> None:
    _continues(sandbox, wait, "its file is gone", file)


def _continues(sandbox: ArroyoSandbox, wait: str, change: str, file: Path) -> None:
    """Check that a deploy finishes what it began; otherwise, two versions would be left running, or none."""
    old = run_task(deploy(**SOON), SYNC).result["pipeline_id"]
    for more in ({"pipeline_name": "payments"}, {"group": "other"}):
        assert run_task(deploy(THIRD, **more, **SOON), SYNC).error is None
    others = running(sandbox).keys() - {old}

    expected, given = WAITS[wait], {"query": "orders.sql", "until_checkpoint": False, **WAITS[wait].given}
    first, then = deploy(**given), deploy(**{**given, **CHANGES[change]})
    ended = run_task(rendered(halves(first, then), file.parent), DEFERRED)

    after = running(sandbox)
    assert others <= after.keys()
    assert len(after) == 3
    # On a slow machine, the first poll may already see the stop, so nothing is waited for.
    assert 1 <= ended.deferrals <= expected.deferrals
    if expected.error is not None:
        assert isinstance(ended.error, ArroyoFatalTaskError)
        assert expected.error in str(ended.error)
        assert old in after
    else:
        assert ended.error is None, ended.error
        assert (ended.result["pipeline_name"], ended.result["generation"]) == ("orders", 2)
        assert after.keys() - others == {ended.result["pipeline_id"]}
        assert sandbox.store.pipelines[ended.result["pipeline_id"]].query.endswith(SECOND)
    if CHANGES[change] is GONE:
        assert "An argument cannot be rendered any more" in "\n".join(ended.texts("WARNING"))


@pytest.mark.usefixtures("sandbox")
def test_the_stop_and_the_create_happen_in_one_process(
    arrange: Arrange, sandbox: ArroyoSandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the stop takes long: a worker that resumes may be late, and may not have the SQL."""
    old = run_task(deploy(**SOON), SYNC).result["pipeline_id"]
    sandbox.faults.controller_away(4)
    at_request(monkeypatch, after=file.unlink)
    ended = run_task(rendered(deploy("orders.sql"), file.parent), DEFERRED)
    assert (ended.error, ended.deferrals) == (None, 1)
    assert list(running(sandbox)) == [ended.result["pipeline_id"]]
    assert ended.result["pipeline_id"] != old


@pytest.mark.parametrize(
    "change", [*(name for name in CHANGES if name != "it moved to another group"), "none"]
)
@pytest.mark.arroyo_versions("0.15")
def test_a_changed_submit_reports_what_it_created(
    sandbox: ArroyoSandbox, client: ArroyoClient, change: str, file: Path
) -> None:
    """It also deletes the duplicate that a late request created in the meantime."""
    late: list[str] = []
    first, then = submit("orders.sql"), submit(**{"query": "orders.sql", **CHANGES.get(change, {})})

    def resumed(**mode: Any) -> Any:
        (made,) = client.iter_pipelines()
        label = OwnershipLabel.of(made)
        assert label is not None
        copy = label.for_new_request().to_comment({}) + THIRD
        late.append(client.create_pipeline(name="orders", query=copy).id)
        return then(**mode)

    ended = run_task(rendered(halves(first, resumed), file.parent), DEFERRED)
    assert (ended.error, ended.deferrals) == (None, 1)
    assert (ended.result["action"], ended.result["pipeline_name"]) == ("created", "orders")
    assert sandbox.store.pipelines.keys() == {ended.result["pipeline_id"]}
    assert late != [ended.result["pipeline_id"]]


@pytest.mark.parametrize(
    "now",
    [
        *({"parallelism": 3}, {"parallelism": "None"}, {"env_vars": {"NUMBER": "9"}}, {"env_vars": {"N": 9}}),
        *({"checkpoint_interval": timedelta(seconds=30)}, {"scheduler_config": {"node": "other"}}),
    ],
)
@pytest.mark.arroyo_versions("0.16")
def test_an_update_checks_what_it_requested_whatever_its_dag_says_by_then(
    now: dict[str, Any], arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running")
    wanted: dict[str, Any] = {"parallelism": 2, "env_vars": {"NUMBER": "1"}}

    def update(**mode: Any) -> Any:
        return ArroyoUpdatePipelineOperator(
            task_id="a_task", pipeline_id=pipeline_id, timeout=20, stable_for=0.3, **wanted, **mode
        )

    def resumed(**mode: Any) -> Any:
        operator = update(**mode)
        for field, value in now.items():
            setattr(operator, field, value)
        return operator

    ended = run_task(halves(update, resumed), DEFERRED)
    assert (ended.error, ended.deferrals) == (None, 1)
    assert [one["argument"] for one in ended.result["changes"]] == ["parallelism", "env_vars"]


def test_a_template_error_fails_a_task_that_starts(sandbox: ArroyoSandbox, tmp_path: Path) -> None:
    for make in (submit("gone.sql"), deploy("gone.sql")):
        for try_number in (1, 2):
            ended = run_task(rendered(make, tmp_path), SYNC, FakeTaskInstance(try_number=try_number))
            assert isinstance(ended.error, ArroyoArgumentError)
            assert "'gone.sql' was not found in" in str(ended.error)
            message = "An earlier try of this task may have started or stopped pipeline 'orders'"
            assert (message in "".join(ended.texts("WARNING"))) == (try_number == 2)
    assert sandbox.requests.total == 0


# -- another server ------------------------------------------------------------------------------------------------


def _stop(pipeline_id: str) -> Make:
    return lambda **mode: ArroyoStopPipelineOperator(
        task_id="a_task", pipeline_id=pipeline_id, timeout=20, require_checkpoint=True, **mode
    )


def _delete(pipeline_id: str) -> Make:
    return lambda **mode: ArroyoDeletePipelineOperator(
        task_id="a_task", pipeline_id=pipeline_id, timeout=20, **mode
    )


@pytest.mark.parametrize("make", [_stop, _delete, lambda _: deploy(SECOND)], ids=["stop", "delete", "deploy"])
def test_a_connection_that_was_edited_to_another_server_is_an_error(
    make: Callable[[str], Make], sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch, arrange: Arrange
) -> None:
    """Both servers may have the same pipeline ids, so the task must not change a pipeline of the other server."""

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
