"""Two tries at once: a zombie and its successor. One pipeline comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.existing import How
from airflow_provider_arroyo.arroyo.submission import Submitted
from airflow_provider_arroyo.exceptions import ArroyoApiError
from tests.arroyo_core.bench import OWNER, SPEC, Bench, bench

T = TypeVar("T")


class Turns:
    """Lets two callers make their calls in a given order, one call at a time.

    :param order: whose turn it is, 0 or 1; when it is used up, or one has ended, the other goes on alone.
    """

    def __init__(self, order: str) -> None:
        self._order = iter(order)
        self._turn: str | None = next(self._order, None)
        self._changed = threading.Condition()
        self._ended: set[str] = set()

    def take(self, who: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn in (None, who), timeout=20)

    def give(self) -> None:
        with self._changed:
            self._turn = next((turn for turn in self._order if turn not in self._ended), None)
            self._changed.notify_all()

    def end(self, who: str) -> None:
        with self._changed:
            self._ended.add(who)
            if self._turn == who:
                self._turn = next((turn for turn in self._order if turn not in self._ended), None)
            self._changed.notify_all()


class TurnCaller:
    def __init__(self, bench: Bench, turns: Turns, who: str) -> None:
        self._client = bench.new_client()
        self._turns = turns
        self._who = who

    def call(self, call: api.Call[T]) -> T:
        self._turns.take(self._who)
        try:
            return self._client.call(call)
        finally:
            self._turns.give()


def _race(bench: Bench, order: str, *, on_existing: str = "adopt") -> list[Submitted]:
    turns = Turns(order)

    def run(who: int) -> Submitted:
        try:
            return bench.submit(
                try_number=who + 1, caller=TurnCaller(bench, turns, str(who)), on_existing=on_existing
            )
        finally:
            turns.end(str(who))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, range(2)))


def _orders() -> Iterator[str]:
    """Yield the orders in which two tries may take turns: every one of their first calls, and some longer."""
    for number in range(2**6):
        yield f"{number:06b}"
    # The second looks for a while before it makes its own, and then both do in the same moment.
    for looks in range(3, 16):
        yield "00" + "1" * looks + "01" * 10
    yield "01" * 20
    yield "0011" * 10
    yield "000111" * 6


@pytest.mark.parametrize("version, database", [("0.15", "sqlite"), ("0.15", "postgres"), ("0.16", "sqlite")])
def test_two_tries_at_once_end_with_one_pipeline(version: str, database: str) -> None:
    made_twice = 0
    for order in _orders():
        with bench(version, database=database) as made:
            submitted = _race(made, order)
            only = made.the_only_one()
            assert {one.pipeline.id for one in submitted} == {only.id}, order
            hows = sorted(one.how for one in submitted)
            assert hows == [How.ADOPTED, How.CREATED], order
            made_twice += "was made twice" in made.lines.text("WARNING")
    assert (made_twice > 0) == (version == "0.15")


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_two_tries_that_replace_end_with_one_pipeline(version: str) -> None:
    for order in ("01" * 30, "0011" * 15, "0001111" * 8, "011" * 20):
        with bench(version) as made:
            made.submit()
            made.sandbox.advance(5)
            try:
                _race(made, order, on_existing="replace")
            except Exception as err:  # noqa: BLE001  # one of the two may lose, in any of its calls
                made.log.info("one lost: %r", err)
            made.submit(try_number=3)
            made.the_only_one()


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_many_tries_at_once(version: str) -> None:
    """Not in turns, but as they come, in real threads and on a real server's time."""
    with bench(version) as made:
        start = threading.Barrier(6)

        def run(number: int) -> Submitted:
            client = made.new_client()
            start.wait(20)
            return made.submit(try_number=number + 1, caller=client)

        with ThreadPoolExecutor(6) as pool:
            submitted = list(pool.map(run, range(6)))
        assert {one.pipeline.id for one in submitted} == {made.the_only_one().id}


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_mapped_tasks_at_once_get_one_each(version: str) -> None:
    with bench(version) as made:
        owners = [replace(OWNER, map_index=index) for index in range(12)]

        def run(index: int) -> str:
            return made.submit(owner=owners[index], caller=made.new_client()).pipeline.id

        with ThreadPoolExecutor(6) as pool:
            ids = list(pool.map(run, range(12)))
        assert len(set(ids)) == 12
        assert {pipeline.id for pipeline in made.running()} == set(ids)


def test_extra_that_another_try_removes_first(old: Bench) -> None:
    """Both see two, and both remove the newer one."""
    first = old.submit().pipeline

    class Blind:
        """Sees no pipelines until it has made one, and somebody else removes the extra before it does."""

        made: Callable[[], str] | None = None

        def call(self, call: api.Call[T]) -> T:
            answer = old.client.call(call)
            if call.method == "GET" and call.path == "/pipelines" and self.made is None:
                return call.read(_no_pipelines())
            if call.method == "POST" and call.path == "/pipelines":
                made_id = answer.id  # type: ignore[attr-defined]  # a pipeline, from that call
                self.made = lambda: made_id
            if call.path.endswith("/jobs") and self.made and f"/{self.made()}/" in call.path:
                old.sandbox.faults.delete(self.made())
            return answer

    submitted = old.submit(try_number=2, caller=Blind())
    assert (submitted.pipeline.id, submitted.how) == (first.id, How.ADOPTED)
    assert old.the_only_one().id == first.id


def _no_pipelines() -> api.Answer:
    return api.Answer(200, {"content-type": "application/json"}, b'{"data": [], "hasMore": false}', "")


def test_pipeline_that_somebody_deletes_at_once(old: Bench) -> None:
    class Deletes:
        def call(self, call: api.Call[T]) -> T:
            answer = old.client.call(call)
            if call.method == "POST":
                old.sandbox.faults.delete(SPEC.name)
            return answer

    with pytest.raises(Exception, match="was made, and deleted by somebody at once"):
        old.submit(caller=Deletes())


def test_refusals_of_a_delete_are_told(new: Bench) -> None:
    new.submit()
    new.sandbox.advance(5)
    new.sandbox.faults.status(400, method="DELETE", error="not now", times=None)
    with pytest.raises(ArroyoApiError, match="not now"):
        new.submit(try_number=2, on_existing="replace")
