"""``until_checkpoint``, ``max_restarts`` and ``Finishing``: the same in every mode.

The sandbox's clock is sixty times as fast: a source gives up on its broker after half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ONE_ENDS

from .conftest import Arrange
from .harness import DEFERRED, FROM_TRIGGER, OPERATOR_MODES, SENSOR_MODES, SYNC, Make, run_task, sense, submit
from .scenarios import Scenario, cases, check, fails

pytestmark = pytest.mark.arroyo_versions("0.15", "0.16")

RARE: dict[str, Any] = {"checkpoint_interval": 3600}
OFTEN: dict[str, Any] = {"checkpoint_interval": 10}


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(arroyo_version=request.param, seed=1, speed=60) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


def broken(make: Make) -> Callable[[Arrange], Make]:
    def arranged(arrange: Arrange) -> Make:
        arrange.sandbox.faults.kafka_away("orders")
        return make

    return arranged


def broken_before(*states: str, **more: Any) -> Callable[[Arrange], Make]:
    def arranged(arrange: Arrange) -> Make:
        arrange.sandbox.faults.kafka_away("orders")
        return sense(arrange.pipeline("Running"), *states, **more)

    return arranged


def restarted(arrange: Arrange) -> Make:
    # The checkpoints from before the restart prove nothing about the new run.
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.kill_worker(pipeline_id)
    while (job := arrange.client.get_job(pipeline_id)) is None or job.run_id < 2:
        arrange.sandbox.advance(0.05)
    return sense(pipeline_id, until_checkpoint=True, stable_for=0.1)


def with_checkpoint(arrange: Arrange) -> Make:
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.advance(30)
    return sense(pipeline_id, until_checkpoint=True, timeout=0)


GIVES_UP = "Pipeline 'orders' (", "keeps failing and starting again: ", "kafka consumer", "It "

SUBMIT = {
    "a checkpoint": Scenario(lambda a: submit(until_checkpoint=True, **OFTEN), "Running"),
    "a broker is away": fails(
        broken(submit(until_checkpoint=True, timeout=2.5, **OFTEN)),
        *GIVES_UP,
        "did not become Running within",
    ),
    "a broker is away, without a checkpoint": fails(
        broken(submit(stable_for=5, timeout=2.5)), *GIVES_UP, "did not become Running within"
    ),
    "a broker is away, few restarts": fails(
        broken(submit(until_checkpoint=True, max_restarts=1)),
        *GIVES_UP,
        "more often than max_restarts allows",
        "It restarted 2 times",
        "last errors",
    ),
    "one source ends": Scenario(lambda a: submit(ONE_ENDS), "Finishing"),
    "one source ends before a checkpoint": fails(
        lambda a: submit(ONE_ENDS, until_checkpoint=True, **RARE),
        "is Finishing, and no checkpoint finished",
        "Set until_checkpoint=False to accept this",
    ),
}
SENSOR = {
    "a checkpoint": Scenario(lambda a: sense(a.pipeline(), until_checkpoint=True), "Running"),
    # As in the last poke of a rescheduled sensor, which comes after the timeout.
    "a checkpoint, after the timeout": Scenario(with_checkpoint, "Running"),
    "a checkpoint of a later run": Scenario(restarted, "Running"),
    "a broker is away": fails(
        broken_before(until_checkpoint=True, stable_for=3, max_restarts=1),
        *GIVES_UP,
        "more often than max_restarts allows",
        modes=(*OPERATOR_MODES, FROM_TRIGGER),
    ),
    "one source ends": Scenario(
        lambda a: sense(a.pipeline("Finishing", query=ONE_ENDS), stable_for=0.3), "Finishing"
    ),
}


@pytest.mark.parametrize("scenario, mode", [*cases(SUBMIT, OPERATOR_MODES), *cases(SENSOR, SENSOR_MODES)])
def test_each_scenario_ends_alike_in_every_mode(scenario: Scenario, mode: str, arrange: Arrange) -> None:
    check(run_task(scenario.arrange(arrange), mode), scenario)


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_until_checkpoint_costs_few_requests(mode: str, arrange: Arrange) -> None:
    assert run_task(submit(until_checkpoint=True, checkpoint_interval=60), mode).error is None
    reads = [one for one in arrange.sandbox.requests if one.path.endswith("/checkpoints")]
    assert 1 <= len(reads) <= 6
