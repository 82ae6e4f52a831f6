"""Two concurrent tries, a zombie and its successor, end with one pipeline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests

from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.create import Submitted
from tests.pipelines.bench import OWNER, Bench, endpoint, open_bench
from tests.support import Turns


def _race(bench: Bench, order: str, *, on_existing: str = "adopt") -> list[Submitted]:
    turns = Turns(order)

    def run(who: str) -> Submitted:
        client = bench.new_client(before=lambda _: turns.wait_for(who), after=lambda _: turns.pass_on(who))
        try:
            return bench.submit(try_number=int(who) + 1, client=client, on_existing=on_existing)
        finally:
            turns.end(who)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, "01"))


def _orders() -> Iterator[str]:
    """Yield orders for two tries: every order of their first requests, and some longer ones."""
    for number in range(2**6):
        yield f"{number:06b}"
    # The second searches for a while first, and then both create at the same time.
    for searches in range(3, 16):
        yield "00" + "1" * searches + "01" * 10
    yield "01" * 20
    yield "0011" * 10
    yield "000111" * 6


@pytest.mark.parametrize("version, database", [("0.15", "sqlite"), ("0.15", "postgres"), ("0.16", "sqlite")])
def test_two_concurrent_tries_end_with_one_pipeline(version: str, database: str) -> None:
    created_twice = 0
    for order in _orders():
        with open_bench(version, database=database) as bench:
            submitted = _race(bench, order)
            only = bench.only_pipeline()
            assert {one.pipeline.id for one in submitted} == {only.id}, order
            assert {one.action for one in submitted} == {Action.ADOPTED, Action.CREATED}, order
            created_twice += "was created twice" in bench.lines.text("WARNING")
    assert (created_twice > 0) == (version == "0.15")


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_two_concurrent_replaces_end_with_one_pipeline(version: str) -> None:
    for order in ("01" * 30, "0011" * 15, "0001111" * 8, "011" * 20):
        with open_bench(version) as bench:
            bench.submit()
            bench.sandbox.advance(5)
            try:
                _race(bench, order, on_existing="replace")
            except Exception as err:  # noqa: BLE001  # one of the two may lose, at any of its requests
                bench.log.info("one lost: %r", err)
            bench.submit(try_number=3)
            bench.only_pipeline()


def test_many_concurrent_tries_end_with_one_pipeline(bench: Bench) -> None:
    """In real threads, without an order of their requests."""
    start = threading.Barrier(6)

    def run(number: int) -> str:
        client = bench.new_client()
        start.wait(20)
        return bench.submit(try_number=number + 1, client=client).pipeline.id

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(run, range(6))) == {bench.only_pipeline().id}


def test_concurrent_mapped_tasks_get_one_pipeline_each(bench: Bench) -> None:
    def run(index: int, try_number: int = 1) -> str:
        owner = replace(OWNER, map_index=index)
        return bench.submit(owner=owner, try_number=try_number, client=bench.new_client()).pipeline.id

    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(run, range(12)))
    assert len(set(ids)) == 12
    assert bench.running() == set(ids)
    assert [run(index, 2) for index in range(12)] == ids


def test_a_duplicate_that_another_try_deletes_first_is_no_error(bench_015: Bench) -> None:
    """Both see two, and both delete the newer one."""
    first = bench_015.submit().pipeline
    faults = bench_015.sandbox.faults
    # The second try does not see the first one's pipeline until it has created its own.
    none = {"body": '{"data": [], "hasMore": false}', "content_type": "application/json"}
    hidden = faults.not_json(**none, method="GET", path="*/pipelines", times=None)
    duplicates: list[str] = []

    def show(request: requests.PreparedRequest) -> None:
        if endpoint(request) == "POST /pipelines":
            faults.remove(hidden)
            duplicates.extend({pipeline.id for pipeline in bench_015.pipelines()} - {first.id})

    def delete(request: requests.PreparedRequest) -> None:
        if duplicates and endpoint(request) == f"GET /pipelines/{duplicates[0]}/jobs":
            faults.delete(duplicates[0])

    submitted = bench_015.submit(try_number=2, client=bench_015.new_client(before=delete, after=show))
    assert (submitted.pipeline.id, submitted.action) == (first.id, Action.ADOPTED)
    assert len(duplicates) == 1
    assert bench_015.only_pipeline().id == first.id


@pytest.mark.parametrize("deletes", ["only its own", "both"])
def test_an_error_names_no_pipeline_that_was_deleted(bench_015: Bench, deletes: str) -> None:
    """The second try creates its own beside the first one's, and deletes it; or both are deleted externally."""
    first = bench_015.submit().pipeline
    faults = bench_015.sandbox.faults
    none = {"body": '{"data": [], "hasMore": false}', "content_type": "application/json"}
    hidden = faults.not_json(**none, method="GET", path="*/pipelines", times=None)
    created: set[str] = set()

    def show(request: requests.PreparedRequest) -> None:
        if endpoint(request) == "POST /pipelines":
            faults.remove(hidden)
            created.update({pipeline.id for pipeline in bench_015.pipelines()} - {first.id})
            for pipeline_id in created | {first.id} if deletes == "both" else ():
                faults.delete(pipeline_id)

    with pytest.raises(ArroyoError) as caught:
        bench_015.submit(try_number=2, client=bench_015.new_client(after=show), on_existing="fail")
    assert len(created) == 1
    assert not created & {pipeline.id for pipeline in bench_015.pipelines()}
    assert "However" not in str(caught.value)
    assert ("deleted externally at once" in str(caught.value)) == (deletes == "both")
