"""``until_checkpoint``, ``max_restarts`` and ``Finishing``: alike in every mode, on both versions.

The sandbox's time passes sixty times as fast: a source gives up on its broker after half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS

from .conftest import Arrange
from .harness import DEFERRED, OPERATOR_MODES, RESCHEDULE, SENSOR_MODES, SYNC, Make, run_task, sense, submit

ONE_ENDS = (
    ENDLESS
    + """
CREATE TABLE few WITH (connector = 'impulse', event_rate = '100', message_count = '20');
INSERT INTO sink SELECT counter FROM few;"""
)
RARE: dict[str, Any] = {"checkpoint_interval": 3600}
OFTEN: dict[str, Any] = {"checkpoint_interval": 10}


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(arroyo_version=request.param, seed=1, speed=60) as server:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", server.airflow_connection_uri())
        yield server


@dataclass
class Scenario:
    """One way in which a wait can go.

    :param make: brings it about, and returns what makes the task.
    :param states: the states that a success may end in; none where the task fails.
    :param says: what the error says, in this order.
    """

    make: Callable[[Arrange], Make]
    states: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


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
    # Its checkpoints of before the restart prove nothing of the run that follows.
    pipeline_id = arrange.pipeline("Running")
    arrange.sandbox.faults.kill_worker(pipeline_id)
    while (job := arrange.client.get_job(pipeline_id)) is None or job.run_id < 2:
        arrange.sandbox.advance(0.05)
    return sense(pipeline_id, until_checkpoint=True, stable_for=0.1)


GIVES_UP = "Pipeline 'orders' (", "keeps failing and starting again: ", "kafka consumer", "It "

SUBMIT = {
    "a checkpoint": Scenario(lambda a: submit(until_checkpoint=True, **OFTEN), ("Running",)),
    "a broker is away": Scenario(
        broken(submit(until_checkpoint=True, timeout=2.5, **OFTEN)),
        says=(*GIVES_UP, "did not become Running within"),
    ),
    "a broker is away, without a checkpoint": Scenario(
        broken(submit(stable_for=5, timeout=2.5)), says=(*GIVES_UP, "did not become Running within")
    ),
    "a broker is away, few restarts": Scenario(
        broken(submit(until_checkpoint=True, max_restarts=1)),
        says=(*GIVES_UP, "more often than max_restarts allows", "It restarted 2 times", "last errors"),
    ),
    "one source ends": Scenario(lambda a: submit(ONE_ENDS), ("Finishing",)),
    "one source ends before a checkpoint": Scenario(
        lambda a: submit(ONE_ENDS, until_checkpoint=True, **RARE),
        says=("is Finishing, and no checkpoint finished", "Set until_checkpoint=False to accept this"),
    ),
}
SENSOR = {
    "a checkpoint": Scenario(lambda a: sense(a.pipeline(), until_checkpoint=True), ("Running",)),
    "a checkpoint of a later run": Scenario(restarted, ("Running",)),
    "a broker is away": Scenario(
        broken_before(until_checkpoint=True, stable_for=3, max_restarts=1),
        says=(*GIVES_UP, "more often than max_restarts allows"),
    ),
    "one source ends": Scenario(
        lambda a: sense(a.pipeline("Finishing", query=ONE_ENDS), stable_for=0.3), ("Finishing",)
    ),
}


def cases(scenarios: dict[str, Scenario], modes: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(scenario, mode, id=f"{name}-{mode}")
        for name, scenario in scenarios.items()
        for mode in modes
        if mode != RESCHEDULE or name != "a broker is away"
    ]


@pytest.mark.parametrize("scenario, mode", [*cases(SUBMIT, OPERATOR_MODES), *cases(SENSOR, SENSOR_MODES)])
def test_each_scenario_ends_alike_in_every_mode(scenario: Scenario, mode: str, arrange: Arrange) -> None:
    ended = run_task(scenario.make(arrange), mode)
    if scenario.states:
        assert ended.error is None, ended.error
        assert ended.result["state"] in scenario.states
        return
    assert type(ended.error) is ArroyoTaskError, ended.error
    rest = str(ended.error).lower()
    for piece in scenario.says:
        _, found, rest = rest.partition(piece.lower())
        assert found, f"{piece!r} is not in order in: {ended.error}"


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_the_proof_of_life_costs_few_requests(mode: str, arrange: Arrange) -> None:
    assert run_task(submit(until_checkpoint=True, checkpoint_interval=60), mode).error is None
    reads = [one for one in arrange.sandbox.requests if one.path.endswith("/checkpoints")]
    assert 1 <= len(reads) <= 6
