"""Bugs that chaos found, each as a test that does not depend on chance."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from functools import partial
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.on_kill import WatchedRun, note_wait
from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.polling import job_polls, shared
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.polling.support import until
from tests.support import ENDLESS, KilledError
from tests.tasks.harness import DEFERRED, SYNC, FakeTaskInstance, run_task

from .crashing_client import crash_at, crashing_clients
from .small_airflow import Deferred, Succeeded, Triggerer, Worker, fake_task_states


def use(sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", sandbox.airflow_connection_uri(**extra))


def submit(**more: Any) -> Any:
    return lambda **mode: ArroyoSubmitPipelineOperator(
        task_id="a_task",
        pipeline_name="orders",
        query=ENDLESS,
        **{"stable_for": 0.2, "timeout": 60, **more, **mode},
    )


def test_a_late_create_of_the_previous_try_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server without PUT, the first try gives up and crashes; the second begins before the create arrives."""
    ti = FakeTaskInstance()
    with ArroyoSandbox(arroyo_version="0.15", seed=1) as sandbox, crashing_clients():
        use(sandbox, monkeypatch, read_timeout=1)
        sandbox.faults.latency(3, method="POST", path="*/pipelines", times=1)
        # PUT, a list, and the POST whose response comes too late; it crashes at the next request.
        with crash_at(4):
            first = run_task(submit(), SYNC, ti)
        assert isinstance(first.error, KilledError)
        ti.try_number = 2
        second = run_task(submit(), SYNC, ti)
        assert (second.error, second.result["action"]) == (None, "adopted")
        assert list(sandbox.store.pipelines) == [second.result["pipeline_id"]]


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_failing_pipeline_that_a_restarted_server_runs_again_is_adopted(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The submit must not wait for the end of a failure that never comes."""
    ti = FakeTaskInstance()
    with ArroyoSandbox(seed=1) as sandbox, crashing_clients():
        use(sandbox, monkeypatch)
        assert run_task(submit(), mode, ti).error is None
        sandbox.faults.fail("orders")
        assert sandbox.state("orders") == "Failing"
        sandbox.faults.server_restart(seconds=0.5)
        ti.try_number = 2
        second = run_task(submit(), mode, ti)
        assert (second.error, second.result["state"]) == (None, "Running")


def test_a_mapped_task_whose_trigger_crashed_names_its_own_pipeline() -> None:
    """Airflow returns the notes of all mapped instances unless one is named."""
    ti = FakeTaskInstance(map_index=3)
    note_wait(ti, WatchedRun(pipeline=PipelineRef(pipeline_id="pl_1", name="orders")))
    operator = submit()()
    with pytest.raises(ArroyoTaskError, match=r"orders.*pl_1"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, {"ti": ti})


def test_an_outage_can_be_injected_while_requests_arrive() -> None:
    with ArroyoSandbox(seed=1) as sandbox:
        done = threading.Event()

        def request() -> None:
            from urllib.request import urlopen

            while not done.is_set():
                try:
                    urlopen(f"{sandbox.url}/api/v1/jobs", timeout=2).read()
                except OSError:
                    done.wait(0.001)

        threads = [threading.Thread(target=request, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            sandbox.faults.api_away()
            sandbox.faults.api_back()
            longest = max(longest, time.monotonic() - began)
        done.set()
        for thread in threads:
            thread.join(10)
        # It used to hold the lock that the server's thread needed to end, and gave up on that thread after 10 s.
        assert longest < 10


async def test_a_new_wait_gets_its_job_from_an_unchanged_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing changes on the server, and the last list was read before any wait for this pipeline began."""
    monkeypatch.setattr(job_polls, "prefers_list", lambda *_: True)
    log, clock = logging.getLogger("tests.chaos.regressions"), SteadyClock()
    with ArroyoSandbox(arroyo_version="0.16", seed=1, pipelines=3, clock=ManualClock()) as sandbox:
        sandbox.advance(30)
        first, second, _ = sandbox.store.pipelines

        async def connect() -> ArroyoClient:
            return ArroyoClient(ClientSettings(base_url=sandbox.url))

        def wait(pipeline_id: str, state: str) -> PipelineWait:
            plan = WaitPlan(
                pipeline=PipelineRef(pipeline_id=pipeline_id),
                target_states=frozenset({state}),
                deadline=clock() + 60,
            )
            return PipelineWait(plan, now=clock())

        async with shared.shared_poller("a", connect) as poller:
            watch = partial(poller.watch, interval_seconds=0.05, clock=clock, log=log)
            long = asyncio.create_task(watch(wait(first, "Stopped")))
            await until(lambda: sandbox.requests.count("GET", "*/jobs") >= 5)
            async with asyncio.timeout(60):
                result = await watch(wait(second, "Running"))
            long.cancel()
        assert result.outcome is Outcome.REACHED


def test_killing_a_wait_whose_task_has_ended_elsewhere_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A triggerer that lost its heartbeat fires after all, and Airflow kills the wait in its successor."""
    ti = FakeTaskInstance()
    log = logging.getLogger("tests.chaos.regressions")
    with ArroyoSandbox(seed=1) as sandbox, crashing_clients(), Triggerer("a") as one, Triggerer("b") as two:
        use(sandbox, monkeypatch)
        worker = Worker(lambda: submit(stop_on_kill="checkpoint")(deferrable=True, defer_after=0), ti, log)
        half = worker.begin()
        assert isinstance(half, Deferred)
        frozen, successor = one.start(half.trigger()), two.start(half.trigger())
        (payload,) = frozen.payloads.result(60)
        ti.state = "running"
        end = worker.resume(half, payload)
        assert isinstance(end, Succeeded)
        ti.state = "success"
        with fake_task_states():
            successor.kill()
        assert {request.method for request in sandbox.requests} == {"GET", "PUT"}
        assert sandbox.state("orders") == "Running"


@pytest.mark.parametrize("state", ["success", "failed"])
def test_marking_a_deferred_task_stops_its_pipeline(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call of on_kill, but here the task did not end by itself."""
    ti = FakeTaskInstance()
    log = logging.getLogger("tests.chaos.regressions")
    with ArroyoSandbox(seed=1) as sandbox, crashing_clients(), Triggerer("a") as one:
        use(sandbox, monkeypatch)
        make = submit(stop_on_kill="checkpoint", stable_for=60, timeout=120)
        half = Worker(lambda: make(deferrable=True, defer_after=0), ti, log).begin()
        assert isinstance(half, Deferred)
        running = one.start(half.trigger())
        while sandbox.state("orders") != "Running":
            assert not running.has_fired(within_seconds=0.1)
        polls = sandbox.requests.count("GET", "*/jobs")
        while sandbox.requests.count("GET", "*/jobs") < polls + 2:
            assert not running.has_fired(within_seconds=0.1)
        ti.state = state
        with fake_task_states():
            running.kill()
        assert [request.json for request in sandbox.requests if request.method == "PATCH"] == [
            {"stop": "checkpoint"}
        ]
