"""The second part: sixty tasks in a real Airflow on PostgreSQL whose processes are killed and frozen."""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import RUN_ENDED
from tests.cluster import LOCAL, QUICK_TAKEOVER, running
from tests.cluster.airflow import Cluster

from .dags.many import DAG_ID, LANES, is_bounded, is_stopped, stop_on_kill
from .figures import Figures
from .ground_truth import GroundTruth
from .scenarios import OUTCOMES_LOGGED

OUTAGE_SECONDS = 60.0
FROZEN_SECONDS = 25.0
"""Longer than the 10 seconds without a heartbeat after which a triggerer loses its triggers."""

LIMIT_SECONDS = 900.0
ACTIVE = ("running", "deferred")


@dataclass(frozen=True)
class Interrupted:
    """A wait that was interrupted.

    :param was_killed: whether its process could not log anything.
    """

    task_id: str
    try_number: int
    was_killed: bool


class ChaosMonkey:
    """Interrupts tasks and processes in every way that must be harmless.

    :param airflow: the cluster.
    :param sandbox: the server.
    :param truth: what really happens in it.
    :param run_id: the run of the DAG.
    :param seed: decides which tasks are interrupted.
    :param say: gets a line for each interruption.
    """

    def __init__(
        self,
        airflow: Cluster,
        sandbox: ArroyoSandbox,
        truth: GroundTruth,
        run_id: str,
        seed: str,
        say: Callable[[str], object],
    ) -> None:
        self._airflow = airflow
        self._sandbox = sandbox
        self._truth = truth
        self._run_id = run_id
        self._draw = random.Random(seed)
        self._say = say
        self._pause = threading.Event()
        self.figures = Figures(title="Airflow")
        self.interrupted: list[Interrupted] = []

    def run(self) -> None:
        """Interrupt in each of the ways."""
        self._wait_for_active(8)
        self._kill_tasks(3)
        self._clear(3)
        self._wait_for_active(2, "deferred")
        self._mark_failed(4)
        for number in (1, 2):
            self._wait_for_active(4, "deferred")
            self._kill_triggerer(number)
        self._kill_tasks(2)
        self._wait_for_active(4, "deferred")
        self._freeze_triggerer(1)
        self._clear(2)
        self._restart_scheduler()
        self._wait_for_active(4)
        self._outage()
        self._kill_tasks(3)
        self._mark_failed(2)

    # -- the interruptions -------------------------------------------------------------------------------------

    def _kill_tasks(self, count: int) -> None:
        """Kill task processes with SIGKILL, as soon as there are enough of them."""
        self._until(lambda: len(self._airflow.task_processes()) >= count, 60)
        by_id = {one["id"]: one for one in self._instances()}
        found = [
            (by_id[id_], process) for id_, process in self._airflow.task_processes().items() if id_ in by_id
        ]
        for instance, process in self._draw.sample(found, min(count, len(found))):
            self._note("task process killed", instance["task_id"])
            self.interrupted.append(Interrupted(instance["task_id"], instance["try_number"], was_killed=True))
            process.send_signal(signal.SIGKILL)

    def _clear(self, count: int) -> None:
        """Clear tasks that are active."""
        for instance in self._some_active(count):
            self._note(f"cleared while {instance['state']}", instance["task_id"])
            self.interrupted.append(
                Interrupted(instance["task_id"], instance["try_number"], was_killed=False)
            )
            self._airflow.clear(DAG_ID, self._run_id, instance["task_id"])

    def _mark_failed(self, count: int) -> None:
        """Mark active tasks failed, and clear them once Airflow has killed them."""
        marked = self._some_active(count, "submit_")
        for instance in marked:
            task_id = instance["task_id"]
            self._note(f"marked failed while {instance['state']}", task_id)
            self.interrupted.append(Interrupted(task_id, instance["try_number"], was_killed=False))
            if stop_on_kill(_lane(task_id)):
                self._truth.wanted_stops[_pipeline(task_id)].open(self._truth.now())
            self._airflow.mark_failed(DAG_ID, self._run_id, task_id)
        self._pause.wait(15)
        for instance in marked:
            self._truth.wanted_stops[_pipeline(instance["task_id"])].close(self._truth.now())
        if marked:
            self._airflow.clear(DAG_ID, self._run_id, *(one["task_id"] for one in marked))

    def _kill_triggerer(self, number: int) -> None:
        self._note("triggerer killed", str(number))
        self._airflow.signal_triggerer(number, signal.SIGKILL)
        self._pause.wait(12)
        self._airflow.start_triggerer(number)

    def _freeze_triggerer(self, number: int) -> None:
        """Freeze a triggerer until the other one has taken over its triggers, then let it continue."""
        self._note("triggerer frozen, its triggers taken over", str(number))
        self._airflow.signal_triggerer(number, signal.SIGSTOP)
        self._pause.wait(FROZEN_SECONDS)
        self._airflow.signal_triggerer(number, signal.SIGCONT)
        self._pause.wait(5)

    def _restart_scheduler(self) -> None:
        self._note("scheduler and its tasks killed", "")
        by_id = {one["id"]: one for one in self._instances()}
        for id_ in self._airflow.task_processes():
            if id_ in by_id:
                self.interrupted.append(
                    Interrupted(by_id[id_]["task_id"], by_id[id_]["try_number"], was_killed=True)
                )
        self._airflow.kill_scheduler()

    def _outage(self) -> None:
        self._note("Arroyo's API down", f"for {OUTAGE_SECONDS:.0f} s")
        self._sandbox.faults.api_away(seconds=OUTAGE_SECONDS)
        self._pause.wait(OUTAGE_SECONDS + 2)

    # -- the tasks ---------------------------------------------------------------------------------------------

    def _instances(self) -> list[dict[str, Any]]:
        return self._airflow.task_instances(DAG_ID, self._run_id)

    def _some_active(self, count: int, prefix: str = "") -> list[dict[str, Any]]:
        def active() -> list[dict[str, Any]]:
            return [
                one
                for one in self._instances()
                if one["state"] in ACTIVE and one["task_id"].startswith(prefix)
            ]

        self._until(lambda: len(active()) >= count, 60)
        found = active()
        self._draw.shuffle(found)
        # Alternate between tasks that wait in a triggerer and in a worker, while there are both.
        deferred = [one for one in found if one["state"] == "deferred"]
        others = [one for one in found if one["state"] != "deferred"]
        mixed = [one for pair in zip_longest(deferred, others) for one in pair if one is not None]
        return mixed[:count]

    def _wait_for_active(self, count: int, *states: str) -> None:
        wanted = states or ACTIVE
        self._until(lambda: sum(one["state"] in wanted for one in self._instances()) >= count, 90)

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until a condition holds, but at most that many seconds."""
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            self._pause.wait(1)

    def _note(self, what: str, which: str) -> None:
        self.figures.events[what] += 1
        self._say(f"{what} {which}".rstrip())

    # -- the end ---------------------------------------------------------------------------------------------

    def wait_for_the_end(self, until: float) -> None:
        """Wait until every task has succeeded; clear those that failed, as a user would."""
        while time.monotonic() < until:
            failed = [
                one["task_id"] for one in self._instances() if one["state"] in ("failed", "upstream_failed")
            ]
            if failed:
                self._say(f"failed, cleared: {', '.join(failed)}")
                self.figures.events["failed, cleared"] += len(failed)
                self._airflow.clear(DAG_ID, self._run_id, *failed)
            elif self._airflow.run_state(DAG_ID, self._run_id) in RUN_ENDED:
                return
            self._pause.wait(5)

    def evaluate(self) -> None:
        """Compute the figures."""
        figures = self.figures
        instances = self._instances()
        figures.tasks = len(instances)
        if self._airflow.scheduler_crashes:
            figures.events["scheduler crashed by itself"] = self._airflow.scheduler_crashes
        figures.tries = sum(one["try_number"] for one in instances)
        for instance in instances:
            task_id = instance["task_id"]
            if instance["state"] != "success":
                figures.violations["not finished"].append(f"{task_id} is {instance['state']}")
                continue
            result = self._airflow.xcom(DAG_ID, self._run_id, task_id)
            if not self._truth.has_reached(
                result["pipeline_id"], result["job_id"], result["state"], result["run_id"]
            ):
                states = self._truth.timeline(result["pipeline_id"])
                figures.violations["false success"].append(f"{task_id} returned {result}: {states}")
            if why := self._truth.why_unproven(result):
                figures.violations["unproven checkpoint"].append(f"{task_id}: {why}")
        for lane in range(LANES):
            self._evaluate_pipeline(lane)
        figures.violations["unwanted stop"].extend(self._truth.unwanted_stops())
        figures.violations["outcome not logged"].extend(
            f"{one.task_id}, try {one.try_number}"
            for one in self.interrupted
            if not self._is_outcome_logged(one)
        )

    def _evaluate_pipeline(self, lane: int) -> None:
        pipelines = self._truth.pipelines(f"lane-{lane}")
        wanted = JobState.STOPPED if is_stopped(lane) else JobState.RUNNING
        if is_bounded(lane):
            wanted = JobState.FINISHED
        self.figures.wanted += 1
        self.figures.created += len(pipelines)
        if len(pipelines) > 1:
            self.figures.violations["duplicated"].append(f"lane-{lane}: {[one.id for one in pipelines]}")
        state = pipelines[0].job.state if pipelines and pipelines[0].job else None
        if state != wanted:
            self.figures.violations["lost"].append(f"lane-{lane} is {state} instead of {wanted}")

    def allow_the_stops(self) -> None:
        """Record that the last task of a lane may stop its pipeline, from its first try on."""
        for lane in filter(is_stopped, range(LANES)):
            path = f"/api/v2/dags/{DAG_ID}/dagRuns/{self._run_id}/taskInstances/last_{lane}/tries"
            started = [one["start_date"] for one in self._airflow.call("GET", path)["task_instances"]]
            dates = [datetime.fromisoformat(date) for date in started if date]
            if dates:
                self._truth.wanted_stops[f"lane-{lane}"].open(int(min(dates).timestamp() * 1_000_000))

    def _is_outcome_logged(self, one: Interrupted) -> bool:
        """Return whether the log of an interrupted wait, or of the next try, states what happens to the pipeline."""
        if not one.task_id.startswith("submit_"):
            # The others did not create a pipeline.
            return True
        log = self._airflow.logs_on_disk(DAG_ID, self._run_id, one.task_id, one.try_number)
        if not one.was_killed and any(text in log for text in OUTCOMES_LOGGED):
            return True
        next_log = self._airflow.logs_on_disk(DAG_ID, self._run_id, one.task_id, one.try_number + 1)
        # A task that was interrupted before it created a pipeline has nothing to log.
        return "created by an earlier try: " in next_log or "Pipeline created: " not in log


def _lane(task_id: str) -> int:
    return int(task_id.rpartition("_")[2])


def _pipeline(task_id: str) -> str:
    return f"lane-{_lane(task_id)}"


@contextmanager
def cluster(scratch: Path, sandbox: ArroyoSandbox, dag_file: str) -> Iterator[Cluster]:
    """Run an Airflow on PostgreSQL, with two triggerers, and a connection to a sandbox.

    :param scratch: an empty folder.
    :param dag_file: one of ``dags/``.
    """
    dags = scratch / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "dags" / dag_file, dags)
    env = {
        **QUICK_TAKEOVER,
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW_CONN_ARROYO_DEFAULT": json.dumps({"conn_type": "arroyo", "host": sandbox.url}),
    }
    with running(LOCAL, home=scratch / "airflow", dags_folder=dags, env=env) as airflow:
        yield airflow


def run(*, seed: str, say: Callable[[str], object]) -> Figures:
    """Run the sixty tasks, interrupt them, and return their figures.

    :param seed: decides which tasks are interrupted.
    :param say: gets a line for each interruption.
    :raises LocalAirflowError: if Airflow itself fails.
    :raises NoPostgresError: where there is no PostgreSQL.
    """
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-chaos-"))
    began = time.monotonic()
    with ArroyoSandbox(seed=random.Random(seed).randrange(2**32), log_size=5_000_000) as sandbox:
        truth = GroundTruth(sandbox)
        with cluster(scratch, sandbox, "many.py") as airflow:
            airflow.unpause(DAG_ID)
            monkey = ChaosMonkey(airflow, sandbox, truth, airflow.trigger(DAG_ID), seed, say)
            monkey.run()
            monkey.wait_for_the_end(began + LIMIT_SECONDS)
            monkey.allow_the_stops()
            monkey.evaluate()
    monkey.figures.seconds = time.monotonic() - began
    if monkey.figures.has_passed:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        say(f"Airflow's logs are in {scratch}")
    return monkey.figures
