"""Pages that leave nothing out, and names that mean one pipeline."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.details import Page
from airflow_provider_arroyo.arroyo.listing import iter_pages, iter_pipelines, newest_job, resolve_name
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.exceptions import ArroyoAmbiguousNameError, ArroyoNoSuchNameError
from tests.arroyo_core.bench import SPEC, Bench
from tests.support import BOUNDED

T = TypeVar("T")


class Server:
    """Lists pipelines as a real server does: sorted by date, and the next page begins with an earlier date.

    :param dates: of its pipelines.
    :param largest_page: what it gives at most, whatever it is asked for.
    :param deleted_after: deletes a pipeline that it is asked to start after, for the first so many pages.
    """

    def __init__(self, dates: list[int], *, largest_page: int = 10_000, deleted_after: int = 0) -> None:
        self.pipelines = [
            Pipeline(id=f"pl_{number}", name="n", query="q", created_at_micros=date)
            for number, date in enumerate(dates)
        ]
        self._largest_page = largest_page
        self._deleted_after = deleted_after
        self.calls = 0

    def call(self, call: api.Call[T]) -> T:
        self.calls += 1
        assert self.calls < 2000, "it asks for ever"
        after = call.params.get("starting_after")
        if after is not None and self._deleted_after > 0:
            self._deleted_after -= 1
            self.pipelines = [pipeline for pipeline in self.pipelines if pipeline.id != after]
        listed = sorted(self.pipelines, key=lambda pipeline: -pipeline.created_at_micros)
        if after is not None:
            dates = [pipeline.created_at_micros for pipeline in listed if pipeline.id == after]
            listed = [pipeline for pipeline in listed if dates and pipeline.created_at_micros < dates[0]]
        limit = min(int(call.params["limit"]), self._largest_page)
        return Page(tuple(listed[:limit]), len(listed) > limit)  # type: ignore[return-value]  # of that call


@given(dates=st.lists(st.integers(0, 6), max_size=60), page_size=st.integers(1, 12))
def test_pages_leave_nothing_out_and_repeat_nothing(dates: list[int], page_size: int) -> None:
    server = Server(dates)
    found = list(iter_pipelines(server, page_size=page_size))
    assert sorted(pipeline.id for pipeline in found) == sorted(pipeline.id for pipeline in server.pipelines)
    listed = [pipeline.created_at_micros for pipeline in found]
    assert listed == sorted(listed, reverse=True)


@given(dates=st.lists(st.integers(0, 6), max_size=40), limit=st.integers(1, 12), start=st.integers(0, 39))
def test_pages_from_a_start(dates: list[int], limit: int, start: int) -> None:
    server = Server(dates)
    after = f"pl_{start}"
    found = list(iter_pages(server, api.list_pipelines(limit=limit, starting_after=after)))
    begin = next((one.created_at_micros for one in server.pipelines if one.id == after), 0)
    expected = [one.id for one in server.pipelines if one.created_at_micros < begin]
    assert sorted(one.id for one in found) == sorted(expected)


@given(
    dates=st.lists(st.integers(0, 40), max_size=60, unique=True),
    page_size=st.integers(1, 12),
    deleted=st.integers(1, 3),
)
def test_page_whose_start_is_deleted_meanwhile(dates: list[int], page_size: int, deleted: int) -> None:
    server = Server(dates, deleted_after=deleted)
    found = {pipeline.id for pipeline in iter_pipelines(server, page_size=page_size)}
    assert {pipeline.id for pipeline in server.pipelines} <= found


@given(dates=st.lists(st.integers(0, 3), max_size=40), page_size=st.integers(1, 12), cap=st.integers(1, 12))
def test_server_with_a_limit_of_its_own_ends(dates: list[int], page_size: int, cap: int) -> None:
    found = list(iter_pipelines(Server(dates, largest_page=cap), page_size=page_size))
    assert len({pipeline.id for pipeline in found}) == len(found)


def test_server_that_always_promises_more_ends() -> None:
    pipeline = Pipeline(id="pl_1", name="n", query="q", created_at_micros=5)

    class Promising:
        calls = 0

        def call(self, call: api.Call[T]) -> T:
            self.calls += 1
            assert self.calls < 100
            return Page((pipeline,), True)  # type: ignore[return-value]  # of that call

    assert list(iter_pipelines(Promising())) == [pipeline]


def test_next_page_is_asked_for_only_when_it_is_needed() -> None:
    server = Server(list(range(500)))
    pipelines = iter_pipelines(server, page_size=10)
    assert next(pipelines).created_at_micros == 499
    assert server.calls == 1
    assert sum(1 for _ in pipelines) == 499
    assert server.calls < 60


def test_pages_of_a_server_that_dates_to_the_second(both: Bench) -> None:
    """Made within a second, so that every page but the first would be lost."""
    made = [both.make(replace(SPEC, name=f"n{number}"), pipeline_id=f"p{number}").id for number in range(9)]
    assert len({pipeline.created_at_micros for pipeline in both.pipelines()}) < 9
    found = [pipeline.id for pipeline in both.client.iter_pipelines(page_size=2)]
    assert sorted(found) == sorted(made)

    async def walked() -> list[str]:
        async with ArroyoAsyncClient(both.client.settings) as client:
            return [pipeline.id async for pipeline in client.iter_pipelines(page_size=2)]

    assert asyncio.run(walked()) == found


def test_newest_job() -> None:
    assert newest_job(()) is None


# -- names -----------------------------------------------------------------------------------------------------


def test_one_of_that_name(both: Bench) -> None:
    made = both.make(replace(SPEC, name="a\n'name'"))
    both.make(replace(SPEC, name="a\n'name' too"), pipeline_id="other")
    assert resolve_name(both.client, "a\n'name'").id == made.id


def test_the_live_one_goes_before_those_at_rest(both: Bench) -> None:
    both.make(replace(SPEC, query=BOUNDED), pipeline_id="finished")
    stopped = both.make(SPEC, pipeline_id="stopped")
    both.sandbox.advance(5)
    both.sandbox.faults.stop(stopped.id)
    both.sandbox.advance(5)
    live = both.make(SPEC, pipeline_id="live")
    assert resolve_name(both.client, SPEC.name).id == live.id


def test_the_only_one_at_rest(both: Bench) -> None:
    made = both.make(replace(SPEC, query=BOUNDED))
    both.sandbox.advance(10)
    assert both.sandbox.state(made.id) == "Finished"
    assert resolve_name(both.client, SPEC.name).id == made.id


def test_none_of_that_name(both: Bench) -> None:
    both.make()
    with pytest.raises(ArroyoNoSuchNameError, match="There is no pipeline named 'Orders Per Minute'"):
        resolve_name(both.client, "Orders Per Minute")


@pytest.mark.parametrize("at_rest", [False, True])
def test_several_are_listed(both: Bench, at_rest: bool) -> None:
    spec = replace(SPEC, query=BOUNDED) if at_rest else SPEC
    made = [both.make(spec, pipeline_id=f"p{number}").id for number in range(3)]
    both.sandbox.advance(10)
    with pytest.raises(ArroyoAmbiguousNameError) as caught:
        resolve_name(both.client, SPEC.name)
    state = "Finished" if at_rest else "Running"
    assert sorted(candidate[:2] for candidate in caught.value.candidates) == sorted(
        (pipeline_id, state) for pipeline_id in made
    )
    assert all(pipeline_id in str(caught.value) for pipeline_id in made)
    assert "say which by pipeline_id" in str(caught.value)


def test_one_that_is_deleted_while_it_is_looked_at(both: Bench) -> None:
    gone = both.make(SPEC, pipeline_id="gone")
    kept = both.make(SPEC, pipeline_id="kept")

    class Deletes:
        def call(self, call: api.Call[T]) -> T:
            if call.path == f"/pipelines/{gone.id}/jobs":
                both.sandbox.faults.delete(gone.id)
            return both.client.call(call)

    assert resolve_name(Deletes(), SPEC.name).id == kept.id
