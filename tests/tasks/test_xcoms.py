"""The XComs of a task, however it ends: its pipeline as soon as it is known, and the observed states."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BOUNDED, ENDLESS

from .conftest import BROKEN, SPEED, Arrange
from .harness import (
    OPERATOR_MODES,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    Make,
    context,
    run_task,
    sense,
    stop,
    submit,
)

LINK = "_link_ArroyoPipelineLink"
TIMES_OUT = submit(wait_for="Finished", timeout=1)


def check_pipeline(xcoms: dict[str, Any], sandbox: ArroyoSandbox) -> None:
    """Check the XComs that identify the pipeline."""
    assert xcoms["pipeline_id"]
    assert xcoms["pipeline_name"] == "orders"
    assert xcoms[LINK] == f"{sandbox.url}/pipelines/{xcoms['pipeline_id']}"


def check_transitions(xcoms: dict[str, Any], last: str) -> None:
    """Check the transitions up to the last state."""
    seen = xcoms["arroyo_transitions"]
    assert seen[-1]["state"] == last
    times = [datetime.fromisoformat(one["at"]) for one in seen]
    assert times == sorted(times)
    assert {str(time.tzinfo) for time in times} == {"UTC"}


@pytest.mark.parametrize("mode", OPERATOR_MODES)
@pytest.mark.parametrize(
    "make, last",
    [
        (submit(), "Running"),
        (submit(BOUNDED, wait_for="Finished"), "Finished"),
        (submit(BROKEN), "Failed"),
        (TIMES_OUT, "Running"),
    ],
    ids=["running", "finished", "failed", "timeout"],
)
def test_the_xcoms_of_a_submit(make: Make, last: str, mode: str, sandbox: ArroyoSandbox) -> None:
    ti = FakeTaskInstance()
    if make is TIMES_OUT:
        # Otherwise, on a slow machine, it would time out before the pipeline runs.
        run_task(submit(), SYNC)
        ti.try_number = 2
    ended = run_task(make, mode, ti)
    assert (ended.error is None) == (last in ("Finished",) or ended.result is not None)
    check_pipeline(ended.xcoms, sandbox)
    # Failing already counts as the failure.
    if last == "Failed" and ended.xcoms["arroyo_transitions"][-1]["state"] == "Failing":
        last = "Failing"
    check_transitions(ended.xcoms, last)


def test_a_submit_that_times_out_leaves_its_pipeline_for_teardown(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.never_starts("orders")
    ti = FakeTaskInstance()
    assert run_task(submit(timeout=2), SYNC, ti).error is not None
    check_pipeline(ti.xcoms, sandbox)
    sandbox.faults.clear()
    ended = run_task(stop(ti.xcoms["pipeline_id"]), SYNC)
    assert ended.result["state"] == "Stopped"


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_the_xcoms_of_a_stop(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    ended = run_task(stop(arrange.pipeline("Running")), mode)
    check_pipeline(ended.xcoms, sandbox)
    check_transitions(ended.xcoms, "Stopped")
    assert ended.xcoms["arroyo_transitions"][-1]["stop_requested"] is True


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize("named", [False, True], ids=["id", "name"])
def test_the_xcoms_of_a_sensor(mode: str, named: bool, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.stop(pipeline_id, after=0.7)
    make = sense(None, "Stopped", pipeline_name="orders") if named else sense(pipeline_id, "Stopped")
    ended = run_task(make, mode)
    check_pipeline(ended.xcoms, sandbox)
    check_transitions(ended.xcoms, "Stopped")


@pytest.mark.parametrize(
    "make", [submit(wait_for="Finished"), sense("pl_1", "Stopped")], ids=["submit", "sense"]
)
def test_xcoms_exist_while_a_task_is_deferred(make: Make, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    operator, ti = make(deferrable=True, defer_after=0), FakeTaskInstance()
    if operator.pipeline_id is not None:
        operator.pipeline_id = arrange.pipeline("Running")
    with pytest.raises(TaskDeferred):
        operator.execute(context(ti))
    check_pipeline(ti.xcoms, sandbox)
    check_transitions(ti.xcoms, ti.xcoms["arroyo_transitions"][0]["state"])


def test_states_from_before_a_deferral_are_included(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    # The first run lasts until a poll has seen it, however slow the machine is.
    arrange.after_polls(partial(sandbox.faults.flap, "orders", runs=3, every=0.4 * SPEED), polls=1)
    ended = run_task(submit(stable_for=1.5, timeout=100), "deferred late")
    assert ended.deferrals == 1
    runs = {one["run_id"] for one in ended.xcoms["arroyo_transitions"]}
    assert min(runs) <= 1
    assert max(runs) == 4


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_an_expected_failure_returns_its_reason(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    sandbox.faults.fail("orders", after=0.3, error="disk full", domain="external")
    ended = run_task(sense(arrange.pipeline(), "Failed"), mode)
    assert "disk full" in ended.result["failure_reason"]


@pytest.mark.parametrize("key", ["pipeline_id", "pipeline_name", "return_value"])
def test_the_output_of_a_submit_has_its_keys(key: str, sandbox: ArroyoSandbox) -> None:
    """``submit.output["pipeline_id"]`` is the XCom of that key, which a failed submit has, too."""
    ti = FakeTaskInstance(task_id="submit")
    ended = run_task(submit(), SYNC, ti)
    ti.xcoms["return_value"] = ended.result
    with DAG("a_dag", schedule=None):
        task = ArroyoSubmitPipelineOperator(task_id="submit", pipeline_name="orders", query="SELECT 1")
        whole: Any = task.output
        output = whole if key == "return_value" else whole[key]

    class Reader:
        task = None

        def xcom_pull(self, *, task_ids: Any, key: str, default: Any = None, **_: Any) -> Any:
            assert task_ids in ("submit", ["submit"])
            return ti.xcoms.get(key, default)

    value = output.resolve({"ti": Reader(), "expanded_ti_count": None})
    assert value == (ended.result if key == "return_value" else ended.result[key])


def deploys() -> Make:
    """Return a factory for a task that deploys the pipeline ``orders``."""
    given = {"pipeline_name": "orders", "query": ENDLESS, "until_checkpoint": False, "timeout": 20}
    return lambda **mode: ArroyoDeployPipelineOperator(task_id="a_task", **{**given, **mode})


@pytest.mark.arroyo_versions("0.15")
@pytest.mark.parametrize("kind, lists_before", [("submit", 1), ("deploy", 1)])
def test_a_task_that_fails_after_its_create_leaves_its_pipeline(
    kind: str, lists_before: int, sandbox: ArroyoSandbox
) -> None:
    """On 0.15, the create is followed by a search for duplicates."""
    make = submit() if kind == "submit" else deploys()
    sandbox.faults.status(403, path="*/pipelines", method="GET", skip=lists_before, times=None)
    ended = run_task(make, SYNC)
    sandbox.faults.clear()
    assert sandbox.requests.count("POST", "*/pipelines") == 1
    check_pipeline(ended.xcoms, sandbox)
    pipeline_id = ended.xcoms["pipeline_id"]
    assert sandbox.state(pipeline_id) is not None
    assert type(ended.error) is ArroyoFatalTaskError
    text = f"However, pipeline 'orders' exists, id {pipeline_id}. Clear this task to continue with it."
    assert text in str(ended.error)
    assert "forbids this (403)" in str(ended.error)
    assert any(pipeline_id in text for text in ended.texts("WARNING"))


@pytest.mark.arroyo_versions("0.15")
def test_a_task_that_fails_before_its_create_leaves_no_pipeline(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(403, path="*/pipelines", method="GET", times=None)
    ended = run_task(submit(), SYNC)
    assert "pipeline_id" not in ended.xcoms
    assert "exists" not in str(ended.error)
