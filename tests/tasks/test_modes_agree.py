"""Every scenario of a wait, in every mode: the same result, XComs, error and log messages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    Ended,
    FakeTaskInstance,
    Make,
    StateStore,
    run_task,
    sense,
    stop,
    submit,
)

KEYS = ["pipeline_id", "pipeline_name", "job_id", "state", "run_id", "console_url", "failure_reason"]


@dataclass
class Scenario:
    """One way in which a wait can go.

    :param arrange: brings it about, and returns what makes the task.
    :param state: the state in the result, where it succeeds; or the states that it may be.
    :param error: the class of the error, where it fails.
    :param says: what the error's message holds.
    :param more: what else the result holds.
    """

    arrange: Callable[[Arrange, ArroyoSandbox], Make]
    state: str | tuple[str, ...] | None = None
    error: type[BaseException] | None = None
    says: tuple[str, ...] = ()
    more: dict[str, Any] | None = None


def _fails(arrange: Callable[[Arrange, ArroyoSandbox], Make], *says: str) -> Scenario:
    return Scenario(arrange, error=ArroyoTaskError, says=says)


def _fault(kind: str, make: Make, **fields: Any) -> Callable[[Arrange, ArroyoSandbox], Make]:
    def arranged(_: Arrange, sandbox: ArroyoSandbox) -> Make:
        faults = sandbox.faults
        getattr(faults, kind)(*(() if kind == "controller_away" else ("orders",)), **fields)
        return make

    return arranged


def _outage(tolerance: float, *, ends: bool) -> Callable[[Arrange, ArroyoSandbox], Make]:
    def arranged(arrange: Arrange, sandbox: ArroyoSandbox) -> Make:
        pipeline_id = arrange.pipeline("Running")
        # The first polls succeed; then the API goes, and the pipeline may be stopped externally meanwhile.
        sandbox.faults.status(503, path="*/jobs", skip=2, times=2 if ends else None, method="GET")
        if ends:
            sandbox.faults.stop(pipeline_id, after=0.5 * SPEED)
        return sense(pipeline_id, "Stopped", api_outage_tolerance=tolerance)

    return arranged


def _stopped_before(arrange: Arrange, _: ArroyoSandbox) -> Make:
    task = stop(arrange.pipeline("Running"))
    assert run_task(task, SYNC).error is None
    return task


def _without_controller(arrange: Arrange, sandbox: ArroyoSandbox) -> Make:
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.controller_away()
    return stop(pipeline_id, timeout=2)


def _created_later(arrange: Arrange, sandbox: ArroyoSandbox, id_: str | None = None) -> Make:
    def create() -> None:
        with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
            if id_ is None:
                client.create_pipeline(name="orders", query=ENDLESS)
            else:
                client.put_pipeline(id_, name="orders", query=ENDLESS)

    arrange.after_polls(create, polls=1, path="*")
    if id_ is None:
        return sense(None, pipeline_name="orders")
    return sense(id_, if_missing="wait")


SUBMIT = {
    "reached": Scenario(lambda a, s: submit(), "Running", more={"action": "created", "finished": False}),
    "not waited for": Scenario(
        _fault("never_starts", submit(wait_for=None)),
        ("Created", "Compiling", "Scheduling"),
        more={"action": "created"},
    ),
    "bounded, wanted": Scenario(
        lambda a, s: submit(BOUNDED, wait_for="Finished"), "Finished", more={"finished": True}
    ),
    "finished early": Scenario(
        lambda a, s: submit(BOUNDED, stable_for=3), "Finished", more={"finished": True}
    ),
    "failing": _fails(lambda a, s: submit(BROKEN), "orders", "Running was wanted"),
    "failed with a reason": _fails(
        _fault("fail", submit(stable_for=3), after=0.3, error="disk full", domain="external"),
        *("disk full", "orders", "/pipelines/"),
    ),
    "stopped externally": _fails(_fault("stop", submit(stable_for=3), after=0.3), "was stopped externally"),
    "deleted externally": _fails(_fault("delete", submit(stable_for=3), after=0.3), "was deleted externally"),
    "never starts": _fails(
        _fault("never_starts", submit(timeout=3)), "Scheduling", "(timeout)", "did not become Running"
    ),
    "unstable": _fails(
        _fault("flap", submit(stable_for=1, timeout=3), runs=60, every=0.2),
        *("did not become Running", "restarted"),
    ),
    "unknown state": Scenario(
        lambda a, s: (s.faults.show_state("orders", "Hibernating", seconds=0.5), submit())[1], "Running"
    ),
    "controller away": _fails(_fault("controller_away", submit(timeout=3)), "Created", "controller"),
}

SENSOR = {
    "reached": Scenario(lambda a, s: sense(a.pipeline(), "Running"), "Running"),
    "reached and stable": Scenario(lambda a, s: sense(a.pipeline(), "Running", stable_for=0.5), "Running"),
    "by name": Scenario(
        lambda a, s: sense((a.pipeline(), None)[1], "Running", pipeline_name="orders"), "Running"
    ),
    "by name, created later": Scenario(_created_later, "Running"),
    "by name, never there": Scenario(
        lambda a, s: sense(None, pipeline_name="orders", timeout=1),
        error=AirflowSensorTimeout,
        says=("There is no pipeline named 'orders' after", "(timeout)"),
    ),
    "by id, never there": Scenario(
        lambda a, s: sense("pl_nope", if_missing="wait", timeout=1),
        error=AirflowSensorTimeout,
        says=("There is no pipeline 'pl_nope' after", "(timeout)"),
    ),
    "by name, missing": _fails(
        lambda a, s: sense(None, pipeline_name="orders", if_missing="fail"),
        "There is no pipeline named 'orders' on this Arroyo",
    ),
    "one of several": Scenario(
        lambda a, s: sense(a.pipeline(query=BOUNDED), "Finished", "Stopped"), "Finished"
    ),
    "failed is wanted": Scenario(lambda a, s: sense(a.pipeline(query=BROKEN), "Failed"), "Failed"),
    "failed": _fails(
        lambda a, s: sense(a.pipeline("Failed", query=BROKEN), "Stopped"),
        *("is Failed", "Stopped was wanted"),
    ),
    "finished, not wanted": _fails(
        lambda a, s: sense(a.pipeline("Finished", query=BOUNDED), "Running"),
        *("is Finished", "never runs again"),
    ),
    "missing": _fails(lambda a, s: sense("pl_nope", "Running"), "pl_nope"),
    "timeout": Scenario(
        lambda a, s: sense(a.pipeline("Running"), "Stopped", timeout=1),
        error=AirflowSensorTimeout,
        says=("did not become Stopped within", "(timeout): it "),
    ),
    "outage that is tolerated": Scenario(_outage(30, ends=True), "Stopped"),
    "outage that is not": _fails(_outage(0.5, ends=False), "has been unreachable for"),
}

STOP = {
    "reached": Scenario(lambda a, s: stop(a.pipeline("Running")), "Stopped", more={"missing": False}),
    "immediate": Scenario(lambda a, s: stop(a.pipeline("Running"), mode="immediate"), "Stopped"),
    "requested before it runs": Scenario(lambda a, s: stop(a.pipeline()), "Stopped"),
    "stopped already": Scenario(_stopped_before, "Stopped"),
    "finished already": Scenario(lambda a, s: stop(a.pipeline("Finished", query=BOUNDED)), "Finished"),
    "failed": _fails(lambda a, s: stop(a.pipeline("Failed", query=BROKEN)), "is Failed"),
    "failed is accepted": Scenario(
        lambda a, s: stop(a.pipeline("Failed", query=BROKEN), accept_failed=True), "Failed"
    ),
    "missing": _fails(lambda a, s: stop("pl_nope"), "pl_nope"),
    "missing is accepted": Scenario(
        lambda a, s: stop("pl_nope", if_missing="succeed"), more={"missing": True}
    ),
    "controller away": _fails(_without_controller, "did not become", "controller"),
}


def _cases(scenarios: dict[str, Scenario], modes: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(scenario, mode, id=f"{name}-{mode}")
        for name, scenario in scenarios.items()
        for mode in modes
    ]


@pytest.mark.parametrize(
    "scenario, mode",
    [*_cases(SUBMIT, OPERATOR_MODES), *_cases(SENSOR, SENSOR_MODES), *_cases(STOP, OPERATOR_MODES)],
)
def test_each_scenario_ends_alike_in_every_mode(
    scenario: Scenario, mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    ended = run_task(scenario.arrange(arrange, sandbox), mode)
    if scenario.error is None:
        assert ended.error is None, ended.error
        _check_result(ended, scenario, sandbox)
    else:
        assert type(ended.error) is scenario.error, ended.error
        for piece in scenario.says:
            assert piece in str(ended.error)
    if mode != RESCHEDULE:
        # Each change is logged once; a rescheduled sensor starts again each time.
        assert len(ended.changes()) == len(set(ended.changes()))


def _check_result(ended: Ended, scenario: Scenario, sandbox: ArroyoSandbox) -> None:
    result = ended.result
    assert list(result)[:7] == KEYS
    assert result["state"] in (scenario.state if isinstance(scenario.state, tuple) else (scenario.state,))
    if result["state"] is not None:
        assert result["pipeline_name"] == "orders"
        assert result["console_url"] == f"{sandbox.url}/pipelines/{result['pipeline_id']}"
        assert ended.xcoms["_link_ArroyoPipelineLink"] == result["console_url"]
    assert (scenario.more or {}).items() <= result.items()


SHORT = ("Created", "Compiling", "Scheduling", "Recovering", "CheckpointStopping", "Stopping")
"""States so short that any poll can miss them."""


@pytest.mark.parametrize("kind", ["reached", "fail", "stop", "flap"])
def test_the_log_shows_the_same_states_in_every_mode(kind: str, sandbox: ArroyoSandbox) -> None:
    def states(mode: str) -> list[str]:
        name = f"pipeline {mode}"
        if kind in ("fail", "stop"):
            getattr(sandbox.faults, kind)(name, after=2 * SPEED)
        elif kind == "flap":
            sandbox.faults.flap(name, runs=2, every=1.0 * SPEED)
        make = submit(stable_for=1.5 if kind in ("reached", "flap") else 6, pipeline_name=name)
        ended = run_task(make, mode, FakeTaskInstance(run_id=mode))
        return [state for state in ended.states() if state not in SHORT]

    # At the same time: they wait most of it.
    with ThreadPoolExecutor(len(OPERATOR_MODES)) as pool:
        seen = list(pool.map(states, OPERATOR_MODES))
    ends = {"reached": ["Running"], "fail": ["Failed", "Failing"], "stop": ["Stopped"], "flap": ["Running"]}
    assert seen[0][-1] in ends[kind]
    assert seen[0] == seen[1] == seen[2]


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
def test_an_id_may_be_waited_for_before_there_is_such_a_pipeline(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """Only 0.16 lets the caller choose it."""
    ended = run_task(_created_later(arrange, sandbox, "pl_mine"), mode)
    assert ended.error is None, ended.error
    assert (ended.result["pipeline_id"], ended.result["state"]) == ("pl_mine", "Running")
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
        # What Airflow 3.3 keeps from poke to poke.
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
    # A try that adopts returns what the first one did.
    ti.try_number = 2
    assert run_task(submit(), mode, ti).result == {**first, "action": "adopted"}


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_execution_timeout_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.never_starts("orders")
    ended = run_task(submit(execution_timeout=timedelta(seconds=3)), mode)
    assert type(ended.error) is AirflowTaskTimeout
    assert "(execution_timeout): it has been Scheduling for" in str(ended.error)
