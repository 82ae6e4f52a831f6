"""What chaos found once, each as a test of its own that needs no luck."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.monitoring.feed import shared_feed
from airflow_provider_arroyo.monitoring.feed_cost import Look, LookCosts
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.operators.pipelines import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.support import ENDLESS
from tests.tasks.harness import DEFERRED, SYNC, FakeTaskInstance, run_task

from .mortals import Killed, clients, mortal
from .stage import Deferred, Green, Triggerer, Worker, states_of_tasks


def use(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri(**extra))


def submit(**more: Any) -> Any:
    return lambda **mode: ArroyoSubmitPipelineOperator(
        task_id="a_task", name="orders", query=ENDLESS, **{"stable_for": 0.2, "timeout": 60, **more, **mode}
    )


def test_a_create_of_the_try_before_that_comes_in_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server without PUT: the first try gives up, dies, and the second is there before the create is."""
    ti = FakeTaskInstance()
    with ArroyoSandbox(arroyo_version="0.15", seed=1) as sandbox, clients():
        use(sandbox, monkeypatch, read_timeout=0.3)
        sandbox.faults.latency(1.0, method="POST", path="*/pipelines", times=1)
        # PUT, a look, and the POST whose answer does not come in time; it dies when it looks again.
        with mortal(3, after=True):
            first = run_task(submit(), SYNC, ti)
        assert isinstance(first.error, Killed)
        ti.try_number = 2
        second = run_task(submit(), SYNC, ti)
        assert (second.error, second.result["how"]) == (None, "adopted")
        assert list(sandbox.store.pipelines) == [second.result["pipeline_id"]]


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_failing_pipeline_that_a_restarted_server_runs_anew_is_taken(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for while it goes down, and never comes to rest."""
    ti = FakeTaskInstance()
    with ArroyoSandbox(seed=1) as sandbox, clients():
        use(sandbox, monkeypatch)
        assert run_task(submit(), mode, ti).error is None
        sandbox.faults.fail("orders")
        assert sandbox.state("orders") == "Failing"
        sandbox.faults.server_restart(seconds=0.5)
        ti.try_number = 2
        began = time.monotonic()
        second = run_task(submit(), mode, ti)
        assert (second.error, second.result["state"]) == (None, "Running")
        assert time.monotonic() - began < 30


def test_a_mapped_task_whose_trigger_broke_off_says_which_pipeline_goes_on() -> None:
    """Airflow returns the notes of all mapped instances to who does not say which he wants."""
    ti = FakeTaskInstance(map_index=3)
    ti.xcom_push("arroyo_wait", {"pipeline_id": "pl_1", "name": "orders", "job": None, "try_number": 1})
    operator = submit()()
    with pytest.raises(ArroyoTaskError, match=r"orders.*pl_1"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, {"ti": ti})


def test_an_outage_can_be_ordered_while_requests_come_in() -> None:
    with ArroyoSandbox(seed=1) as sandbox:
        done = threading.Event()

        def ask() -> None:
            from urllib.request import urlopen

            while not done.is_set():
                try:
                    urlopen(f"{sandbox.url}/api/v1/jobs", timeout=2).read()
                except OSError:
                    done.wait(0.001)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        for _ in range(20):
            sandbox.faults.api_away()
            sandbox.faults.api_back()
        took = time.monotonic() - began
        done.set()
        for thread in threads:
            thread.join(10)
        # The thread that answers requests was waited for, for 10 s, by one that held what it needed.
        assert took < 8


async def test_who_joins_a_feed_is_told_though_the_list_stays_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing changes on the server, and the answer with all jobs was read before anybody waited for this one."""
    monkeypatch.setattr(LookCosts, "choose", lambda self, *asked, **more: Look.LIST)
    with ArroyoSandbox(arroyo_version="0.16", seed=1, pipelines=3, clock=ManualClock()) as sandbox:
        sandbox.advance(30)
        first, second, _ = sandbox.store.pipelines

        async def connect() -> ArroyoAsyncClient:
            return ArroyoAsyncClient(ClientSettings(base_url=sandbox.url))

        def wait(pipeline_id: str, state: str) -> PipelineWait:
            plan = WaitPlan(pipeline_id=pipeline_id, targets=frozenset({state}), deadline=time.time() + 60)
            return PipelineWait(plan, now=time.time())

        async with shared_feed(key=("a",), interval_seconds=0.05, connect=connect, clock=time.time) as feed:
            long = asyncio.create_task(feed.watch(wait(first, "Stopped")))
            while sandbox.requests.count("GET", "*/jobs") < 5:  # noqa: ASYNC110  # it is in another thread
                await asyncio.sleep(0.02)
            async with asyncio.timeout(10):
                verdict = await feed.watch(wait(second, "Running"))
            long.cancel()
        assert verdict.outcome is Outcome.REACHED


def test_a_wait_that_another_triggerer_brought_to_its_end_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A triggerer that was silent for too long fires after all: the one that took over is told to end its wait."""
    ti = FakeTaskInstance()
    log = logging.getLogger("tests.chaos.found")
    with ArroyoSandbox(seed=1) as sandbox, clients(), Triggerer("a") as one, Triggerer("b") as two:
        use(sandbox, monkeypatch)
        worker = Worker(lambda: submit(on_kill="checkpoint")(deferrable=True, defer_after=0), ti, log)
        half = worker.begin()
        assert isinstance(half, Deferred)
        silent, successor = one.start(half.trigger()), two.start(half.trigger())
        (payload,) = silent.payloads.result(20)
        ti.state = "running"
        end = worker.resume(half, payload)
        assert isinstance(end, Green)
        ti.state = "success"
        with states_of_tasks():
            successor.kill()
        assert {request.method for request in sandbox.requests} == {"GET", "PUT"}
        assert sandbox.state("orders") == "Running"


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_task_that_somebody_marked_while_it_waited_stops_its_pipeline(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call, but here the task came to no end of its own."""
    ti = FakeTaskInstance()
    log = logging.getLogger("tests.chaos.found")
    with ArroyoSandbox(seed=1) as sandbox, clients(), Triggerer("a") as one:
        use(sandbox, monkeypatch)
        make = submit(on_kill="checkpoint", stable_for=60, timeout=120)
        half = Worker(lambda: make(deferrable=True, defer_after=0), ti, log).begin()
        assert isinstance(half, Deferred)
        running = one.start(half.trigger())
        while sandbox.state("orders") != "Running":
            assert not running.has_fired(within_seconds=0.1)
        running.has_fired(within_seconds=0.3)
        ti.state = state
        with states_of_tasks():
            running.kill()
        assert [request.json for request in sandbox.requests if request.method == "PATCH"] == [
            {"stop": "checkpoint"}
        ]
