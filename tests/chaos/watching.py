"""Pipelines that are only watched: a watcher for events and a guard each, while they die, stop and flap.

Both are moved between triggerers and killed at any moment, and any request may fail. A failed pipeline is not
restarted, since a restart between two polls could not be seen.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from airflow_provider_arroyo.triggers import events, progress
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger
from tests.support import ENDLESS
from tests.tasks.harness import FakeTaskInstance, StateStore

from .figures import Figures
from .in_process import environment_of
from .network_faults import NetworkFaults
from .scenarios import Environment, Journal
from .small_airflow import Deferred, Failed, Running, Succeeded, Triggerer, Worker, log_to

STORED_SECONDS = 0.3
"""How long after a trigger's event Airflow stores it; if the triggerer is killed before that, the event is lost."""

MAX_RESTARTS = 3
"""More restarts than the faults of the whole server cause."""

LIMIT_SECONDS = 240.0


class Watcher:
    """A watcher of an asset, as Airflow runs it: restarted again and again, on changing triggerers.

    :param name: the pipeline's name.
    :param conn_id: the connection.
    :param store: the asset's state store; None before Airflow 3.3.
    :param journal: gets the log.
    """

    def __init__(self, name: str, conn_id: str, store: StateStore | None, journal: Journal) -> None:
        self._arguments = ArroyoPipelineEventTrigger(
            pipeline_name=name,
            states=["Failed", "Stopped"],
            max_restarts=MAX_RESTARTS,
            restart_window=60,
            arroyo_conn_id=conn_id,
        ).serialize()[1]
        self._store = store
        self._journal = journal
        self._running: tuple[Triggerer, asyncio.Task[None]] | None = None
        self.stored: list[dict[str, Any]] = []
        """The events in Airflow's database."""

    def start(self, triggerer: Triggerer) -> None:
        """Run it on a triggerer."""
        trigger = log_to(
            ArroyoPipelineEventTrigger(**json.loads(json.dumps(self._arguments))), self._journal.logger
        )
        trigger.asset_state_store = self._store

        async def begin() -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(run())

        async def run() -> None:
            loop, waiting = asyncio.get_running_loop(), []
            try:
                async for event in trigger.run():
                    payload = json.loads(json.dumps(event.payload))
                    waiting.append(loop.call_later(STORED_SECONDS, self.stored.append, payload))
            finally:
                for one in waiting:
                    one.cancel()

        self._running = triggerer, triggerer.run(begin()).result(20)

    def kill(self) -> None:
        """End it, as if its triggerer had been killed."""
        if self._running is None:
            return
        triggerer, task = self._running
        self._running = None

        async def cancelled() -> None:
            task.cancel()
            await asyncio.wait({task}, timeout=10)

        triggerer.run(cancelled()).result(20)


class Watched:
    """One pipeline, its watcher and its guard.

    :param environment: where they run.
    :param name: the pipeline's name.
    :param pipeline_id: its id.
    :param seed: decides what happens.
    """

    def __init__(self, environment: Environment, name: str, pipeline_id: str, seed: str) -> None:
        self._environment = environment
        self._truth = environment.truth
        self._draw = random.Random(seed)
        self.name = name
        self.pipeline_id = pipeline_id
        self.journal = Journal(name)
        self.figures = Figures(title="")
        self.end = self._draw.choice(("Failed", "Failed", "Stopped", "flaps", "lives"))
        self._store = self._draw.choice((None, StateStore()))
        self.watcher = Watcher(name, environment.conn_id, self._store, self.journal)
        self._ti = FakeTaskInstance(dag_id="chaos", task_id="guard", run_id=name, try_number=1)
        self._worker = Worker(self._make_guard, self._ti, self.journal.logger)
        self._deferred: Deferred | None = None
        self._guard: Running | None = None

    def _make_guard(self) -> ArroyoPipelineSensor:
        return ArroyoPipelineSensor(
            task_id="guard",
            pipeline_id=self.pipeline_id,
            target_states=["Failed", "Stopped"],
            max_restarts=MAX_RESTARTS,
            restart_window=60,
            timeout=600,
            poll_interval=0.15,
            api_outage_tolerance=60,
            arroyo_conn_id=self._environment.conn_id,
            deferrable=True,
            defer_after=0,
        )

    # -- what happens ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let something happen to the pipeline while its watcher and its guard are moved between triggerers."""
        half = self._worker.begin()
        if not isinstance(half, Deferred):
            self._violation("guard ended wrongly", f"it began with {half}")
            return
        self._deferred = half
        self._move_watcher()
        self._move_guard()
        self._disturb()
        if self.end == "flaps":
            self._environment.sandbox.faults.flap(self.pipeline_id, runs=8, every=2.0)
        elif self.end != "lives":
            self._has_ended()
        self._disturb()
        self._wait_until(self._is_done)
        if self._draw.random() < 0.5:
            # Without a state store, events are reported again.
            self._move_watcher()
            time.sleep(self._draw.uniform(0.5, 1.5))
        if self.end != "flaps":
            self._evaluate_events()
        self._evaluate_guard()
        self.watcher.kill()
        if self._guard is not None:
            self._guard.cancel()

    def _disturb(self) -> None:
        for _ in range(self._draw.randint(1, 3)):
            time.sleep(self._draw.uniform(0.0, 1.0))
            self._draw.choice((self._move_watcher, self._move_guard))()

    def _move_watcher(self) -> None:
        """Kill it and let another triggerer run it; nothing watches the pipeline for a while."""
        self.figures.events["watcher killed"] += 1
        self.watcher.kill()
        time.sleep(self._draw.choice((0.0, 0.0, 1.0)))
        self.watcher.start(self._draw.choice(self._environment.triggerers))

    def _move_guard(self) -> None:
        if self._guard is not None:
            if self._guard.payloads.done():
                return
            self.figures.events["guard moved"] += 1
            self._guard.cancel()
            time.sleep(self._draw.choice((0.0, 0.0, 1.0)))
        if self._deferred is not None:
            self._guard = self._draw.choice(self._environment.triggerers).start(self._deferred.trigger())

    def _is_done(self) -> bool:
        if self.end in ("Failed", "Stopped") and not self._has_ended():
            return False
        if self.end == "lives":
            return True
        is_guarded = self._guard is not None and self._guard.payloads.done()
        return is_guarded and (self.end == "flaps" or self._last_id() in self._ids())

    def _has_ended(self) -> bool:
        job = self._truth.job(self.pipeline_id)
        if job is not None and job.state == self.end:
            return True
        # Injected again and again: while the controller is down, the fault has no effect.
        if job is not None and job.state == JobState.RUNNING:
            faults = self._environment.sandbox.faults
            if self.end == "Failed":
                faults.fail(self.pipeline_id, error="chaos")
            else:
                faults.stop(self.pipeline_id, mode="immediate")
        return False

    # -- what must hold ----------------------------------------------------------------------------------------

    def _ids(self) -> set[str]:
        return {payload["event_id"] for payload in self.watcher.stored}

    def _last_id(self) -> str:
        job = self._truth.job(self.pipeline_id)
        return f"{job.id}/{job.run_id}/{job.state}" if job is not None else ""

    def _evaluate_events(self) -> None:
        self.figures.events["events stored"] += len(self.watcher.stored)
        self.figures.events["repeats"] += len(self.watcher.stored) - len(self._ids())
        if self.end in ("Failed", "Stopped") and self._last_id() not in self._ids():
            self._violation("lost event", f"{self._last_id()} is not in {sorted(self._ids())}")
        for payload in self.watcher.stored:
            where = payload["pipeline_id"], payload["job_id"], payload["state"], payload["run_id"]
            if not self._truth.has_reached(*where):
                self._violation("false event", f"{payload}: {self._truth.timeline(self.pipeline_id)}")

    def _evaluate_guard(self) -> None:
        has_fired = self._guard is not None and self._guard.payloads.done()
        if self.end == "lives":
            if has_fired:
                self._violation("guard ended wrongly", self._truth.timeline(self.pipeline_id))
            return
        if not has_fired or self._guard is None or self._deferred is None:
            self._violation("guard missed it", f"{self.end}: {self._truth.timeline(self.pipeline_id)}")
            return
        (payload,) = self._guard.payloads.result()
        ended = self._worker.resume(self._deferred, payload)
        states = self._truth.timeline(self.pipeline_id)
        if self.end == "flaps":
            if not isinstance(ended, Failed) or "restart_window" not in str(ended.error):
                self._violation("guard ended wrongly", f"{ended}: {states}")
        elif not isinstance(ended, Succeeded):
            self._violation("guard ended wrongly", f"{ended}: {states}")
        elif why := self._truth.why_false(ended.result, frozenset({self.end})):
            self._violation("guard ended wrongly", why)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT_SECONDS
        while not condition() and time.monotonic() < until:
            time.sleep(0.1)

    def _violation(self, figure: str, text: str) -> None:
        self.journal.logger.info("*** %s: %s", figure, text)
        self.figures.violations.setdefault(figure, []).append(f"{self.name} ({self.end}): {text}")


@contextmanager
def _kept_progress() -> Iterator[None]:
    """Store the progress of guards in their task instances, as Airflow's XComs do, but sooner."""

    async def pull(ti: Any, key: str) -> Any:
        await asyncio.sleep(0)
        return ti.now.xcoms.get(key)

    async def push(ti: Any, values: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        ti.now.xcoms.update(json.loads(json.dumps(values)))

    with ExitStack() as stack:
        for module, name, value in (
            (progress, "pull_xcom", pull),
            (progress, "push_xcoms", push),
            (progress, "KEEP_SECONDS", 0.3),
            (events, "_STORED_SECONDS", 1),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def run_watching(
    version: str, *, pipelines: int, seed: str, report: Callable[[str], object] | None = None
) -> Figures:
    """Watch pipelines to which something happens, and return the figures.

    :param version: the version of the server.
    :param pipelines: how many.
    :param seed: decides what happens.
    :param report: gets the logs of those that violated a rule.
    """
    total = Figures(title=f"{version} watched")
    total.violations |= {
        "lost event": [],
        "false event": [],
        "guard missed it": [],
        "guard ended wrongly": [],
    }
    began = time.monotonic()
    with environment_of(version, seed, 600.0) as environment, _kept_progress():
        watched = []
        with ArroyoClient(ClientSettings(base_url=environment.sandbox.url)) as client:
            for number in range(pipelines):
                name = f"watched-{seed}-{number}"
                pipeline_id = client.create_pipeline(name=name, query=ENDLESS).id
                watched.append(Watched(environment, name, pipeline_id, f"{version} {name}"))
        faults = NetworkFaults(environment.sandbox, f"{seed} faults")
        away = threading.Timer(4.0, lambda: environment.sandbox.faults.api_away(seconds=6.0))
        away.start()
        with ThreadPoolExecutor(24, thread_name_prefix="worker") as pool:
            list(pool.map(Watched.run, watched))
        away.join()
        faults.switch_off()
        total.events.update(faults.count)
    for one in watched:
        total.add(one.figures)
        total.events[f"pipeline {one.end}"] += 1
        if report is not None and any(one.figures.violations.values()):
            report("\n".join([f"== {one.name}", *one.journal.lines]))
    total.wanted = total.created = total.tasks = total.tries = len(watched)
    total.seconds = time.monotonic() - began
    return total
