"""Which pipeline a name means."""

from __future__ import annotations

from dataclasses import replace

import pytest
import requests

from airflow_provider_arroyo.exceptions import ArroyoAmbiguousNameError, ArroyoNoSuchNameError
from airflow_provider_arroyo.pipelines.names import resolve_name
from tests.pipelines.bench import SPEC, Bench, endpoint
from tests.support import BOUNDED


def test_one_pipeline_with_that_name(bench: Bench) -> None:
    created = bench.create_externally(replace(SPEC, name="a\n'name'"))
    bench.create_externally(replace(SPEC, name="a\n'name' too"), pipeline_id="other")
    assert resolve_name(bench.client, "a\n'name'").id == created.id


def test_one_that_is_alive_is_preferred_to_those_in_a_terminal_state(bench: Bench) -> None:
    bench.create_externally(replace(SPEC, query=BOUNDED), pipeline_id="finished")
    stopped = bench.create_externally(pipeline_id="stopped")
    bench.sandbox.advance(5)
    bench.sandbox.faults.stop(stopped.id)
    bench.sandbox.advance(5)
    alive = bench.create_externally(pipeline_id="alive")
    assert resolve_name(bench.client, SPEC.name).id == alive.id


def test_only_one_and_it_is_finished(bench: Bench) -> None:
    created = bench.create_externally(replace(SPEC, query=BOUNDED))
    bench.sandbox.advance(10)
    assert bench.sandbox.state(created.id) == "Finished"
    assert resolve_name(bench.client, SPEC.name).id == created.id


def test_no_pipeline_with_that_name(bench: Bench) -> None:
    bench.create_externally()
    with pytest.raises(ArroyoNoSuchNameError, match="There is no pipeline named 'Orders Per Minute'"):
        resolve_name(bench.client, "Orders Per Minute")


@pytest.mark.parametrize("query, state", [(SPEC.query, "Running"), (BOUNDED, "Finished")])
def test_several_are_listed(bench: Bench, query: str, state: str) -> None:
    spec = replace(SPEC, query=query)
    created = {bench.create_externally(spec, pipeline_id=f"p{number}").id for number in range(3)}
    bench.sandbox.advance(10)
    with pytest.raises(ArroyoAmbiguousNameError, match="name the one you mean by pipeline_id") as caught:
        resolve_name(bench.client, SPEC.name)
    assert {candidate[:2] for candidate in caught.value.candidates} == {(one, state) for one in created}
    assert all(pipeline_id in str(caught.value) for pipeline_id in created)


def test_one_that_is_deleted_after_it_was_listed(bench: Bench) -> None:
    deleted = bench.create_externally(pipeline_id="deleted")
    kept = bench.create_externally(pipeline_id="kept")

    def delete(request: requests.PreparedRequest) -> None:
        if endpoint(request) == f"GET /pipelines/{deleted.id}/jobs":
            bench.sandbox.faults.delete(deleted.id)

    assert resolve_name(bench.new_client(before=delete), SPEC.name).id == kept.id
