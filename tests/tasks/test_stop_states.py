"""Stops in ambiguous states: ``Finishing``, just started, restarted before; the same in every mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.monitoring.event import WaitEvent
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ONE_ENDS

from .conftest import BROKEN, Arrange
from .harness import DEFERRED, SYNC, context, run_task, stop
from .test_meanwhile import at_request

pytestmark = pytest.mark.arroyo_versions("0.15", "0.16")


def finishing(arrange: Arrange) -> str:
    return arrange.pipeline("Finishing", query=ONE_ENDS)


def held_in_finishing(arrange: Arrange) -> str:
    pipeline_id = finishing(arrange)
    arrange.sandbox.faults.show_state(pipeline_id, "Finishing")
    return pipeline_id


def about_to_finish(arrange: Arrange) -> str:
    pipeline_id = finishing(arrange)
    arrange.sandbox.faults.show_state(pipeline_id, "Running", seconds=2)
    return pipeline_id


def restarted_after_a_failure(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    arrange.client.restart_pipeline(pipeline_id)
    return pipeline_id


def resumed(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Running")
    arrange.client.patch_pipeline(pipeline_id, stop="immediate")
    arrange.until(pipeline_id, "Stopped")
    arrange.client.patch_pipeline(pipeline_id, stop="none")
    return pipeline_id


def restarted_and_stopped_by_force(arrange: Arrange) -> str:
    pipeline_id = arrange.pipeline("Running")
    arrange.client.restart_pipeline(pipeline_id)
    arrange.until_run(pipeline_id, 2)
    arrange.client.patch_pipeline(pipeline_id, stop="force")
    arrange.until(pipeline_id, "Stopped")
    return pipeline_id


@dataclass
class Scenario:
    """One state, and the result of a stop in it.

    :param arrange: sets it up, and returns the pipeline's id.
    :param ends: the possible states of the pipeline at the end.
    :param asks: the requests of the task, in order.
    :param error: text in the error, if the task fails.
    """

    arrange: Callable[[Arrange], str]
    ends: tuple[str, ...]
    asks: list[str]
    error: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "finishing": Scenario(
        finishing,
        ("Finishing",),
        [],
        "is Finishing: one of its sources has ended, and from then on Arroyo takes no",
    ),
    "finishing, immediate instead": Scenario(
        finishing, ("Finished",), ["immediate"], arguments={"if_finishing": "immediate"}
    ),
    "finishing, immediate wanted": Scenario(
        finishing, ("Finished",), ["immediate"], arguments={"mode": "immediate"}
    ),
    "finishing, immediate instead of graceful": Scenario(
        finishing, ("Finished",), ["immediate"], arguments={"mode": "graceful", "if_finishing": "immediate"}
    ),
    "finishing, immediate instead of force": Scenario(
        finishing, ("Finished",), ["immediate"], arguments={"mode": "force"}
    ),
    "finishing after the request, immediate instead of force": Scenario(
        about_to_finish, ("Finished",), ["force", "immediate"], arguments={"mode": "force"}
    ),
    "finishing, graceful": Scenario(
        finishing,
        ("Finishing",),
        ["graceful"],
        "from then on Arroyo obeys only a stop with mode 'immediate'",
        arguments={"mode": "graceful", "timeout": 1},
    ),
    "finishing, immediate, not obeyed": Scenario(
        held_in_finishing,
        ("Finishing",),
        ["immediate"],
        "A stop with mode 'immediate' was requested, and Arroyo should obey it in that state.",
        arguments={"mode": "immediate", "timeout": 1},
    ),
    "finishing, immediate instead, not obeyed": Scenario(
        held_in_finishing,
        ("Finishing",),
        ["immediate"],
        "A stop with mode 'immediate' was requested, and Arroyo should obey it in that state.",
        arguments={"if_finishing": "immediate", "timeout": 1},
    ),
    "restarted after a failure": Scenario(restarted_after_a_failure, ("Stopped", "Failed"), ["checkpoint"]),
    "resumed": Scenario(resumed, ("Stopped",), ["checkpoint"]),
    "restarted, stopped by force": Scenario(
        restarted_and_stopped_by_force,
        ("Stopped",),
        [],
        "nothing proves that it took a final checkpoint",
        arguments={"require_checkpoint": True},
    ),
}


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_stop_in_every_mode(name: str, mode: str, arrange: Arrange) -> None:
    scenario = SCENARIOS[name]
    pipeline_id = scenario.arrange(arrange)
    arrange.sandbox.requests.clear()
    # A pipeline that fails again before its stop does not run any more, either.
    ended = run_task(stop(pipeline_id, **{"accept_failed": True, **scenario.arguments}), mode)
    asked = [one.json["stop"] for one in arrange.sandbox.requests if one.method == "PATCH"]
    assert asked == scenario.asks
    assert arrange.state(pipeline_id) in scenario.ends
    if scenario.error is None:
        assert ended.error is None, ended.error
        assert ended.result["state"] in scenario.ends
    else:
        assert type(ended.error) is ArroyoTaskError, ended.error
        assert scenario.error in str(ended.error)


@pytest.mark.parametrize("if_finishing", ["fail", "immediate"])
def test_a_stop_that_ended_in_finishing_is_an_error_with_advice(if_finishing: str, arrange: Arrange) -> None:
    """It was running when the stop was requested; a source ended before the stop took effect."""
    pipeline_id = finishing(arrange)
    result = WaitResult(
        outcome=Outcome.NO_CHECKPOINT,
        target_states=("Failed", "Finished", "Stopped"),
        job=arrange.client.get_job(pipeline_id),
    )
    event = WaitEvent(pipeline=PipelineRef(pipeline_id=pipeline_id, name="orders"), result=result).to_dict()
    operator = stop(pipeline_id, if_finishing=if_finishing)()
    if if_finishing == "immediate":
        assert operator.execute_complete(context(), event=event)["state"] == "Finished"
    else:
        with pytest.raises(ArroyoTaskError, match="Set if_finishing='immediate' to request that"):
            operator.execute_complete(context(), event=event)
    assert arrange.state(pipeline_id) == ("Finished" if if_finishing == "immediate" else "Finishing")


def test_the_checkpoint_of_a_stopped_first_run_is_proven_later(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Running")
    first = run_task(stop(pipeline_id, require_checkpoint=True), SYNC)
    assert first.error is None, first.error
    again = run_task(stop(pipeline_id), SYNC).result
    # For a pipeline that is already stopped, only a server that sends types can prove it.
    is_proven = arrange.sandbox.arroyo_version != "0.15"
    assert again["checkpoint"] == (first.result["checkpoint"] if is_proven else None)


def test_a_pipeline_that_fails_instead_of_stopping_is_an_error(arrange: Arrange) -> None:
    pipeline_id = arrange.pipeline("Failed", query=BROKEN)
    ended = run_task(stop(pipeline_id), SYNC)
    assert type(ended.error) is ArroyoTaskError
    assert "; the goal was Stopped." in str(ended.error)


def test_a_new_pipeline_runs_and_takes_its_final_checkpoint(arrange: Arrange) -> None:
    ended = run_task(stop(arrange.pipeline(), require_checkpoint=True), SYNC)
    assert ended.error is None, ended.error
    assert ended.result["checkpoint"]["epoch"] == 1


def test_a_pipeline_that_never_ran_has_no_checkpoint(
    arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange.sandbox.faults.late_pickup("*", seconds=1000)
    pipeline_id = arrange.pipeline()
    at_request(monkeypatch, after=lambda: arrange.sandbox.advance(1000))
    ended = run_task(stop(pipeline_id), SYNC)
    assert (ended.result["state"], ended.result["run_id"]) == ("Stopped", 0)
    text = f"Pipeline 'orders' ({pipeline_id}) was stopped before its first run, so it has no checkpoint."
    assert ended.texts("WARNING") == [text]


@pytest.mark.parametrize("is_required", [False, True])
def test_a_worker_that_leads_the_job_takes_the_proof_with_it(
    is_required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ArroyoSandbox(arroyo_version="0.16", seed=1, speed=4, job_controller="worker") as sandbox,
        ArroyoClient(ClientSettings(base_url=sandbox.url)) as client,
    ):
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri())
        pipeline_id = Arrange(sandbox, client).pipeline("Running")
        sandbox.advance(12)
        ended = run_task(stop(pipeline_id, require_checkpoint=is_required), SYNC)
        assert sandbox.state(pipeline_id) == "Stopped"
    said = "Arroyo no longer lists its checkpoints, so nothing can prove that it took a final one."
    assert said in (str(ended.error) if is_required else ended.texts("WARNING")[0])


GONE = {"status": 404, "error": "Job not found"}
BROKEN_DOWN = {"status": 500, "error": "boom"}


@pytest.mark.parametrize("response", [GONE, BROKEN_DOWN], ids=["404", "500"])
@pytest.mark.parametrize("skip", [0, 1], ids=["before the request", "after it"])
def test_a_stop_needs_no_readable_checkpoints(arrange: Arrange, response: dict[str, Any], skip: int) -> None:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.status(**response, path="*/checkpoints", times=None, skip=skip)
    ended = run_task(stop(pipeline_id, if_missing="succeed", api_outage_tolerance=0.5), SYNC)
    assert ended.error is None, ended.error
    assert (ended.result["state"], ended.result["missing"]) == ("Stopped", False)
    assert ended.result["checkpoint"] is None
    assert any("checkpoints cannot be read" in text for text in ended.texts("WARNING"))
    assert arrange.state(pipeline_id) == "Stopped"


@pytest.mark.parametrize("response", [GONE, BROKEN_DOWN], ids=["404", "500"])
def test_required_checkpoints_must_be_readable(arrange: Arrange, response: dict[str, Any]) -> None:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.status(**response, path="*/checkpoints", times=None)
    make = stop(pipeline_id, require_checkpoint=True, if_missing="succeed", api_outage_tolerance=0.5)
    assert "its checkpoints cannot be read" in str(run_task(make, SYNC).error)
    assert arrange.state(pipeline_id) == "Running"
    arrange.client.patch_pipeline(pipeline_id, stop="immediate")
    arrange.until(pipeline_id, "Stopped")
    # A pipeline that is already stopped proves nothing, either.
    assert "its checkpoints cannot be read" in str(run_task(make, SYNC).error)


def test_an_outage_before_a_stop_does_not_prevent_the_proof(arrange: Arrange) -> None:
    """The task waits for its end, so that the stop can be proven."""
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.reset(method="GET", path="*/checkpoints", times=3)
    ended = run_task(stop(pipeline_id, require_checkpoint=True), SYNC)
    assert ended.error is None, ended.error
    assert ended.result["checkpoint"] is not None
