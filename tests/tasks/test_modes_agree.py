"""Every scenario of a wait, in every mode: the same result, XComs, error and log messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BOUNDED, ENDLESS

from .conftest import BROKEN, SPEED, Arrange
from .harness import (
    DEFERRED,
    OPERATOR_MODES,
    RESCHEDULE,
    SENSOR_MODES,
    SYNC,
    FakeTaskInstance,
    Make,
    StateStore,
    run_task,
    sense,
    stop,
    submit,
)
from .scenarios import KEYS, Scenario, cases, check, fails

pytestmark = pytest.mark.arroyo_versions("0.15", "0.16")


def _fault(kind: str, make: Make, **fields: Any) -> Callable[[Arrange], Make]:
    def arranged(arrange: Arrange) -> Make:
        getattr(arrange.sandbox.faults, kind)(*(() if kind == "controller_away" else ("orders",)), **fields)
        return make

    return arranged


def _outage(tolerance: float, *, ends: bool) -> Callable[[Arrange], Make]:
    def arranged(arrange: Arrange) -> Make:
        pipeline_id, faults = arrange.pipeline("Running"), arrange.sandbox.faults
        # The first polls succeed; then the API goes down, and the pipeline may be stopped externally.
        faults.status(503, path="*/jobs", skip=2, times=2 if ends else None, method="GET")
        if ends:
            faults.stop(pipeline_id, after=0.5 * SPEED)
        return sense(pipeline_id, "Stopped", api_outage_tolerance=tolerance)

    return arranged


def _stopped_before(arrange: Arrange) -> Make:
    task = stop(arrange.pipeline("Running"))
    assert run_task(task, SYNC).error is None
    return task


def _without_controller(arrange: Arrange) -> Make:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.controller_away()
    return stop(pipeline_id, timeout=2)


def _created_later(arrange: Arrange, id_: str | None = None) -> Make:
    def create() -> None:
        with ArroyoClient(ClientSettings(base_url=arrange.sandbox.url)) as client:
            if id_ is None:
                client.create_pipeline(name="orders", query=ENDLESS)
            else:
                client.put_pipeline(id_, name="orders", query=ENDLESS)

    if id_ is None:
        arrange.after_polls(create, polls=1, path="*")
        return sense(None, pipeline_name="orders")
    # A poll has found that there is none: it takes two responses.
    arrange.after_polls(create, polls=2, path=f"*/{id_}/jobs")
    return sense(id_, if_missing="wait")


SUBMIT = {
    "reached": Scenario(lambda a: submit(), "Running", more={"action": "created", "finished": False}),
    "not waited for": Scenario(
        _fault("never_starts", submit(wait_for=None)),
        ("Created", "Compiling", "Scheduling"),
        more={"action": "created"},
    ),
    "bounded, wanted": Scenario(
        lambda a: submit(BOUNDED, wait_for="Finished"), "Finished", more={"finished": True}
    ),
    "finished early": Scenario(lambda a: submit(BOUNDED, stable_for=3), "Finished", more={"finished": True}),
    "failing": fails(lambda a: submit(BROKEN), "orders", "the goal was Running"),
    "failed with a reason": fails(
        _fault("fail", submit(stable_for=3), after=0.3, error="disk full", domain="external"),
        *("orders", "disk full", "/pipelines/"),
    ),
    "stopped externally": fails(_fault("stop", submit(stable_for=3), after=0.3), "was stopped externally"),
    "deleted externally": fails(_fault("delete", submit(stable_for=3), after=0.3), "was deleted externally"),
    "never starts": fails(
        _fault("never_starts", submit(timeout=3)), "did not become Running", "(timeout)", "Scheduling"
    ),
    "unstable": fails(
        _fault("flap", submit(stable_for=1, timeout=3), runs=60, every=0.2),
        "did not become Running",
        "restarted",
    ),
    "unknown state": Scenario(
        lambda a: (a.sandbox.faults.show_state("orders", "Hibernating", seconds=0.5), submit())[1], "Running"
    ),
    "controller away": fails(_fault("controller_away", submit(timeout=3)), "Created", "controller"),
}

SENSOR = {
    "reached": Scenario(lambda a: sense(a.pipeline(), "Running"), "Running"),
    "reached and stable": Scenario(lambda a: sense(a.pipeline(), "Running", stable_for=0.5), "Running"),
    "by name": Scenario(
        lambda a: sense((a.pipeline(), None)[1], "Running", pipeline_name="orders"), "Running"
    ),
    "by name, created later": Scenario(_created_later, "Running"),
    "by name, never there": fails(
        lambda a: sense(None, pipeline_name="orders", timeout=1),
        "There is no pipeline named 'orders' after",
        "(timeout)",
        error=AirflowSensorTimeout,
    ),
    "by id, never there": fails(
        lambda a: sense("pl_nope", if_missing="wait", timeout=1),
        "There is no pipeline 'pl_nope' after",
        "(timeout)",
        error=AirflowSensorTimeout,
    ),
    "by name, missing": fails(
        lambda a: sense(None, pipeline_name="orders", if_missing="fail"),
        "There is no pipeline named 'orders' on this Arroyo",
    ),
    "one of several": Scenario(lambda a: sense(a.pipeline(query=BOUNDED), "Finished", "Stopped"), "Finished"),
    "failed is wanted": Scenario(lambda a: sense(a.pipeline(query=BROKEN), "Failed"), "Failed"),
    "failed": fails(
        lambda a: sense(a.pipeline("Failed", query=BROKEN), "Stopped"),
        "is Failed",
        "the goal was Stopped",
    ),
    "finished, not wanted": fails(
        lambda a: sense(a.pipeline("Finished", query=BOUNDED), "Running"),
        "is Finished",
        "never runs again",
    ),
    "missing": fails(lambda a: sense("pl_nope", "Running"), "pl_nope"),
    "timeout": fails(
        lambda a: sense(a.pipeline("Running"), "Stopped", timeout=1),
        "did not become Stopped within",
        "(timeout): it ",
        error=AirflowSensorTimeout,
    ),
    "outage that is tolerated": Scenario(_outage(30, ends=True), "Stopped"),
    "outage that is not": fails(_outage(0.5, ends=False), "has been unreachable for"),
}

STOP = {
    "reached": Scenario(lambda a: stop(a.pipeline("Running")), "Stopped", more={"missing": False}),
    "immediate": Scenario(lambda a: stop(a.pipeline("Running"), mode="immediate"), "Stopped"),
    "requested before it runs": Scenario(lambda a: stop(a.pipeline()), "Stopped"),
    "stopped already": Scenario(_stopped_before, "Stopped"),
    "finished already": Scenario(lambda a: stop(a.pipeline("Finished", query=BOUNDED)), "Finished"),
    "failed": fails(lambda a: stop(a.pipeline("Failed", query=BROKEN)), "is Failed"),
    "failed is accepted": Scenario(
        lambda a: stop(a.pipeline("Failed", query=BROKEN), accept_failed=True), "Failed"
    ),
    "missing": fails(lambda a: stop("pl_nope"), "pl_nope"),
    "missing is accepted": Scenario(lambda a: stop("pl_nope", if_missing="succeed"), more={"missing": True}),
    "controller away": fails(_without_controller, "did not become", "controller"),
}


@pytest.mark.parametrize(
    "scenario, mode",
    [*cases(SUBMIT, OPERATOR_MODES), *cases(SENSOR, SENSOR_MODES), *cases(STOP, OPERATOR_MODES)],
)
def test_each_scenario_ends_alike_in_every_mode(scenario: Scenario, mode: str, arrange: Arrange) -> None:
    ended = run_task(scenario.arrange(arrange), mode)
    check(ended, scenario)
    if mode != RESCHEDULE:
        # Each change is logged once; a rescheduled sensor starts again each time.
        assert len(ended.changes()) == len(set(ended.changes()))


SHORT = ("Created", "Compiling", "Scheduling", "Recovering", "CheckpointStopping", "Stopping")
"""States that are short enough for polls to miss them."""


@pytest.mark.parametrize(
    "faults, seen",
    [
        ([], ["Running"]),
        (["fail"], ["Running", "Failed"]),
        (["stop"], ["Running", "Stopped"]),
        (["flap", "flap", "stop"], ["Running", "Running", "Running", "Stopped"]),
    ],
    ids=["reached", "fail", "stop", "flap"],
)
def test_the_log_shows_the_same_states_in_every_mode(
    faults: list[str], seen: list[str], sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    def inject(name: str, run: int, fault: str, *later: str) -> None:
        """Inject each of the faults once a poll has seen another run, however slow the machine is."""
        arrange.until_run(name, run)

        def act() -> None:
            getattr(sandbox.faults, fault)(name, **({"runs": 1} if fault == "flap" else {}))
            if later:
                inject(name, run + 1, *later)

        arrange.after_polls(act)

    more: dict[str, Any] = {"stable_for": 60, "timeout": 120} if faults else {}
    for mode in OPERATOR_MODES:
        name = f"pipeline {mode}"
        if faults:
            arrange.after_polls(inject, name, 1, *faults)
        ended = run_task(submit(pipeline_name=name, **more), mode, FakeTaskInstance(run_id=mode))
        states = [state for state in ended.states() if state not in SHORT]
        assert [state.replace("Failing", "Failed") for state in states] == seen


@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_the_same_messages_in_every_mode(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    texts = run_task(sense(pipeline_id, "Running"), mode).texts()
    console = f"{sandbox.url}/pipelines/{pipeline_id}"
    assert texts[0] == f"Waiting for Running: orders, id {pipeline_id}, {console}"
    assert texts[1] == "Running: orders (run 1)"
    assert texts[2] == "Done, Running: orders (run 1)"
    assert [text for text in texts[3:] if text != "Success criteria met. Exiting."] == []


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("mode", SENSOR_MODES)
def test_a_wait_for_an_id_may_begin_before_the_pipeline_exists(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """Only 0.16 lets the caller choose it."""
    ended = run_task(_created_later(arrange, "pl_mine"), mode)
    assert ended.error is None, ended.error
    assert (ended.result["pipeline_id"], ended.result["state"]) == ("pl_mine", "Running")
    # The look-up before the wait could not know its name.
    assert ended.result["pipeline_name"] == ended.xcoms["pipeline_name"] == "orders"
    assert ended.xcoms["_link_ArroyoPipelineLink"] == f"{sandbox.url}/pipelines/pl_mine"
    assert len([text for text in ended.texts() if "No such pipeline yet" in text]) == 1


@pytest.mark.parametrize("which", ["id", "name", "name, must exist", "id, may be missing"])
def test_a_pipeline_that_is_deleted_between_two_polls_is_the_same_error_in_every_mode(
    which: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    more: dict[str, Any] = {
        "id, may be missing": {"if_missing": "wait"},
        "name, must exist": {"if_missing": "fail"},
    }
    errors = {}
    for mode in SENSOR_MODES:
        pipeline_id, given = arrange.pipeline("Running"), more.get(which, {})
        make = (
            sense(None, "Stopped", pipeline_name="orders", **given)
            if which.startswith("name")
            else sense(pipeline_id, "Stopped", **given)
        )
        arrange.after_polls(sandbox.faults.delete, pipeline_id)
        # What Airflow 3.3 stores between pokes.
        error = run_task(make, mode, FakeTaskInstance(state_store=StateStore())).error
        assert type(error) is ArroyoTaskError, (mode, error)
        data = {**vars(error.error)}
        assert (data.pop("pipeline_id"), data["outcome"]) == (pipeline_id, "deleted")
        assert data.pop("job_id")
        errors[mode] = (str(error).replace(pipeline_id, "ID"), str(data).replace(pipeline_id, "ID"))
    assert len(set(errors.values())) == 1, errors
    assert errors[SYNC][0].startswith(
        "Pipeline 'orders' (ID) was deleted externally; last seen Running (run 1)."
    )


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_every_mode_returns_the_same(mode: str, sandbox: ArroyoSandbox) -> None:
    ti = FakeTaskInstance()
    first = run_task(submit(), mode, ti).result
    assert list(first) == [*KEYS, "action", "finished"]
    assert [key for key, value in first.items() if value is None] == ["failure_reason"]
    # A try that adopts the pipeline returns the same.
    ti.try_number = 2
    assert run_task(submit(), mode, ti).result == {**first, "action": "adopted"}


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_an_execution_timeout_is_reported_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.never_starts("orders")
    ended = run_task(submit(execution_timeout=timedelta(seconds=3)), mode)
    assert type(ended.error) is AirflowTaskTimeout
    assert "(execution_timeout): it has been Scheduling for" in str(ended.error)
