"""Events in a real Airflow: fifty pipelines die at random while triggerers are killed and frozen.

A death counts as reported when its event is in Airflow's database. Only then is the pipeline restarted, as the DAG
that the event starts would do: a triggerer cannot see a restart that happened while it was down.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.records import Job
from scripts.local_airflow import LocalAirflowError, wait_until
from tests.cluster.airflow import Cluster
from tests.support import ENDLESS

from .dags.events import DAG_ID, NAMES
from .figures import Figures
from .in_airflow import FROZEN_SECONDS, cluster

OUTAGE_SECONDS = 15.0
DEATHS_PER_SECOND = 1.5
WITHOUT_TRIGGERERS_SECONDS = 20.0
END_SECONDS = 180.0
"""The longest time that the last events may take."""

_PAGE = 100


class Deaths:
    """Makes pipelines die, and restarts those whose deaths were reported.

    :param sandbox: the server.
    :param airflow: where the events arrive.
    :param seed: decides which ones die.
    """

    def __init__(self, sandbox: ArroyoSandbox, airflow: Cluster, seed: str) -> None:
        self._sandbox = sandbox
        self._airflow = airflow
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._client = ArroyoClient(ClientSettings(base_url=sandbox.url))
        self._ids: dict[str, str] = {}
        self.died: dict[str, tuple[str, float]] = {}
        """The pipeline and the time of each death, by the id of its event."""
        self.events: dict[int, dict[str, Any]] = {}
        """The events that Airflow has stored, by Airflow's ids."""
        self._is_over = threading.Event()
        self._restarted: set[str] = set()
        sandbox.engine.on_change.append(self._changed)

    def create(self) -> None:
        """Create the pipelines."""
        for name in NAMES:
            self._ids[name] = self._client.create_pipeline(name=name, query=ENDLESS).id

    def _changed(self, job: Job, before: str) -> None:
        if job.state == JobState.FAILED:
            with self._lock:
                self.died[f"{job.id}/{job.run_id}/Failed"] = (job.pipeline.name, time.time())

    def run(self) -> None:
        """Let pipelines die until :meth:`stop`."""
        while not self._is_over.wait(self._draw.expovariate(DEATHS_PER_SECOND)):
            name = self._draw.choice(NAMES)
            if self._sandbox.state(name) == JobState.RUNNING:
                self._sandbox.faults.fail(name, error=f"{name} had an accident", domain="external")

    def repair(self) -> None:
        """Restart the pipelines whose deaths were reported, until :meth:`stop`."""
        while not self._is_over.wait(1.0):
            # On a busy machine, Airflow's API fails occasionally.
            with contextlib.suppress(LocalAirflowError, OSError):
                self.read()

    def read(self) -> None:
        """Read Airflow's events, and restart the pipelines whose deaths they report."""
        while True:
            # Two triggerers may store their events out of order.
            offset = max(0, len(self.events) - _PAGE // 2)
            path = f"/api/v2/assets/events?limit={_PAGE}&offset={offset}&order_by=timestamp"
            page = self._airflow.call("GET", path)["asset_events"]
            known = len(self.events)
            self.events.update({one["id"]: one for one in page})
            if len(page) < _PAGE or len(self.events) == known:
                break
        reported = {one["extra"]["payload"]["event_id"] for one in self.events.values()}
        with self._lock:
            due = (reported & self.died.keys()) - self._restarted
        for event_id in due:
            self._restarted.add(event_id)
            self._client.restart_pipeline(self._ids[self.died[event_id][0]])

    def stop(self) -> None:
        """Stop causing deaths."""
        self._is_over.set()

    def wait_for_the_last(self) -> None:
        """Wait until each death has been reported and its pipeline runs again."""

        def is_settled() -> bool:
            with contextlib.suppress(LocalAirflowError, OSError):
                self.read()
            # A failing pipeline takes seconds to become Failed; until then its death is not in `died`.
            return self._restarted >= self.died.keys() and all(
                self._sandbox.state(name) == JobState.RUNNING for name in NAMES
            )

        # What has not been reported by then is a figure.
        with contextlib.suppress(LocalAirflowError):
            wait_until(is_settled, what="the last events", timeout_seconds=END_SECONDS, interval_seconds=1.0)

    def evaluate(self, figures: Figures) -> None:
        """Compute the figures."""
        payloads = [(one, one["extra"]["payload"]) for one in self.events.values()]
        counted = Counter(payload["event_id"] for _, payload in payloads)
        figures.wanted, figures.created = len(NAMES), len(self._ids)
        figures.tasks, figures.tries = len(self.died), len(payloads)
        figures.events["deaths"] = len(self.died)
        figures.events["events stored"] = len(payloads)
        figures.events["repeats"] = len(payloads) - len(counted)
        figures.violations["lost event"] = sorted(self.died.keys() - counted.keys())
        figures.violations["false event"] = sorted(counted.keys() - self.died.keys())
        what: dict[tuple[Any, ...], set[str]] = {}
        for _, payload in payloads:
            key = tuple(payload[name] for name in ("pipeline_id", "job_id", "run_id", "event"))
            what.setdefault(key, set()).add(payload["event_id"])
        figures.violations["repeat under another id"] = [
            str(ids) for ids in map(sorted, what.values()) if len(ids) > 1
        ]
        figures.violations["event of another pipeline"] = [
            payload["event_id"]
            for one, payload in payloads
            if self.died.get(payload["event_id"], ("",))[0] not in (payload["pipeline_name"], "")
        ]
        first: dict[str, float] = {}
        for one, payload in payloads:
            at = datetime.fromisoformat(one["timestamp"]).timestamp()
            first[payload["event_id"]] = min(at, first.get(payload["event_id"], at))
        late = [first[event_id] - self.died[event_id][1] for event_id in first.keys() & self.died.keys()]
        if late:
            figures.events[
                f"median seconds from death to event {median(late):.1f}, worst {max(late):.1f}"
            ] = 1


def _disturb(
    airflow: Cluster, sandbox: ArroyoSandbox, figures: Figures, say: Callable[[str], object]
) -> None:
    """Kill and freeze one triggerer, then both.

    Each sleep is how long a fault lasts or how far apart two are, not a wait for a condition.
    """

    def note(what: str) -> None:
        figures.events[what] += 1
        say(what)

    time.sleep(20.0)
    note("triggerer killed")
    airflow.signal_triggerer(1, signal.SIGKILL)
    time.sleep(15.0)
    airflow.start_triggerer(1)
    time.sleep(25.0)
    note("triggerer frozen, its triggers taken over")
    airflow.signal_triggerer(2, signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    airflow.signal_triggerer(2, signal.SIGCONT)
    time.sleep(10.0)
    note("both triggerers killed")
    for number in (1, 2):
        airflow.signal_triggerer(number, signal.SIGKILL)
    time.sleep(WITHOUT_TRIGGERERS_SECONDS)
    for number in (1, 2):
        airflow.start_triggerer(number)
    time.sleep(30.0)
    note("Arroyo's API down")
    sandbox.faults.api_away(seconds=OUTAGE_SECONDS)
    time.sleep(OUTAGE_SECONDS + 5)
    note("both triggerers frozen")
    for number in (1, 2):
        airflow.signal_triggerer(number, signal.SIGSTOP)
    time.sleep(8.0)
    for number in (1, 2):
        airflow.signal_triggerer(number, signal.SIGCONT)
    time.sleep(5.0)
    note("triggerer killed")
    airflow.signal_triggerer(2, signal.SIGKILL)
    time.sleep(12.0)
    airflow.start_triggerer(2)
    time.sleep(15.0)


def run(*, seed: str, say: Callable[[str], object]) -> Figures:
    """Make pipelines die while triggerers are killed and frozen, and return the figures.

    :param seed: decides which ones die.
    :param say: gets a line for each disturbance.
    :raises LocalAirflowError: if Airflow itself fails.
    :raises NoPostgresError: where there is no PostgreSQL.
    """
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-events-"))
    figures = Figures(title="events")
    began = time.monotonic()
    with (
        ArroyoSandbox(seed=random.Random(seed).randrange(2**32), log_size=1_000) as sandbox,
        cluster(scratch, sandbox, "events.py") as airflow,
    ):
        deaths = Deaths(sandbox, airflow, seed)
        deaths.create()
        airflow.unpause(DAG_ID)
        wait_until(
            lambda: sandbox.requests.count("GET", "*/jobs") > 0,
            what="the watchers to poll",
            timeout_seconds=120,
        )
        threads = [threading.Thread(target=work, daemon=True) for work in (deaths.run, deaths.repair)]
        for thread in threads:
            thread.start()
        _disturb(airflow, sandbox, figures, say)
        deaths.stop()
        for thread in threads:
            thread.join(30)
        deaths.wait_for_the_last()
        deaths.evaluate(figures)
    figures.seconds = time.monotonic() - began
    if figures.has_passed:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        say(f"Airflow's logs are in {scratch}")
    return figures
