"""Several Arroyos at once: each has its own threads, so a hanging one does not affect the others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.plugin import reader, service, watch
from airflow_provider_arroyo.plugin.service import MAX_THREADS, Service, in_few_threads
from airflow_provider_arroyo.plugin.watch import Watch
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.polling.support import until

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
