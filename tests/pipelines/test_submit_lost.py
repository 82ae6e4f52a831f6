"""Lost responses, late requests, and half-created records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.pipelines.choices import Action
from tests.pipelines.bench import LABEL, OWNER, PIPELINE_ID, SPEC, Bench, endpoint, open_bench
from tests.support import ENDLESS

LOST: dict[str, tuple[str, dict[str, Any]]] = {
    "reset before the effect": ("reset", {}),
    "reset after the effect": ("reset", {"after_effect": True}),
    "response cut short": ("cut_short", {}),
    "502 before the effect": ("status", {"status": 502}),
    "502 after the effect": ("status", {"status": 502, "after_effect": True}),
    "503 with Retry-After": ("status", {"status": 503, "retry_after": 3}),
    "504 after the effect": ("status", {"status": 504, "error": None, "after_effect": True}),
    "429 before the effect": ("status", {"status": 429, "retry_after": 3}),
    "429 after the effect": ("status", {"status": 429, "after_effect": True}),
    "507 after the effect": ("status", {"status": 507, "error": None, "after_effect": True}),
}


def _creates(bench: Bench) -> dict[str, str]:
    """Return the method and path of a create, as faults take them."""
    return {"method": "POST" if bench.version == "0.15" else "PUT", "path": "*/pipelines*"}


@pytest.mark.parametrize("kind", LOST)
def test_a_create_whose_response_is_lost_makes_one_pipeline(bench: Bench, kind: str) -> None:
    name, fields = LOST[kind]
    times = 1 + list(LOST).index(kind) % 2
    bench.sandbox.faults.inject(name, times=times, **_creates(bench), **fields)
    submitted = bench.submit(on_existing="fail")
    assert submitted.action is Action.CREATED
    assert bench.only_pipeline().id == submitted.pipeline.id


def test_a_pipeline_whose_response_was_lost_counts_as_created(bench_016: Bench) -> None:
    bench_016.sandbox.faults.reset(method="PUT", after_effect=True)
    assert bench_016.submit(try_number=4, on_existing="fail").action is Action.CREATED
    with pytest.raises(ArroyoOwnershipError, match="created by an earlier try"):
        bench_016.submit(try_number=4, on_existing="fail")


def test_a_search_for_a_lost_create_is_retried(bench: Bench) -> None:
    bench.sandbox.faults.reset(after_effect=True, **_creates(bench))
    bench.sandbox.faults.status(503, method="GET", times=4, skip=1)
    assert bench.submit().action is Action.CREATED
    bench.only_pipeline()


@pytest.mark.parametrize(
    "version, message, most_requests",
    [
        # Not safe to repeat: searched for and sent again, as long as the task tolerates an outage.
        (
            "0.15",
            "'orders per minute' was not created within 10 min: no request to create it got a response",
            # Each with a validation, which distinguishes an outage from SQL on which Arroyo hangs up.
            80,
        ),
        # Safe to repeat: only the client repeats it.
        ("0.16", "has been unreachable for 10 min.*PUT /pipelines/", 600),
    ],
)
def test_a_create_without_any_response_is_an_error(version: str, message: str, most_requests: int) -> None:
    with open_bench(version) as bench:
        bench.sandbox.faults.reset(times=None, **_creates(bench))
        began = bench.now()
        with pytest.raises(ArroyoUnreachableError, match=message):
            bench.submit()
        assert 590 < bench.now() - began < 610
        sent = bench.sandbox.requests.count(**_creates(bench))
        # A validation, not a create, finds out whether the SQL is the cause.
        if version == "0.15":
            sent -= bench.sandbox.requests.count(path="*/pipelines/validate_query")
        assert 1 < sent <= most_requests
        bench.sandbox.faults.clear()
        assert bench.submit(try_number=2).action is Action.CREATED
        bench.only_pipeline()


def test_500_is_checked_and_not_repeated(bench: Bench) -> None:
    faults, creates = bench.sandbox.faults, _creates(bench)
    faults.status(500, error="Something went wrong", **creates)
    with pytest.raises(ArroyoApiError, match="Something went wrong") as caught:
        bench.submit()
    assert caught.value.status == 500
    assert bench.sandbox.requests.count(**creates) == 1
    faults.status(500, after_effect=True, **creates)
    assert bench.submit(try_number=2).action is Action.CREATED
    bench.only_pipeline()


# -- 0.15: late creates --------------------------------------------------------------------------------


class LateCreate:
    """The first create of a client, which is lost and arrives late.

    :param before_request: how many requests later; 0: when the test calls :meth:`arrive`.
    :param error: ends the create.
    """

    def __init__(self, bench: Bench, before_request: int = 0, error: BaseException | None = None) -> None:
        self._bench = bench
        self.client = bench.new_client(before=self._before)
        self._requests_left = before_request
        self._error = error or requests.ConnectionError("reset")
        self._lost: requests.PreparedRequest | None = None
        self.pipeline_id = ""

    def _before(self, request: requests.PreparedRequest) -> None:
        if self._lost is None:
            if endpoint(request) == "POST /pipelines":
                self._lost = request
                raise self._error
            return
        self._requests_left -= 1
        if self._requests_left == 0:
            self.arrive()

    def arrive(self) -> None:
        """Make it take effect."""
        assert self._lost is not None
        with requests.Session() as session:
            self.pipeline_id = session.send(self._lost, timeout=20).json()["id"]

    def sleep_and_arrive_after(self, seconds: float) -> Callable[[float], None]:
        """Return a sleep function that makes it arrive that many seconds from now."""
        arrival = self._bench.now() + seconds

        def sleep(asked: float) -> None:
            self._bench.sandbox.advance(asked)
            if self._lost is not None and not self.pipeline_id and self._bench.now() >= arrival:
                self.arrive()

        return sleep


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_create_that_arrives_before_a_later_request_leaves_one_pipeline(database: str) -> None:
    created_twice = 0
    for before_request in range(1, 40):
        with open_bench("0.15", database=database) as bench:
            late = LateCreate(bench, before_request)
            submitted = bench.submit(client=late.client)
            if not late.pipeline_id:
                break
            assert submitted.action is Action.CREATED
            assert bench.only_pipeline().id == submitted.pipeline.id
            if "was created twice" in bench.lines.text("WARNING"):
                created_twice += 1
                assert bench.sandbox.requests.count("DELETE") == 1
    else:
        pytest.fail("the submit sends requests for ever")
    assert before_request > 5
    assert created_twice > 0


@pytest.mark.parametrize("seconds", [0.5, 2.5, 6, 20, 29])
def test_a_create_that_arrives_seconds_later_is_found(bench_015: Bench, seconds: float) -> None:
    """The search lasts as long as it may arrive; only then is it created again."""
    late = LateCreate(bench_015)
    late.client.sleep = late.sleep_and_arrive_after(seconds)
    submitted = bench_015.submit(client=late.client)
    assert late.pipeline_id
    assert bench_015.only_pipeline().id == submitted.pipeline.id
    assert bench_015.sandbox.requests.count("POST", "*/pipelines") == 1


def test_a_create_with_udfs_may_arrive_minutes_later(bench_015: Bench) -> None:
    """A gateway times out while the server is still compiling."""
    spec = replace(SPEC, udfs=(Udf("#[udf]\nfn plus_one(x: i64) -> i64 { x + 1 }"),))
    late = LateCreate(bench_015)
    late.client.sleep = late.sleep_and_arrive_after(200)
    submitted = bench_015.submit(spec, client=late.client)
    assert bench_015.only_pipeline().id == submitted.pipeline.id == late.pipeline_id


@pytest.mark.parametrize("seconds", [2.5, 6, 9])
def test_a_killed_create_that_arrives_after_the_next_one_is_deleted(bench_015: Bench, seconds: float) -> None:
    late = LateCreate(bench_015, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench_015.submit(client=late.client)
    client = bench_015.new_client(sleep=late.sleep_and_arrive_after(seconds))
    submitted = bench_015.submit(try_number=2, client=client)
    assert late.pipeline_id
    assert submitted.action is Action.CREATED
    assert bench_015.only_pipeline().id == submitted.pipeline.id


@pytest.mark.parametrize("try_number", [1, 2])
def test_a_create_that_a_gateway_sends_twice_leaves_one_pipeline(bench_015: Bench, try_number: int) -> None:
    def repeat(request: requests.PreparedRequest) -> None:
        if endpoint(request) == "POST /pipelines":
            with requests.Session() as session:
                session.send(request, timeout=20)

    submitted = bench_015.submit(try_number=try_number, client=bench_015.new_client(before=repeat))
    assert bench_015.sandbox.requests.count("POST", "*/pipelines") == 2
    assert bench_015.only_pipeline().id == submitted.pipeline.id
    assert "was created twice" in bench_015.lines.text("WARNING")


def test_a_create_that_is_sent_twice_without_responses_leaves_one_pipeline(bench_015: Bench) -> None:
    late = LateCreate(bench_015)
    late.client.sleep = late.sleep_and_arrive_after(1)
    submitted = bench_015.submit(client=late.client)
    late.arrive()
    assert bench_015.submit(try_number=2).pipeline.id == submitted.pipeline.id
    assert bench_015.only_pipeline().id == submitted.pipeline.id


def test_a_killed_tries_create_that_arrives_during_the_search_is_adopted(bench_015: Bench) -> None:
    late = LateCreate(bench_015, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench_015.submit(client=late.client)
    client = bench_015.new_client(sleep=late.sleep_and_arrive_after(1.5))
    submitted = bench_015.submit(try_number=2, client=client)
    assert (submitted.pipeline.id, submitted.action) == (late.pipeline_id, Action.ADOPTED)
    assert bench_015.only_pipeline().id == late.pipeline_id
    assert bench_015.sandbox.requests.count("POST", "*/pipelines") == 1


def test_a_create_that_arrives_after_its_try_is_deleted_by_the_next_one(bench_015: Bench) -> None:
    late = LateCreate(bench_015)
    first = bench_015.submit(client=late.client).pipeline
    bench_015.sandbox.advance(5)
    late.arrive()
    assert bench_015.running() == {first.id, late.pipeline_id}
    again = bench_015.submit(try_number=2)
    assert (again.pipeline.id, again.action) == (first.id, Action.ADOPTED)
    assert bench_015.only_pipeline().id == first.id
    assert f"{first.id} is kept, {late.pipeline_id} is deleted" in bench_015.lines.text("WARNING")


def test_a_pipeline_that_is_deleted_externally_at_once_is_an_error(bench_015: Bench) -> None:
    def delete(request: requests.PreparedRequest) -> None:
        if endpoint(request) == "POST /pipelines":
            bench_015.sandbox.faults.delete(SPEC.name)

    with pytest.raises(ArroyoError, match="was created, but deleted externally at once"):
        bench_015.submit(client=bench_015.new_client(after=delete))


class OldLists:
    """Lists from before the create, as a cache or a server that lags sends them.

    :param lists: how many of them are sent after the create; None for all.
    """

    def __init__(self, bench: Bench, lists: int | None) -> None:
        self._bench = bench
        self._lists = lists
        self.client = bench.new_client(after=self._after)

    def _after(self, request: requests.PreparedRequest) -> None:
        if endpoint(request) == "POST /pipelines":
            self._bench.sandbox.faults.not_json(
                body='{"data": [], "hasMore": false}',
                content_type="application/json",
                method="GET",
                path="*/pipelines",
                times=self._lists,
            )


@pytest.mark.parametrize("try_number", [1, 2])
@pytest.mark.parametrize("lists", [1, 3])
def test_an_old_list_does_not_hide_what_was_created(bench_015: Bench, lists: int, try_number: int) -> None:
    old = OldLists(bench_015, lists)
    submitted = bench_015.submit(client=old.client, try_number=try_number)
    assert submitted.action is Action.CREATED
    assert bench_015.only_pipeline().id == submitted.pipeline.id
    assert bench_015.lines.text("WARNING") == ""


def test_a_list_that_stays_old_is_a_warning(bench_015: Bench) -> None:
    old, began = OldLists(bench_015, None), bench_015.now()
    submitted = bench_015.submit(client=old.client)
    assert submitted.action is Action.CREATED
    assert 60 <= bench_015.now() - began < 70
    assert f"lacks orders per minute, id {submitted.pipeline.id}" in bench_015.lines.text("WARNING")
    bench_015.sandbox.faults.clear()
    assert bench_015.only_pipeline().id == submitted.pipeline.id


def test_a_second_create_because_of_an_old_list_is_undone(bench_015: Bench) -> None:
    """A retry whose first lists are old creates another one, and removes it once a list is current."""
    first = bench_015.submit().pipeline
    none = {"body": '{"data": [], "hasMore": false}', "content_type": "application/json"}
    bench_015.sandbox.faults.not_json(**none, method="GET", path="*/pipelines", times=None)
    cached = bench_015.now() + 30

    def expire(seconds: float) -> None:
        bench_015.sandbox.advance(seconds)
        if bench_015.now() >= cached:
            bench_015.sandbox.faults.clear()

    again = bench_015.submit(try_number=2, client=bench_015.new_client(sleep=expire))
    assert bench_015.sandbox.requests.count("POST", "*/pipelines") == 2
    assert (again.pipeline.id, again.action) == (first.id, Action.ADOPTED)
    assert bench_015.only_pipeline().id == first.id


def test_the_next_run_reports_a_create_that_arrived_after_its_task_had_ended(bench_015: Bench) -> None:
    """No other task would find it; another run's pipelines are not touched."""
    first = bench_015.submit().pipeline
    comment = replace(LABEL, try_number=2).for_new_request().to_comment({})
    late = bench_015.create_externally(SPEC, comment=comment)
    expected = f"Pipelines {first.id} and {late.id} run, and both were created for task orders.submit of run"
    bench_015.submit(owner=replace(OWNER, run_id="r2"))
    assert expected in bench_015.lines.text("WARNING")
    assert {first.id, late.id} <= bench_015.running()
    bench_015.lines.lines.clear()
    bench_015.change(late.id, "stop", "Stopped")
    bench_015.submit(owner=replace(OWNER, run_id="r3"))
    assert bench_015.lines.text("WARNING") == ""


# -- 0.16: half-created records ------------------------------------------------------------------------------------


def test_a_half_created_record_is_replaced(bench_016: Bench) -> None:
    bench_016.leave_half_created()
    submitted = bench_016.submit(try_number=2)
    assert (submitted.action, submitted.pipeline.id) == (Action.CREATED, PIPELINE_ID)
    assert bench_016.only_pipeline().id == PIPELINE_ID
    assert "half-created record" in bench_016.lines.text("WARNING")


def test_a_half_created_record_is_replaced_although_responses_are_lost(bench_016: Bench) -> None:
    bench_016.leave_half_created()
    bench_016.sandbox.faults.reset(method="DELETE", after_effect=True)
    bench_016.sandbox.faults.reset(method="PUT", skip=1, after_effect=True)
    assert bench_016.submit().action is Action.CREATED
    bench_016.only_pipeline()


def test_a_record_that_another_try_completes_is_not_deleted(bench_016: Bench) -> None:
    bench_016.leave_half_created()
    has_completed = False

    def complete(request: requests.PreparedRequest) -> None:
        nonlocal has_completed
        if request.method == "DELETE" and not has_completed:
            has_completed = True
            bench_016.submit(try_number=2)

    submitted = bench_016.submit(try_number=1, client=bench_016.new_client(before=complete))
    assert submitted.action is Action.ADOPTED
    assert bench_016.only_pipeline().id == PIPELINE_ID
    assert "is complete now" in bench_016.lines.text("INFO")


def test_a_record_that_cannot_be_deleted_is_an_error(bench_016: Bench) -> None:
    bench_016.leave_half_created()
    # The response is a success, but nothing happens.
    bench_016.sandbox.faults.not_json(body="", method="DELETE", times=None)
    with pytest.raises(ArroyoError, match=f"says that pipeline id '{PIPELINE_ID}' is taken, but no"):
        bench_016.submit()


@pytest.mark.parametrize(
    "select",
    [
        "SELECT DISTINCT ON (counter) counter FROM impulse",
        "SELECT count(*) FROM impulse GROUP BY tumble(interval '0 seconds')",
    ],
)
def test_sql_on_which_arroyo_hangs_up_is_refused_without_another_create(bench: Bench, select: str) -> None:
    spec = replace(SPEC, query=ENDLESS.replace("SELECT counter FROM impulse", select))
    creates: list[str] = []

    def note(request: requests.PreparedRequest) -> None:
        if endpoint(request) in ("POST /pipelines", f"PUT /pipelines/{PIPELINE_ID}"):
            creates.append(str(request.method))

    with pytest.raises(ArroyoQueryError, match="closes the connection on this SQL") as caught:
        bench.submit(spec, client=bench.new_client(before=note))
    assert caught.value.is_fatal
    assert caught.value.__cause__ is not caught.value
    assert creates == (["PUT", "POST"] if bench.version == "0.15" else ["PUT"])
    assert bench.sandbox.store.pipelines == {}
