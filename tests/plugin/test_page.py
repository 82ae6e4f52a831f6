"""A pipeline's page on the sandbox: its requests to Arroyo, and what it shows if only some of them succeed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.plugin.live import live
from airflow_provider_arroyo.plugin.reader import MAX_OPEN
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.clock import ManualClock

from .support import WatchBench


class Page:
    """The page of a pipeline, on a sandbox whose clock advances with that of the viewers."""

    def __init__(self, bench: WatchBench, clock: ManualClock, name: str) -> None:
        self.bench = bench
        self.clock = clock
        self.name = name
        self.pipeline_id = ""

    async def find(self) -> None:
        await self.bench.refresh()
        await self.bench.refresh()
        self.pipeline_id = self.bench.row(self.name).pipeline_id

    async def open(self, seconds: float = 2.0) -> dict[str, Any]:
        self.clock.advance(seconds)
        await self.bench.open(self.pipeline_id, after=seconds)
        return self.shown()

    def shown(self) -> dict[str, Any]:
        watch = self.bench.watch
        return live(watch.snapshot.rows[self.pipeline_id], now=self.bench.now, server_time=watch.server_time)


@pytest.fixture
async def page(request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    clock = ManualClock()
    version = getattr(request, "param", "0.16")
    with ArroyoSandbox(arroyo_version=version, pipelines=3, seed=1, clock=clock) as sandbox:
        # Long enough for checkpoints and metrics.
        clock.advance(60)
        found = Page(WatchBench(sandbox), clock, "pipeline-1")
        await found.find()
        yield found


@pytest.mark.parametrize("page", ["0.15", "0.16"], indirect=True)
async def test_the_first_response_has_everything_but_the_checkpoint_sizes(page: Page) -> None:
    shown = await page.open()
    assert shown["sentence"].startswith("Running (run 1): reading ")
    assert shown["diagnosis"]["kind"] == "healthy"
    assert not shown["diagnosis"]["is_fault"]
    assert shown["missing"] == shown["errors"] == []
    assert [change[1] for change in shown["changes"]] == ["Running"]
    assert len({node["id"] for node in shown["nodes"]}) == len(shown["nodes"]) > 2
    assert any(node["out"] for node in shown["nodes"])
    assert len(shown["rates"]["at"]) > 10
    assert len(shown["checkpoints"]) == 6
    assert {one["bytes"] for one in shown["checkpoints"]} == {None}
    # The clocks differ: data may be old by ours but not by the server's.
    assert abs(page.bench.watch.server_time - page.bench.now) > 3600


async def test_checkpoint_sizes_are_read_one_by_one(page: Page) -> None:
    for _ in range(30):
        shown = await page.open()
    assert all(one["bytes"] for one in shown["checkpoints"][-4:] if one["finished"])


async def test_ten_viewers_cost_three_requests_every_two_seconds(page: Page) -> None:
    await page.open()
    bench, requests = page.bench, page.bench.sandbox.requests
    await bench.settle()
    del bench.sent_at[:]
    before, began = len(requests), bench.now
    # Ten viewers of the page and ten of the list, which shows the pipeline, each refresh every two seconds.
    for number in range(100):
        page.clock.advance(0.2)
        bench.now = began + 0.2 * (number + 1)
        await bench.watch.refresh(opened=page.pipeline_id)
        await bench.watch.refresh([page.pipeline_id])
        await bench.settle()
    assert len(requests) - before <= 3 * 20 / 2 + 3
    busiest = max(sum(at <= other < at + 2 for other in bench.sent_at) for at in bench.sent_at)
    assert busiest <= 3 + 1  # pacing may shift a request by some hundredths of a second
    assert bench.requests("*/operator_metric_groups") >= 8


async def test_a_page_without_viewers_sends_no_requests(page: Page) -> None:
    await page.open()
    asked = len(page.bench.sandbox.requests)
    page.bench.now += 3600
    await asyncio.sleep(0.05)
    assert len(page.bench.sandbox.requests) == asked
    # A list that is opened later does not read for the closed page.
    await page.bench.refresh()
    assert len(page.bench.sandbox.requests) == asked + 1


async def test_a_list_and_a_page_share_what_they_read(page: Page) -> None:
    await page.open()
    row = page.bench.row(page.name)
    assert row.details["rates"]["in"] == page.shown()["rates"]["in"][-1]
    asked = page.bench.requests("*/operator_metric_groups")
    await page.bench.refresh(page.pipeline_id, after=1.0)
    assert page.bench.requests("*/operator_metric_groups") == asked


async def test_open_pages_beyond_the_limit_get_details_like_rows_of_the_list() -> None:
    with ArroyoSandbox(pipelines=MAX_OPEN + 2, seed=1) as sandbox:
        bench = WatchBench(sandbox)
        await bench.refresh()
        names = list(bench.watch.snapshot.rows)
        for _ in range(3):
            bench.now += 2
            await asyncio.gather(*(bench.watch.refresh(opened=name) for name in names))
            await bench.settle()
        assert all(row.details is not None for row in bench.watch.snapshot.rows.values())


PARTS = {"operator_metric_groups": "Metrics", "checkpoints": "Checkpoints", "errors": "Errors"}


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 500, "error": "Something went wrong"}),
    ("status", {"status": 404, "error": "nginx"}),
    ("not_json", {}),
    ("not_json", {"body": '{"data": 7}', "content_type": "application/json"}),
    ("not_json", {"body": '{"data": [{"node_id": "x"}, null]}', "content_type": "application/json"}),
    ("reset", {}),
    ("cut_short", {}),
]


@pytest.mark.parametrize(
    "path, fault, fields",
    [*((path, *FAULTS[0]) for path in PARTS), *(("checkpoints", *one) for one in FAULTS[1:])],
)
async def test_a_part_that_cannot_be_read_is_named_and_the_rest_is_shown(
    page: Page, path: str, fault: str, fields: dict[str, Any]
) -> None:
    page.bench.sandbox.faults.inject(fault, path=f"*/{path}", times=None, **fields)
    shown = await page.open()
    (missing,) = shown["missing"]
    assert missing.startswith(f"{PARTS[path]}: ")
    assert len(missing) > 30
    assert bool(shown["rates"]) == (path != "operator_metric_groups")
    assert bool(shown["checkpoints"]) == (path != "checkpoints")
    # Without its checkpoints, a running pipeline has no diagnosis.
    assert (shown["diagnosis"] is None) == (path == "checkpoints")
    page.bench.sandbox.faults.clear()
    for _ in range(8):
        shown = await page.open()
    assert shown["missing"] == []


async def test_a_hanging_part_does_not_block_the_page(page: Page) -> None:
    page.bench.sandbox.faults.hang(path="*/operator_metric_groups")
    page.bench.now += 2
    await asyncio.wait_for(page.bench.watch.refresh(opened=page.pipeline_id), timeout=30)
    assert page.shown()["sentence"].startswith("Running (run 1)")
    page.bench.watch.close()


@pytest.mark.parametrize(
    "body, missing",
    [
        ('{"data": []}', 0),
        ('{"data": [{"epoch": 1, "start_time": 1e400, "finish_time": NaN}]}', 1),
        (f'{{"data": [{{"epoch": {10**30}, "start_time": 1}}]}}', 1),
        (f'{{"data": [{{"epoch": {2**31}, "start_time": {2**52}, "finish_time": {2**52}}}]}}', 0),
        ('{"data": [{"epoch": 1, "start_time": -1, "finish_time": 1}]}', 1),
        ('{"data": [{"epoch": 1, "start_time": -1}, {"epoch": 2, "start_time": 5, "finish_time": 6}]}', 1),
    ],
)
async def test_invalid_checkpoints_are_left_out_or_corrected(page: Page, body: str, missing: int) -> None:
    page.bench.sandbox.faults.not_json(
        path="*/checkpoints", body=body, content_type="application/json", times=None
    )
    shown = await page.open()
    assert len(shown["missing"]) == missing
    assert all(0 <= one["began"] <= 1e10 and 0 <= one["finished"] <= 1e10 for one in shown["checkpoints"])


async def test_a_new_run_is_noted_with_its_parallelism(page: Page) -> None:
    await page.open()
    await page.bench.watch.send(endpoints.patch_pipeline(page.pipeline_id, parallelism=3))
    for _ in range(4):
        shown = await page.open()
    assert page.bench.row(page.name).to_json()["parallelism"] == 3
    assert shown["changes"][-1][1:] == ["Running", 2]
    assert shown["diagnosis"]["kind"] in ("healthy", "starting")


async def test_a_failed_pipeline_shows_the_reason_and_costs_one_request_per_refresh() -> None:
    clock = ManualClock()
    with ArroyoSandbox(pipelines=1, seed=1, clock=clock) as sandbox:
        clock.advance(60)
        found = Page(WatchBench(sandbox), clock, "pipeline-1")
        await found.find()
        sandbox.faults.fail("pipeline-1", after=0, error="No such file or directory: orders.json")
        for _ in range(8):
            shown = await found.open()
        assert shown["sentence"].startswith("Failed in run 1")
        assert shown["diagnosis"]["kind"] == "file_missing"
        assert shown["diagnosis"]["is_fault"]
        assert any("orders.json" in line for line in shown["diagnosis"]["details"])
        assert shown["nodes"] == []
        asked = len(sandbox.requests)
        for _ in range(40):
            await found.open()
        # The list, and once the sizes of its few checkpoints.
        assert len(sandbox.requests) - asked <= 40 + 7


async def test_a_flapping_pipeline_is_diagnosed() -> None:
    clock = ManualClock()
    with ArroyoSandbox(pipelines=1, seed=1, clock=clock) as sandbox:
        clock.advance(60)
        found = Page(WatchBench(sandbox), clock, "pipeline-1")
        await found.find()
        sandbox.faults.flap("pipeline-1", every=10)
        kinds = [(await found.open())["diagnosis"] for _ in range(60)]
        assert kinds[-1]["kind"] == "flapping"
        assert kinds[0]["kind"] == "healthy"
