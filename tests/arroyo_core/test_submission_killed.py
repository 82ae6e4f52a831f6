"""Each try is killed at each of its steps, and the next one ends in the same place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.listing import Caller
from tests.arroyo_core.bench import OWNER, SPEC, Bench, bench

T = TypeVar("T")


class KilledError(BaseException):
    """As a task process ends: past everything that catches errors."""


class MortalCaller:
    """Is killed at one call.

    :param at: at which, counted from 1.
    :param after_effect: after the call took effect, so that nobody reads its answer.
    """

    def __init__(self, caller: Caller, at: int, *, after_effect: bool) -> None:
        self._caller = caller
        self._at = at
        self._after_effect = after_effect
        self._calls = 0

    def call(self, call: api.Call[T]) -> T:
        self._calls += 1
        if self._calls == self._at and not self._after_effect:
            raise KilledError
        answer = self._caller.call(call)
        if self._calls == self._at:
            raise KilledError
        return answer


Arrange = Callable[[Bench], None]


def _nothing(bench: Bench) -> None:
    pass


def _running(bench: Bench) -> None:
    bench.submit()
    bench.sandbox.advance(5)


def _stopped(bench: Bench) -> None:
    _running(bench)
    bench.sandbox.faults.stop("*")
    bench.sandbox.advance(5)


def _stopping(bench: Bench) -> None:
    _running(bench)
    bench.sandbox.faults.stop("*")


def _failed(bench: Bench) -> None:
    _running(bench)
    bench.sandbox.faults.fail("*")
    bench.sandbox.advance(10)


def _half_made(bench: Bench) -> None:
    if bench.version == "0.15":
        pytest.skip("0.15 has no PUT, and the id of a POST is never met again")
    pipeline_id = OWNER.pipeline_id(OWNER.submit_key(SPEC.fingerprint))
    good = api.put_pipeline(pipeline_id, SPEC)
    with pytest.raises(Exception, match="between 1 second and 1 day"):
        bench.client.call(replace(good, body={**(good.body or {}), "checkpoint_interval_micros": 10}))


ARRANGED: dict[str, Arrange] = {
    "nothing": _nothing,
    "running": _running,
    "stopping": _stopping,
    "stopped": _stopped,
    "failed": _failed,
    "half made": _half_made,
}


@pytest.mark.parametrize("after_effect", [False, True], ids=["before the effect", "after it"])
@pytest.mark.parametrize("on_existing", ["adopt", "replace"])
@pytest.mark.parametrize("arranged", ARRANGED)
@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_killed_at_every_step(version: str, arranged: str, on_existing: str, after_effect: bool) -> None:
    killed = 0
    for at in range(1, 200):
        with bench(version) as made:
            ARRANGED[arranged](made)
            caller = MortalCaller(made.client, at, after_effect=after_effect)
            try:
                made.submit(caller=caller, try_number=2, on_existing=on_existing)
            except KilledError:
                killed += 1
            else:
                break
            again = made.submit(try_number=3, on_existing=on_existing)
            assert made.the_only_one().id == again.pipeline.id, f"killed at call {at}"
    else:
        pytest.fail("the submit makes calls for ever")
    assert killed >= 1


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_killed_again_and_again(version: str) -> None:
    """Every try dies one call later than the one before, until one lives."""
    with bench(version) as made:
        for try_number in range(1, 40):
            caller = MortalCaller(made.client, try_number, after_effect=True)
            try:
                submitted = made.submit(caller=caller, try_number=try_number)
            except KilledError:
                continue
            break
        else:
            pytest.fail("no try lives")
        assert made.the_only_one().id == submitted.pipeline.id
