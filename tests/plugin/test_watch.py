"""A watch on the sandbox: its requests, how often they are sent, and what it shows while Arroyo is down."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.plugin import listing, reader, service, snapshot, watch
from airflow_provider_arroyo.plugin.service import MAX_THREADS, Service, in_few_threads
from airflow_provider_arroyo.plugin.watch import PACE_SECONDS, Watch
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.clock import ManualClock
from tests.adapters import BROKEN_JOB, NAMELESS, DamagingAdapter, HookedAdapter
from tests.polling.support import until
from tests.support import ENDLESS

from .support import WatchBench


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[WatchBench]:
    clock = ManualClock()
    version = getattr(request, "param", "0.16")
    with ArroyoSandbox(arroyo_version=version, pipelines=3, seed=1, clock=clock) as sandbox:
        # Long enough for checkpoints and metrics.
        clock.advance(60)
        yield WatchBench(sandbox)


@pytest.fixture
def many() -> Iterator[WatchBench]:
    with ArroyoSandbox(pipelines=250, seed=1) as sandbox:
        yield WatchBench(sandbox)


def create(bench: WatchBench, name: str) -> str:
    """Create a pipeline, and return its id."""
    return bench._connect().create_pipeline(name=name, query=ENDLESS, parallelism=1).id


def listed(bench: WatchBench) -> list[str]:
    """Return the ids of the pipelines, newest first."""
    return [pipeline.id for pipeline in bench._connect().iter_pipelines()]


async def test_it_finds_all_pipelines_with_their_states(bench: WatchBench) -> None:
    await bench.refresh()
    await bench.refresh()
    assert bench.names() == {"pipeline-1", "pipeline-2", "pipeline-3"}
    assert {row.job and row.job.state for row in bench.watch.snapshot.rows.values()} == {"Running"}
    assert bench.watch.snapshot.totals == {"Running": 3}
    assert bench.watch.error is None


async def test_all_pages_of_pipelines_are_listed_only_once(many: WatchBench) -> None:
    await many.refresh()
    assert len(many.names()) == 250
    pages = many.requests("*/pipelines")
    assert pages == 2
    await many.refresh()
    await many.refresh()
    assert many.requests("*/pipelines") == pages
    assert many.requests("*/jobs") == 3


async def test_ten_viewers_cause_as_many_requests_as_one(many: WatchBench) -> None:
    await many.refresh()
    before = many.requests("*/jobs")
    many.now += 2.0
    await asyncio.gather(*(many.watch.refresh() for _ in range(10)))
    await asyncio.gather(*(many.watch.refresh() for _ in range(10)))
    assert many.requests("*/jobs") == before + 1


@pytest.mark.parametrize("bench", ["0.15", "0.16"], indirect=True)
async def test_only_shown_rows_get_details_and_not_before_they_are_due(bench: WatchBench) -> None:
    await bench.refresh()
    await bench.refresh()
    shown = bench.row("pipeline-1").pipeline_id
    await bench.refresh(shown)
    details = bench.row("pipeline-1").details
    assert details["rates"]["in"] == pytest.approx(10, rel=0.5)
    assert details["checkpoint"] is not None
    assert bench.row("pipeline-2").details is None
    asked = bench.requests("*/operator_metric_groups")
    await bench.refresh(shown, after=1.0)
    assert bench.requests("*/operator_metric_groups") == asked
    await bench.refresh(shown, after=5.0)
    assert bench.requests("*/operator_metric_groups") == asked + 1


async def test_nothing_is_requested_without_viewers(bench: WatchBench) -> None:
    await bench.refresh()
    asked = len(bench.sandbox.requests)
    bench.now += 1000
    await asyncio.sleep(0.05)
    assert len(bench.sandbox.requests) == asked


async def test_a_new_pipeline_a_change_and_a_deletion_are_seen(bench: WatchBench) -> None:
    await bench.refresh()
    await bench.refresh()
    known = bench.watch.snapshot.changes_since("", 0)
    bench.sandbox.faults.delete("pipeline-2", after=0)
    await bench.refresh()
    assert "pipeline-2" not in bench.names()
    changes = bench.watch.snapshot.changes_since(known["epoch"], known["version"])
    assert len(changes["gone"]) == 1


async def test_an_outage_is_shown_and_the_last_data_is_kept(bench: WatchBench) -> None:
    await bench.refresh()
    await bench.refresh()
    seen_at = bench.watch.seen_at
    fault = bench.sandbox.faults.status(503, path="*/jobs")
    await bench.refresh()
    assert "503" in str(bench.watch.error)
    assert bench.watch.seen_at == seen_at
    assert len(bench.names()) == 3
    bench.sandbox.faults.remove(fault)
    await bench.refresh(after=60.0)
    assert bench.watch.error is None
    assert bench.watch.seen_at is not None
    assert seen_at is not None
    assert bench.watch.seen_at > seen_at


async def test_a_hanging_server_does_not_block_the_page(bench: WatchBench) -> None:
    await bench.refresh()
    bench.sandbox.faults.hang(path="*/jobs")
    bench.now += 2.0
    began = time.monotonic()
    await asyncio.gather(*(bench.watch.refresh() for _ in range(50)))
    # A page waits at most 1.5 seconds; the margin is for a slow machine.
    assert time.monotonic() - began < 10
    bench.watch.close()
    # Otherwise, the test would wait for the hanging thread.
    bench.sandbox.faults.api_away()


async def test_at_most_twenty_requests_are_sent_per_second(many: WatchBench) -> None:
    await many.refresh()
    shown = list(many.watch.snapshot.rows)[:40]
    del many.sent_at[:]
    await many.refresh(*shown)
    sent = many.sent_at
    assert len(sent) > 60
    busiest = max(sum(at <= other < at + 1 for other in sent) for at in sent)
    assert busiest <= round(1 / PACE_SECONDS) + 1


async def test_a_new_pipeline_with_a_known_id_shows_nothing_until_it_is_described() -> None:
    with ArroyoSandbox(pipelines=1, seed=1) as sandbox:
        bench = WatchBench(sandbox)
        await bench.refresh()
        (pipeline_id,) = bench.watch.snapshot.rows
        own = f"/api/v1/pipelines/{pipeline_id}"
        jobs, described = [
            (await asyncio.to_thread(requests.get, sandbox.url + path, timeout=30)).json()
            for path in ("/api/v1/jobs", own)
        ]
        failure = {"error": "login with hunter2hunter2 refused", "domain": "user"}
        jobs["data"][0] |= {"id": "job_other", "state": "Failed", "failure_reason": failure}
        described |= {
            "name": "new",
            "query": "CREATE TABLE t WITH (connector = 'kafka', 'auth.password' = 'hunter2hunter2');",
            "created_at": described["created_at"] + 1,
        }
        as_json = {"content_type": "application/json", "times": None}
        sandbox.faults.not_json(path="*/jobs", body=json.dumps(jobs), **as_json)
        sandbox.faults.status(500, path=f"*{own}", times=1)
        await bench.refresh()
        row = bench.row("pipeline-1")
        assert not row.is_described
        assert row.failure["text"].startswith("Not shown")
        assert bench.watch.error is None
        sandbox.faults.not_json(path=f"*{own}", body=json.dumps(described), **as_json)
        await bench.refresh(after=10.0)
        row = bench.row("new")
        assert row.is_described
        assert row.failure == {"text": "login with *** refused", "domain": "user"}
        assert (row.restarts, [state for _, state, _ in row.changes]) == (0, ["Failed"])
        asked = len(sandbox.requests)
        await bench.refresh()
        assert len(sandbox.requests) == asked + 1


async def test_whatever_a_secrets_backend_raises_is_an_error_in_words(bench: WatchBench) -> None:
    await bench.refresh()
    (shown, *_) = bench.watch.snapshot.rows
    connect = bench.watch._connect

    def broken() -> ArroyoClient:
        raise RuntimeError("vault says hunter2")

    bench.watch._connect = broken
    await bench.refresh(shown, after=60.0)
    assert bench.watch.error == "Airflow could not look up the connection. See the API server's log."
    with pytest.raises(ArroyoError, match="could not look up"):
        await bench.watch.send(endpoints.ping())
    bench.watch._connect = connect
    await bench.refresh(shown, after=60.0)
    assert bench.watch.error is None


@pytest.mark.parametrize("fault, fields", [("reset", {}), ("status", {"status": 500})])
async def test_a_part_that_cannot_be_read_does_not_delay_the_others_of_the_list(
    many: WatchBench, fault: str, fields: dict[str, Any]
) -> None:
    await many.refresh()
    shown = list(many.watch.snapshot.rows)[:20]
    injected = many.sandbox.faults.inject(fault, path="*/operator_metric_groups", times=None, **fields)
    await many.refresh(*shown)
    details = [many.watch.snapshot.rows[name].details for name in shown]
    assert all(one is not None and "checkpoints" not in one["unread"] for one in details)
    # Without a response it is not asked again and again; what is refused is refused for one pipeline.
    assert many.requests("*/operator_metric_groups") == (1 if fault == "reset" else 20)
    many.sandbox.faults.remove(injected)
    for _ in range(20):
        await many.refresh(*shown)
    details = [many.watch.snapshot.rows[name].details for name in shown]
    assert all(one is not None and one["rates"] for one in details)


@pytest.mark.parametrize(
    "path, fields", [("/jobs", BROKEN_JOB), ("/jobs", {"run_id": "x"}), ("/pipelines", NAMELESS)]
)
async def test_one_item_that_cannot_be_read_is_named_and_the_others_are_shown(
    bench: WatchBench, path: str, fields: dict[str, Any]
) -> None:
    damage, matches = {path: fields}, "pipeline-2" if path == "/pipelines" else ""
    bench = WatchBench(bench.sandbox, partial(DamagingAdapter, fields=damage, matches=matches))
    await bench.refresh()
    await bench.refresh()
    shown = bench.names()
    assert len(shown) == (2 if path == "/pipelines" else 3)
    if path == "/jobs":
        assert bench.watch.error is not None
        assert "/jobs returned items that cannot be read: item 1 (id 'job_" in bench.watch.error
    # A pipeline that is shown already does not count as deleted.
    damage.clear()
    await bench.refresh()
    await bench.refresh()
    damage[path] = fields
    before = bench.names()
    await bench.refresh()
    assert bench.names() == before
    damage.clear()
    await bench.refresh()
    assert bench.watch.error is None


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_pipelines_of_the_same_second_are_all_listed(version: str) -> None:
    """A page that begins after the last one's end leaves out those of its second."""
    with ArroyoSandbox(arroyo_version=version, clock=ManualClock()) as sandbox:
        bench = WatchBench(sandbox)
        made = await asyncio.to_thread(lambda: [create(bench, f"p-{number}") for number in range(105)])
        await bench.refresh()
    assert len(made) == 105
    assert set(made) == set(bench.watch.snapshot.rows)


class FailingPage:
    """Fails a request for a page of pipelines: the first after ``passes`` others."""

    passes = 1

    def __call__(self, request: requests.PreparedRequest) -> None:
        if "/pipelines?" in str(request.url):
            self.passes -= 1
            if self.passes == -1:
                raise requests.ConnectionError("reset")


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_older_pipelines_are_listed_after_a_page_that_failed(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ArroyoSandbox(arroyo_version=version, pipelines=150, seed=1) as sandbox:
        page = FailingPage()
        bench = WatchBench(sandbox, partial(HookedAdapter, before=page, after=None))
        await bench.refresh()
        assert bench.watch.error is not None
        # What was listed before is shown.
        assert len(bench.names()) == 100
        await bench.refresh(after=60.0)
        assert len(bench.names()) == 150
        # Later, too.
        monkeypatch.setattr("airflow_provider_arroyo.client.client.PAGE_SIZE", 2)
        made = await asyncio.to_thread(lambda: [create(bench, f"new-{number}") for number in range(4)])
        page.passes = 1
        await bench.refresh(after=60.0)
        assert not set(made) <= set(bench.watch.snapshot.rows)
        await bench.refresh(after=60.0)
        assert set(made) <= set(bench.watch.snapshot.rows)


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_one_new_pipeline_costs_one_page(version: str) -> None:
    with ArroyoSandbox(arroyo_version=version, pipelines=150, seed=1) as sandbox:
        bench = WatchBench(sandbox)
        await bench.refresh()
        pages = bench.requests("*/pipelines")
        await asyncio.to_thread(create, bench, "new")
        await bench.refresh()
        assert "new" in bench.names()
        assert bench.requests("*/pipelines") == pages + 1


async def test_an_unreadable_pipeline_does_not_make_each_new_one_cost_the_whole_list() -> None:
    with ArroyoSandbox(pipelines=150, seed=1) as sandbox:
        adapt = partial(DamagingAdapter, fields={"/pipelines": NAMELESS}, matches='pipeline-2"')
        bench = WatchBench(sandbox, adapt)
        await bench.refresh()
        pages = bench.requests("*/pipelines")
        for name in ("new-1", "new-2"):
            await asyncio.to_thread(create, bench, name)
            await bench.refresh()
        assert {"new-1", "new-2"} <= bench.names()
        assert bench.requests("*/pipelines") == pages + 2


async def test_pipelines_are_shown_with_their_jobs_while_others_are_still_listed() -> None:
    seen: list[int] = []
    bench: WatchBench

    def note(request: requests.PreparedRequest) -> None:
        if "/pipelines?" in str(request.url):
            seen.append(sum(row.job is not None for row in bench.watch.snapshot.rows.values()))

    with ArroyoSandbox(pipelines=150, seed=1) as sandbox:
        bench = WatchBench(sandbox, partial(HookedAdapter, before=note, after=None))
        await bench.refresh()
        assert len(bench.names()) == 150
    assert seen == [0, 100]


@pytest.mark.parametrize("bench", ["0.15", "0.16"], indirect=True)
async def test_known_pipelines_are_up_to_date_while_new_ones_cannot_be_listed(bench: WatchBench) -> None:
    await bench.refresh()
    await bench.refresh()
    shown = bench.row("pipeline-1").pipeline_id
    await asyncio.to_thread(create, bench, "new")
    fault = bench.sandbox.faults.status(503, path="*/v1/pipelines", times=None)
    pages = bench.requests("*/v1/pipelines")
    for _ in range(4):
        began = bench.now
        await bench.refresh(shown)
        assert (bench.watch.seen_at or 0) > began
        assert "new ones are not shown" in str(bench.watch.error)
    assert bench.row("pipeline-1").details is not None
    assert bench.requests("*/v1/pipelines") == pages + 1
    bench.sandbox.faults.remove(fault)
    await bench.refresh(after=10.0)
    assert "new" in bench.names()
    assert bench.watch.error is None


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_a_pipeline_that_is_deleted_before_its_job_was_seen_does_not_stay(version: str) -> None:
    made: list[str] = []

    def make(request: requests.PreparedRequest) -> None:
        if "/pipelines?" in str(request.url) and not made:
            made.append(create(WatchBench(sandbox), "short-lived"))

    with ArroyoSandbox(arroyo_version=version, pipelines=2, seed=1) as sandbox:
        bench = WatchBench(sandbox, partial(HookedAdapter, before=make, after=None))
        await bench.refresh()
        assert "short-lived" in bench.names()
        sandbox.faults.delete("short-lived", after=0)
        await bench.refresh(after=10.0)
        assert bench.names() == {"pipeline-1", "pipeline-2"}


@pytest.mark.parametrize("version", ["0.15", "0.16"])
async def test_older_pipelines_are_listed_once_there_is_room(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (listing, snapshot):
        monkeypatch.setattr(module, "MAX_PIPELINES", 3)
    with ArroyoSandbox(arroyo_version=version, pipelines=4, seed=1) as sandbox:
        bench = WatchBench(sandbox)
        await bench.refresh()
        await bench.refresh()
        newest, *others = await asyncio.to_thread(listed, bench)
        assert set(bench.watch.snapshot.rows) == {newest, *others[:2]}
        sandbox.faults.delete(newest, after=0)
        await bench.refresh(after=300.0)
        await bench.refresh(after=300.0)
        assert set(bench.watch.snapshot.rows) == set(others)


async def test_a_long_page_of_pipelines_may_take_longer_than_other_requests(
    bench: WatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[float] = []
    iterate = ArroyoClient.iter_pipelines

    def noted(client: ArroyoClient) -> Iterator[Pipeline]:
        seconds.append(client.limits.first_try_seconds or 0.0)
        return iterate(client)

    monkeypatch.setattr(ArroyoClient, "iter_pipelines", noted)
    await bench.refresh()
    assert len(bench.names()) == 3
    assert min(seconds) > service.REQUEST_SECONDS


async def test_a_pipeline_that_could_not_be_read_is_shown_once_it_can_be(bench: WatchBench) -> None:
    damage = {"/pipelines": NAMELESS}
    bench = WatchBench(bench.sandbox, partial(DamagingAdapter, fields=damage, matches="pipeline-2"))
    for _ in range(5):
        await bench.refresh()
    # The list is long, so it is not fetched every time.
    assert (len(bench.names()), bench.requests("*/pipelines")) == (2, 1)
    damage.clear()
    await bench.refresh(after=300.0)
    assert len(bench.names()) == 3


BAD_JOB = '{"data": [{"id": "job_1", "running_desired": true, "state": null, "run_id": 1}]}'


@pytest.mark.parametrize("bench", ["0.15"], indirect=True)
@pytest.mark.parametrize(
    "fault, fields",
    [
        ("status", {"status": 500}),
        ("reset", {}),
        ("not_json", {"body": BAD_JOB, "content_type": "application/json"}),
    ],
)
async def test_one_pipeline_whose_job_cannot_be_read_does_not_hide_the_others(
    bench: WatchBench, fault: str, fields: dict[str, Any]
) -> None:
    # The newest one is asked first.
    (newest, *_) = await asyncio.to_thread(listed, bench)
    injected = bench.sandbox.faults.inject(fault, path=f"*/{newest}/jobs", times=None, **fields)
    for _ in range(5):
        await bench.refresh()
        assert bench.watch.error is None
    without = [row.pipeline_id for row in bench.watch.snapshot.rows.values() if row.job is None]
    assert without == [newest]
    # It is asked again, but not every time.
    assert bench.requests(f"*/{newest}/jobs") == 1
    bench.sandbox.faults.remove(injected)
    await bench.refresh(after=10.0)
    assert all(row.job for row in bench.watch.snapshot.rows.values())


async def test_many_pipelines_whose_jobs_cannot_be_read_do_not_hide_the_others() -> None:
    with ArroyoSandbox(arroyo_version="0.15", pipelines=25, seed=1) as sandbox:
        bench = WatchBench(sandbox)
        *newer, oldest = await asyncio.to_thread(listed, bench)
        for one in newer:
            sandbox.faults.status(500, path=f"*/{one}/jobs", times=None)
        for _ in range(3):
            await bench.refresh()
        assert bench.watch.snapshot.rows[oldest].job is not None


async def test_a_replaced_pipeline_that_cannot_be_described_does_not_hide_the_others(
    bench: WatchBench,
) -> None:
    first, *others = await asyncio.to_thread(listed, bench)
    await bench.refresh()
    jobs = await asyncio.to_thread(requests.get, f"{bench.sandbox.url}/api/v1/jobs", timeout=30)
    replaced = [{**job, "id": f"{job['id']}-new"} for job in jobs.json()["data"]]
    as_json = {"content_type": "application/json", "times": None}
    bench.sandbox.faults.not_json(path="*/v1/jobs", body=json.dumps({"data": replaced}), **as_json)
    fault = bench.sandbox.faults.status(500, path=f"*/{first}", times=None)
    await bench.refresh()
    rows = bench.watch.snapshot.rows
    assert [rows[one].is_described for one in (first, *others)] == [False, True, True]
    bench.sandbox.faults.remove(fault)
    await bench.refresh(after=10.0)
    assert rows[first].is_described


@pytest.mark.parametrize("bench", ["0.15"], indirect=True)
async def test_jobs_that_take_long_do_not_delay_the_list(
    bench: WatchBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = bench.watch.send

    async def slow(request: Any, *more: Any) -> Any:
        bench.now += 5.0
        return await send(request, *more)

    monkeypatch.setattr(bench.watch, "send", slow)
    for matched in (1, 2, 3):
        await bench.refresh()
        assert sum(row.job is not None for row in bench.watch.snapshot.rows.values()) == matched


# -- several Arroyos -------------------------------------------------------------------------------------------------

REFRESHES = 5


@pytest.fixture
def arroyos(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ArroyoSandbox]]:
    with ArroyoSandbox(pipelines=3) as healthy, ArroyoSandbox(pipelines=10) as hanging:
        for name, sandbox in (("HEALTHY", healthy), ("HANGING", hanging)):
            connection = json.dumps({"conn_type": "arroyo", "host": sandbox.url})
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", connection)
        # The hanging server hangs for the whole test, however slow the machine is.
        monkeypatch.setattr(service, "REQUEST_SECONDS", 120.0)
        for module, limit in ((watch, "WAIT_SECONDS"), (reader, "ROUND_WAIT_SECONDS")):
            monkeypatch.setattr(module, limit, 120.0)
        yield {"healthy": healthy, "hanging": hanging}


async def refresh_both(at: Watch, sandbox: ArroyoSandbox) -> int:
    """Refresh the list and a pipeline's own page several times; return how often the list was fetched."""
    await at.refresh()
    opened = next(iter(at.snapshot.rows))
    await at.definition(opened)
    before = sandbox.requests.count("GET", "*/jobs")
    for _ in range(REFRESHES):
        seen_at = at.seen_at
        at.expect_change()
        await at.refresh(opened=opened)
        assert at.error is None
        assert (at.seen_at or 0) > (seen_at or 0)
    assert at.snapshot.rows[opened].details is not None
    return sandbox.requests.count("GET", "*/jobs") - before


async def test_a_hanging_arroyo_does_not_delay_pages_of_another(
    arroyos: dict[str, ArroyoSandbox],
) -> None:
    healthy = arroyos["healthy"]
    alone = await asyncio.wait_for(refresh_both(Service().watch("healthy"), healthy), timeout=60)

    both = Service()
    hanging = both.watch("hanging")
    await hanging.refresh()
    arroyos["hanging"].faults.hang(path="*", times=None)
    names = list(hanging.snapshot.rows)
    hanging.expect_change()
    asked = len(arroyos["hanging"].requests)
    # Many viewers and actions: a list, pages, definitions, changes.
    work = [
        asyncio.create_task(one)
        for name in names
        for one in (
            hanging.refresh(opened=name),
            hanging.definition(name),
            hanging.send(endpoints.restart_pipeline(name)),
        )
    ]
    await until(lambda: len(arroyos["hanging"].requests) >= asked + MAX_THREADS)
    beside = await asyncio.wait_for(refresh_both(both.watch("healthy"), healthy), timeout=60)
    assert beside == alone == REFRESHES
    assert not any(one.done() for one in work)
    for one in work:
        one.cancel()
    hanging.close()


async def test_the_threads_of_an_arroyo_are_limited_even_after_callers_gave_up() -> None:
    run, ended, running = in_few_threads(), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        running.release()
        ended.wait(60)

    first = [asyncio.ensure_future(run(hang)) for _ in range(MAX_THREADS)]
    for _ in first:
        assert await asyncio.to_thread(running.acquire, timeout=30)
    for one in first:
        one.cancel()
    await asyncio.wait(first)
    waiting = asyncio.ensure_future(run(lambda: "its turn"))
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: None)
    assert not waiting.done()
    ended.set()
    assert await asyncio.wait_for(waiting, timeout=30) == "its turn"
