"""Every scenario of a wait, in every mode: the same result, the same error, the same lines in the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sensors.pipelines import ArroyoPipelineSensor
from tests.support import BOUNDED, ENDLESS

from .conftest import BROKEN, Arrange
from .harness import DEFERRED, DEFERRED_LATE, RESCHEDULE, SYNC, Ended, FakeTaskInstance, run_task

OPERATOR_MODES = (SYNC, DEFERRED, DEFERRED_LATE)
SENSOR_MODES = (SYNC, DEFERRED, DEFERRED_LATE, RESCHEDULE)

Make = Callable[..., Any]


def submit(query: str = ENDLESS, **more: Any) -> Make:
    return lambda **mode: ArroyoSubmitPipelineOperator(
        task_id="a_task", query=query, **{"name": "orders", "stable_for": 0.5, "timeout": 20, **more}, **mode
    )


def sense(pipeline_id: str, *states: str, **more: Any) -> Make:
    return lambda **mode: ArroyoPipelineSensor(
        task_id="a_task",
        pipeline_id=pipeline_id,
        target_states=list(states),
        **{"timeout": 20, **more},
        **mode,
    )


def stop(pipeline_id: str, **more: Any) -> Make:
    return lambda **mode: ArroyoStopPipelineOperator(
        task_id="a_task", pipeline_id=pipeline_id, **{"timeout": 20, **more}, **mode
    )


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


def _befalls(kind: str, **fields: Any) -> Callable[[Arrange, ArroyoSandbox], Make]:
    def arranged(_: Arrange, sandbox: ArroyoSandbox) -> Make:
        getattr(sandbox.faults, kind)("orders", **fields)
        return submit(stable_for=3)

    return arranged


def _outage(seconds: float, tolerance: float) -> Callable[[Arrange, ArroyoSandbox], Make]:
    def arranged(arrange: Arrange, sandbox: ArroyoSandbox) -> Make:
        made = arrange.pipeline("Running")
        task = sense(made, "Stopped", api_outage_tolerance=tolerance)

        def make(**mode: Any) -> Any:
            return task(**mode)

        # The first look succeeds; then the API goes, and somebody stops the pipeline meanwhile.
        sandbox.faults.status(
            503, path="*/jobs", skip=2, times=None if seconds > tolerance else 2, method="GET"
        )
        sandbox.faults.stop(made, after=0.5)
        return make

    return arranged


BEFORE_RUNNING = ("Created", "Compiling", "Scheduling")

SUBMIT = {
    "reached": Scenario(lambda a, s: submit(), "Running", more={"how": "created", "finished": False}),
    "not waited for": Scenario(
        lambda a, s: submit(wait_for=None), more={"how": "created"}, state=BEFORE_RUNNING
    ),
    "bounded, wanted": Scenario(
        lambda a, s: submit(BOUNDED, wait_for="Finished"), "Finished", more={"finished": True}
    ),
    "finished early": Scenario(
        lambda a, s: submit(BOUNDED, stable_for=3), "Finished", more={"finished": True}
    ),
    "failing": Scenario(
        lambda a, s: submit(BROKEN), error=ArroyoTaskError, says=("orders", "Running was wanted")
    ),
    "failed with a reason": Scenario(
        _befalls("fail", after=0.3, error="disk full", domain="external"),
        error=ArroyoTaskError,
        says=("disk full", "orders", "/pipelines/"),
    ),
    "stopped by somebody": Scenario(
        _befalls("stop", after=0.3), error=ArroyoTaskError, says=("stopped by somebody else",)
    ),
    "deleted by somebody": Scenario(
        _befalls("delete", after=0.3), error=ArroyoTaskError, says=("deleted by",)
    ),
    "never starts": Scenario(
        lambda a, s: (s.faults.never_starts("orders"), submit(timeout=1.5))[1],
        error=ArroyoTaskError,
        says=("Scheduling", "(timeout)", "Running"),
    ),
    "unstable": Scenario(
        lambda a, s: (s.faults.flap("orders", runs=60, every=0.2), submit(stable_for=1, timeout=3))[1],
        error=ArroyoTaskError,
        says=("did not become Running", "restarted"),
    ),
    "unknown state": Scenario(
        lambda a, s: (s.faults.show_state("orders", "Hibernating", seconds=0.5), submit())[1], "Running"
    ),
    "controller away": Scenario(
        lambda a, s: (s.faults.controller_away(), submit(timeout=1))[1],
        error=ArroyoTaskError,
        says=("Created", "controller"),
    ),
}

SENSOR = {
    "reached": Scenario(lambda a, s: sense(a.pipeline(), "Running"), "Running"),
    "reached and stable": Scenario(lambda a, s: sense(a.pipeline(), "Running", stable_for=0.5), "Running"),
    "one of several": Scenario(
        lambda a, s: sense(a.pipeline(query=BOUNDED), "Finished", "Stopped"), "Finished"
    ),
    "failed is wanted": Scenario(lambda a, s: sense(a.pipeline(query=BROKEN), "Failed"), "Failed"),
    "failed": Scenario(
        lambda a, s: sense(a.pipeline("Failed", query=BROKEN), "Stopped"),
        error=ArroyoTaskError,
        says=("is Failed", "Stopped was wanted"),
    ),
    "finished, not wanted": Scenario(
        lambda a, s: sense(a.pipeline("Finished", query=BOUNDED), "Running"),
        error=ArroyoTaskError,
        says=("Finished", "never runs again"),
    ),
    "missing": Scenario(lambda a, s: sense("pl_nope", "Running"), error=ArroyoTaskError, says=("pl_nope",)),
    "out of time": Scenario(
        lambda a, s: sense(a.pipeline("Running"), "Stopped", timeout=1),
        error=AirflowSensorTimeout,
        says=("did not become Stopped", "Running for"),
    ),
    "outage that is tolerated": Scenario(_outage(2, 30), "Stopped"),
    "outage that is not": Scenario(
        _outage(99, 0.5), error=ArroyoTaskError, says=("has been unreachable for",)
    ),
}

STOP = {
    "reached": Scenario(lambda a, s: stop(a.pipeline("Running")), "Stopped", more={"missing": False}),
    "immediate": Scenario(lambda a, s: stop(a.pipeline("Running"), mode="immediate"), "Stopped"),
    "asked before it runs": Scenario(lambda a, s: stop(a.pipeline()), "Stopped"),
    "stopped already": Scenario(lambda a, s: _stopped_before(a), "Stopped"),
    "finished already": Scenario(lambda a, s: stop(a.pipeline("Finished", query=BOUNDED)), "Finished"),
    "failed": Scenario(
        lambda a, s: stop(a.pipeline("Failed", query=BROKEN)), error=ArroyoTaskError, says=("is Failed",)
    ),
    "failed is accepted": Scenario(
        lambda a, s: stop(a.pipeline("Failed", query=BROKEN), accept_failed=True), "Failed"
    ),
    "missing": Scenario(lambda a, s: stop("pl_nope"), error=ArroyoTaskError, says=("pl_nope",)),
    "missing is accepted": Scenario(
        lambda a, s: stop("pl_nope", if_missing="succeed"), more={"missing": True}
    ),
    "controller away": Scenario(
        lambda a, s: _with_controller_away(a, s), error=ArroyoTaskError, says=("did not become", "controller")
    ),
}


def _stopped_before(arrange: Arrange) -> Make:
    made = arrange.pipeline("Running")
    assert run_task(stop(made), SYNC).error is None
    return stop(made)


def _with_controller_away(arrange: Arrange, sandbox: ArroyoSandbox) -> Make:
    made = arrange.pipeline("Running")
    sandbox.faults.controller_away()
    return stop(made, timeout=1)


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
    _check_log(ended, mode)


def _check_result(ended: Ended, scenario: Scenario, sandbox: ArroyoSandbox) -> None:
    result = ended.result
    assert list(result)[:6] == ["pipeline_id", "name", "job_id", "state", "run_id", "console_url"]
    assert result["state"] in (scenario.state if isinstance(scenario.state, tuple) else (scenario.state,))
    if result["state"] is not None:
        assert result["name"] == "orders"
        assert result["console_url"] == f"{sandbox.url}/pipelines/{result['pipeline_id']}"
        assert ended.xcoms["_link_ArroyoPipelineLink"] == result["console_url"]
    assert (scenario.more or {}).items() <= result.items()


def _check_log(ended: Ended, mode: str) -> None:
    """Each change is told once; a rescheduled sensor begins anew at each poke."""
    if mode == RESCHEDULE:
        return
    changes = [text for _, text in ended.lines if " -> " in text or (" is " in text and "(run" in text)]
    runs = [text.split(" after ")[0] + text[text.rindex("(run") :] for text in changes if " -> " in text]
    assert len(runs) == len(set(runs))
    assert sum(" is " in text and "still" not in text for text in changes) <= 1


SHORT = ("Created", "Compiling", "Scheduling", "Recovering", "CheckpointStopping", "Stopping")
"""States that last so short that any poll can miss them."""


@pytest.mark.parametrize("kind", ["reached", "fail", "stop", "flap"])
def test_the_log_tells_the_same_story_in_every_mode(kind: str, sandbox: ArroyoSandbox) -> None:
    stories = []
    for mode in OPERATOR_MODES:
        name = f"story {mode}"
        if kind in ("fail", "stop"):
            getattr(sandbox.faults, kind)(name, after=2)
        elif kind == "flap":
            sandbox.faults.flap(name, runs=2, every=0.5)
        operator = submit(stable_for=1.5 if kind in ("reached", "flap") else 6, name=name)
        ended = run_task(operator, mode, FakeTaskInstance(run_id=mode))
        steps = [text.split(" -> ")[1].split()[0] for _, text in ended.lines if " -> " in text]
        stories.append([step for step in steps if step not in SHORT])
    ends = {"reached": "Running", "fail": ("Failed", "Failing"), "stop": "Stopped", "flap": "Running"}[kind]
    assert stories[0][-1] in ends
    assert stories[0] == stories[1] == stories[2]


@pytest.mark.parametrize("mode", SENSOR_MODES)
@pytest.mark.parametrize(
    "query, states", [(BROKEN, ["Running"]), (ENDLESS, ["Stopped"])], ids=["failure", "time-out"]
)
def test_soft_fail_skips_in_every_mode(
    mode: str, query: str, states: list[str], sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    from airflow.providers.common.compat.sdk import AirflowSkipException

    made = arrange.pipeline("Failed" if query == BROKEN else "Running", query=query)
    ended = run_task(sense(made, *states, soft_fail=True, timeout=0.5), mode)
    assert type(ended.error) is AirflowSkipException
    assert "orders" in str(ended.error)


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_execution_timeout_is_honoured_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout

    sandbox.faults.never_starts("orders")
    ended = run_task(submit(execution_timeout=timedelta(seconds=1)), mode)
    assert type(ended.error) is AirflowTaskTimeout
    assert "(execution_timeout)" in str(ended.error)
