"""Answers that are lost, calls that come in late, records of which only half was made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.existing import How
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoOwnershipError,
)
from tests.arroyo_core.bench import OWNER, SPEC, Bench
from tests.support import ENDLESS

T = TypeVar("T")
PIPELINE_ID = OWNER.pipeline_id(OWNER.submit_key(SPEC.fingerprint))

LOST: dict[str, tuple[str, dict[str, Any]]] = {
    "reset before the effect": ("reset", {}),
    "reset after the effect": ("reset", {"after_effect": True}),
    "answer cut short": ("cut_short", {}),
    "502 before the effect": ("status", {"status": 502}),
    "502 after the effect": ("status", {"status": 502, "after_effect": True}),
    "503 with Retry-After": ("status", {"status": 503, "retry_after": 3}),
    "504 after the effect": ("status", {"status": 504, "error": None, "after_effect": True}),
    "429 with Retry-After": ("status", {"status": 429, "retry_after": 3}),
}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", LOST)
def test_create_whose_answer_is_lost(both: Bench, kind: str, times: int) -> None:
    method = "POST" if both.version == "0.15" else "PUT"
    name, fields = LOST[kind]
    both.sandbox.faults.order(name, method=method, path="*/pipelines*", times=times, **fields)
    submitted = both.submit(on_existing="fail")
    assert submitted.how is How.CREATED
    assert both.the_only_one().id == submitted.pipeline.id


def test_lost_answer_is_not_taken_for_an_earlier_try(new: Bench) -> None:
    new.sandbox.faults.reset(method="PUT", after_effect=True)
    assert new.submit(try_number=4, on_existing="fail").how is How.CREATED
    with pytest.raises(ArroyoOwnershipError, match="made by an earlier try"):
        new.submit(try_number=4, on_existing="fail")


def test_every_look_of_a_lost_create_may_fail_too(both: Bench) -> None:
    method = "POST" if both.version == "0.15" else "PUT"
    both.sandbox.faults.reset(method=method, path="*/pipelines*", after_effect=True)
    both.sandbox.faults.status(503, method="GET", times=4, skip=1)
    assert both.submit().how is How.CREATED
    both.the_only_one()


def test_create_that_is_never_answered(old: Bench) -> None:
    old.sandbox.faults.reset(method="POST", path="*/pipelines", times=None)
    with pytest.raises(ArroyoError, match="did not answer 5 requests to create pipeline 'orders per minute'"):
        old.submit()
    old.sandbox.faults.clear()
    assert old.submit(try_number=2).how is How.CREATED
    old.the_only_one()


def test_500_is_looked_after_and_not_asked_again(old: Bench) -> None:
    old.sandbox.faults.status(500, method="POST", path="*/pipelines", error="Something went wrong")
    with pytest.raises(ArroyoApiError, match="Something went wrong") as caught:
        old.submit()
    assert caught.value.status == 500
    assert old.sandbox.requests.count("POST", "*/pipelines") == 1
    old.sandbox.faults.status(500, method="POST", path="*/pipelines", after_effect=True)
    assert old.submit(try_number=2).how is How.CREATED
    old.the_only_one()


class LateCaller:
    """Loses the first create, and lets it take effect just before a later call.

    :param before_call: how many calls after it.
    """

    def __init__(self, bench: Bench, before_call: int) -> None:
        self._bench = bench
        self._before_call = before_call
        self.lost: api.Call[Any] | None = None
        self._calls_since = 0
        self.came_in = False

    def call(self, call: api.Call[T]) -> T:
        if self.lost is None and call.method == "POST" and call.path == "/pipelines":
            self.lost = call
            raise ArroyoConnectionError("reset", method="POST", path="/pipelines", was_sent=True)
        if self.lost is not None and not self.came_in:
            self._calls_since += 1
            if self._calls_since == self._before_call:
                self._bench.client.call(self.lost)
                self.came_in = True
        return self._bench.client.call(call)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_create_that_comes_in_late(database: str) -> None:
    from tests.arroyo_core.bench import bench

    seen_twice = 0
    for before_call in range(1, 40):
        with bench("0.15", database=database) as made:
            caller = LateCaller(made, before_call)
            submitted = made.submit(caller=caller)
            if not caller.came_in:
                break
            assert submitted.how is How.CREATED
            assert made.the_only_one().id == submitted.pipeline.id
            if "was made twice" in made.lines.text("WARNING"):
                seen_twice += 1
                assert made.sandbox.requests.count("DELETE") == 1
    else:
        pytest.fail("the submit makes calls for ever")
    assert before_call > 5
    assert seen_twice > 0


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5])
def test_create_that_comes_in_seconds_later(old: Bench, seconds: float) -> None:
    """It is looked for after it was lost, and once more after it was made again."""
    caller = LateCaller(old, before_call=10_000)

    def sleep(asked: float) -> None:
        old.sandbox.advance(asked)
        lost = caller.lost
        if lost is not None and not caller.came_in and old.now() >= began + seconds:
            caller.came_in = True
            old.client.call(lost)

    began = old.now()
    submitted = old.submit(caller=caller, sleep=sleep)
    assert caller.came_in
    assert old.the_only_one().id == submitted.pipeline.id


def test_create_that_comes_in_after_its_try_is_removed_by_the_next(old: Bench) -> None:
    caller = LateCaller(old, before_call=10_000)
    first = old.submit(caller=caller).pipeline
    lost = caller.lost
    assert lost is not None
    old.sandbox.advance(5)
    late = old.client.call(lost)
    assert len(old.running()) == 2
    again = old.submit(try_number=2)
    assert (again.pipeline.id, again.how) == (first.id, How.ADOPTED)
    assert old.the_only_one().id == first.id
    assert f"{first.id} is kept, {late.id} removed" in old.lines.text("WARNING")


# -- 0.16: half-made records -----------------------------------------------------------------------------------


def _leave_half(new: Bench, pipeline_id: str) -> None:
    """Leave half a record: the API makes one when it refuses the checkpoint interval."""
    body = {
        "name": "x",
        "query": ENDLESS,
        "parallelism": 1,
        "checkpoint_interval_micros": 10,
    }
    call = replace(api.put_pipeline(pipeline_id, SPEC), body=body)
    with pytest.raises(ArroyoApiError, match="between 1 second and 1 day"):
        new.client.call(call)


def test_half_made_record_is_repaired(new: Bench) -> None:
    _leave_half(new, PIPELINE_ID)
    submitted = new.submit(try_number=2)
    assert (submitted.how, submitted.pipeline.id) == (How.CREATED, PIPELINE_ID)
    assert new.the_only_one().id == PIPELINE_ID
    assert "half-made record" in new.lines.text("WARNING")


def test_half_made_record_is_repaired_though_answers_are_lost(new: Bench) -> None:
    _leave_half(new, PIPELINE_ID)
    new.sandbox.faults.reset(method="DELETE", after_effect=True)
    new.sandbox.faults.reset(method="PUT", skip=1, after_effect=True)
    assert new.submit().how is How.CREATED
    new.the_only_one()


class CompletesMeanwhile:
    """Lets another try repair and complete the record just before this one deletes it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._done = False

    def call(self, call: api.Call[T]) -> T:
        if call.method == "DELETE" and not self._done:
            self._done = True
            self._bench.submit(try_number=2)
        return self._bench.client.call(call)


def test_record_that_another_try_completes_is_not_deleted(new: Bench) -> None:
    _leave_half(new, PIPELINE_ID)
    submitted = new.submit(try_number=1, caller=CompletesMeanwhile(new))
    assert submitted.how is How.ADOPTED
    assert new.the_only_one().id == PIPELINE_ID
    assert "is complete now" in new.lines.text("INFO")


def test_record_that_cannot_be_repaired(new: Bench) -> None:
    _leave_half(new, PIPELINE_ID)
    # The answer says yes, and nothing happens.
    new.sandbox.faults.not_json(body="", method="DELETE", times=None)
    with pytest.raises(ArroyoError, match="exists, and that there is none, again and again"):
        new.submit()
