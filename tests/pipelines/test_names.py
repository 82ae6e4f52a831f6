"""Which pipeline a name means."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_arroyo.exceptions import ArroyoAmbiguousNameError, ArroyoNoSuchNameError
from airflow_provider_arroyo.pipelines.names import resolve_name
from tests.pipelines.bench import OWNER, SPEC, Bench, endpoint
from tests.support import BOUNDED


@pytest.fixture(autouse=True)
def ahead(bench: Bench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return how many seconds the server's clock is ahead of this machine's; tests may override it."""
    seconds: float = getattr(request, "param", 0.0)
    here = SimpleNamespace(time=lambda: bench.now() - seconds)
    monkeypatch.setattr("airflow_provider_arroyo.client.link.time", here)
    return seconds


def test_a_name_of_one_pipeline_means_that_pipeline(bench: Bench) -> None:
    created = bench.create_externally(replace(SPEC, name="a\n'name'"))
    bench.create_externally(replace(SPEC, name="a\n'name' too"), pipeline_id="other")
    assert resolve_name(bench.client, "a\n'name'").pipeline.id == created.id


def test_the_error_about_a_missing_name_shows_its_white_space(bench: Bench) -> None:
    with pytest.raises(ArroyoNoSuchNameError, match=r"no pipeline named 'two\\twords' on"):
        resolve_name(bench.client, "two\twords")


def test_a_live_pipeline_is_preferred_to_those_in_a_terminal_state(bench: Bench) -> None:
    bench.create_externally(replace(SPEC, query=BOUNDED), pipeline_id="finished")
    stopped = bench.create_externally(pipeline_id="stopped")
    bench.sandbox.advance(5)
    bench.sandbox.faults.stop(stopped.id)
    bench.sandbox.advance(5)
    alive = bench.create_externally(pipeline_id="alive")
    assert resolve_name(bench.client, SPEC.name).pipeline.id == alive.id


def test_with_none_alive_a_name_means_the_newest(bench: Bench) -> None:
    for number in range(3):
        bench.create_externally(replace(SPEC, query=BOUNDED), pipeline_id=f"p{number}")
        bench.sandbox.advance(10)
    (newest, *_) = bench.pipelines()
    found = resolve_name(bench.client, SPEC.name)
    assert (found.pipeline.id, found.is_alive) == (newest.id, False)
    assert bench.sandbox.state(newest.id) == "Finished"


def test_of_two_that_were_created_in_the_same_second_a_name_means_the_later(bench: Bench) -> None:
    """Real servers on SQLite list the earlier one first."""
    bench.sandbox.advance(1 - bench.now() % 1)
    created = [
        bench.create_externally(replace(SPEC, query=BOUNDED), pipeline_id=one) for one in ("first", "second")
    ]
    assert created[0].created_at_micros == created[1].created_at_micros
    bench.sandbox.advance(10)
    assert resolve_name(bench.client, SPEC.name).pipeline.id == created[1].id


def test_a_pipeline_that_was_asked_to_run_is_alive(bench: Bench) -> None:
    resumed = bench.create_externally(pipeline_id="resumed")
    bench.change(resumed.id, 5, "stop", 5)
    bench.create_externally(replace(SPEC, query=BOUNDED), pipeline_id="finished")
    bench.change(resumed.id, 10, "resume")
    assert bench.sandbox.state(resumed.id) == "Stopped"
    assert resolve_name(bench.client, SPEC.name).pipeline.id == resumed.id


def test_an_unknown_name_is_an_error(bench: Bench) -> None:
    bench.create_externally()
    with pytest.raises(ArroyoNoSuchNameError, match="There is no pipeline named 'Orders Per Minute'"):
        resolve_name(bench.client, "Orders Per Minute")


def test_several_live_pipelines_are_an_error_that_lists_them(bench: Bench) -> None:
    created = {bench.create_externally(pipeline_id=f"p{number}").id for number in range(3)}
    bench.sandbox.advance(10)
    with pytest.raises(ArroyoAmbiguousNameError, match="name the one you mean by pipeline_id") as caught:
        resolve_name(bench.client, SPEC.name)
    assert {candidate[:2] for candidate in caught.value.candidates} == {(one, "Running") for one in created}
    first, *listed = str(caught.value).splitlines()
    assert first.startswith(f"3 pipelines are named {SPEC.name!r}; ")
    assert {line.partition(" (Running, created 20")[0].strip() for line in listed} == created
    # An earlier try has recorded which one is meant.
    for pipeline_id in created:
        assert resolve_name(bench.client, SPEC.name, noted_id=pipeline_id).pipeline.id == pipeline_id


# -- from a task's second try on -----------------------------------------------------------------------------------


def _with_successor(bench: Bench) -> tuple[str, str, int]:
    """Return the ids of a stopped pipeline and of its successor, and the start of the DAG run in between."""
    old = bench.create_externally(pipeline_id="old").id
    bench.change(old, 5, "stop", 5)
    began = int(bench.now()) * 1_000_000
    return old, bench.create_externally(pipeline_id="new").id, began


def test_a_retry_does_not_mean_the_successor(bench: Bench) -> None:
    old, new, began = _with_successor(bench)
    # In the first try, a name simply means the one that is alive.
    assert resolve_name(bench.client, SPEC.name).pipeline.id == new
    with pytest.raises(ArroyoAmbiguousNameError) as caught:
        resolve_name(bench.client, SPEC.name, began_micros=began)
    assert [candidate[:2] for candidate in caught.value.candidates] == [(new, "Created"), (old, "Stopped")]
    for part in (old, new, "was created after this DAG run began", "name the one you mean by pipeline_id"):
        assert part in str(caught.value)


@pytest.mark.parametrize("ahead", [-108_000.0, -3_600.5, -3.0, 3.0, 3_600.5, 108_000.0], indirect=True)
def test_the_clock_of_the_server_may_be_ahead_or_behind(ahead: float, bench: Bench) -> None:
    _, new, began = _with_successor(bench)
    here = int(began / 1e6 - ahead) * 1_000_000
    with pytest.raises(ArroyoAmbiguousNameError, match="was created after this DAG run began"):
        resolve_name(bench.client, SPEC.name, began_micros=here)
    later = int(bench.now() + 10 - ahead) * 1_000_000
    assert resolve_name(bench.client, SPEC.name, began_micros=later).pipeline.id == new


@pytest.mark.parametrize("ended", [False, True])
def test_a_successor_that_has_ended_is_ambiguous_too(bench: Bench, ended: bool) -> None:
    _, new, began = _with_successor(bench)
    bench.change(new, *((5, "stop", 5) if ended else (5,)))
    with pytest.raises(ArroyoAmbiguousNameError, match="was created after this DAG run began"):
        resolve_name(bench.client, SPEC.name, began_micros=began)


def test_a_recorded_pipeline_is_meant_whatever_follows(bench: Bench) -> None:
    old, new, began = _with_successor(bench)
    for pipeline_id in (old, new):
        found = resolve_name(bench.client, SPEC.name, noted_id=pipeline_id, began_micros=began)
        assert found.pipeline.id == pipeline_id


def test_after_the_recorded_pipeline_was_deleted_the_successor_is_meant(bench: Bench) -> None:
    old, new, began = _with_successor(bench)
    bench.client.delete_pipeline(old)
    assert resolve_name(bench.client, SPEC.name, noted_id=old, began_micros=began).pipeline.id == new


def test_a_live_pipeline_from_before_the_run_is_not_ambiguous(bench: Bench) -> None:
    _, new, _ = _with_successor(bench)
    bench.sandbox.advance(10)
    began = int(bench.now()) * 1_000_000
    assert resolve_name(bench.client, SPEC.name, began_micros=began).pipeline.id == new


@pytest.mark.parametrize(
    "own_run, is_meant",
    [(None, True), ((OWNER.dag_id, OWNER.run_id), True), ((OWNER.dag_id, "another"), False)],
)
def test_a_change_must_not_mean_a_newer_pipeline_unless_its_run_created_it(
    bench: Bench, own_run: tuple[str, str] | None, is_meant: bool
) -> None:
    """In doubt, a task that changes something fails unless its own run created the pipeline; others may guess."""
    began = int(bench.now()) * 1_000_000
    submitted = bench.submit().pipeline.id
    if is_meant:
        found = resolve_name(bench.client, SPEC.name, began_micros=began, own_run=own_run)
        assert found.pipeline.id == submitted
    else:
        with pytest.raises(
            ArroyoAmbiguousNameError, match="may have meant another one of that name"
        ) as caught:
            resolve_name(bench.client, SPEC.name, began_micros=began, own_run=own_run)
        assert [one[0] for one in caught.value.candidates] == [submitted]


def test_a_delete_whose_earlier_try_may_have_deleted_means_none_that_is_not_alive(bench: Bench) -> None:
    old, new, began = _with_successor(bench)
    bench.sandbox.advance(5)
    began += 60_000_000
    found = resolve_name(bench.client, SPEC.name, began_micros=began, must_be_alive=True)
    assert found.pipeline.id == new
    bench.change(new, 0, "stop", 5)
    with pytest.raises(ArroyoAmbiguousNameError, match="may have deleted the one that was meant") as caught:
        resolve_name(bench.client, SPEC.name, began_micros=began, must_be_alive=True)
    assert {one[0] for one in caught.value.candidates} == {old, new}


# -- from a rescheduled sensor's second poke on ----------------------------------------------------------------------


@pytest.mark.parametrize("polled", ["before", "while it ran", "after"])
def test_later_pokes_mean_the_pipeline_of_the_first_poke(bench: Bench, polled: str) -> None:
    times = {"before": bench.now() - 5}
    first = bench.create_externally(pipeline_id="first").id
    bench.sandbox.advance(10)
    times["while it ran"] = bench.now()
    bench.change(first, 5, "stop", 5)
    times["after"] = bench.now()
    bench.sandbox.advance(5)
    second = bench.create_externally(pipeline_id="second").id
    found = resolve_name(bench.client, SPEC.name, polled_micros=int(times[polled] * 1e6))
    assert found.pipeline.id == (first if polled == "while it ran" else second)


# -- several Airflows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["", "staging"])
def test_a_name_does_not_mean_pipelines_of_another_namespace(bench: Bench, namespace: str) -> None:
    other = bench.submit(owner=replace(OWNER, namespace="production")).pipeline.id
    with pytest.raises(ArroyoNoSuchNameError, match="Another Airflow, in namespace 'production', has one"):
        resolve_name(bench.client, SPEC.name, namespace=namespace)
    own = bench.submit(owner=replace(OWNER, namespace=namespace)).pipeline.id
    assert resolve_name(bench.client, SPEC.name, namespace=namespace).pipeline.id == own
    assert resolve_name(bench.client, SPEC.name, namespace="production").pipeline.id == other
    with pytest.raises(ArroyoAmbiguousNameError):
        resolve_name(bench.client, SPEC.name)


def test_the_error_about_a_pipeline_without_a_namespace(bench: Bench) -> None:
    bench.submit(owner=replace(OWNER, namespace=""))
    with pytest.raises(ArroyoNoSuchNameError) as caught:
        resolve_name(bench.client, SPEC.name, namespace="staging")
    assert "Another Airflow, in no namespace, has one. If that one is meant" in str(caught.value)
    assert "set namespace" not in str(caught.value)


def test_a_name_may_mean_pipelines_without_a_label(bench: Bench) -> None:
    by_hand = bench.create_externally().id
    assert resolve_name(bench.client, SPEC.name, namespace="staging").pipeline.id == by_hand


def test_a_pipeline_that_is_deleted_after_it_was_listed_is_left_out(bench: Bench) -> None:
    deleted = bench.create_externally(pipeline_id="deleted")
    kept = bench.create_externally(pipeline_id="kept")

    def delete(request: requests.PreparedRequest) -> None:
        if endpoint(request) == f"GET /pipelines/{deleted.id}/jobs":
            bench.sandbox.faults.delete(deleted.id)

    assert resolve_name(bench.new_client(before=delete), SPEC.name).pipeline.id == kept.id
