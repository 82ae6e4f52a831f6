"""The second part: sixty tasks in a real Airflow on PostgreSQL, while its processes are killed and frozen."""

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

from airflow_provider_arroyo.arroyo.models import JobState
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import RUN_ENDED

from .cluster import Cluster
from .dags.many import DAG_ID, LANES, is_bounded, is_stopped, on_kill
from .figures import Figures
from .postgres import Postgres
from .stories import FATES
from .truth import Truth

OUTAGE_SECONDS = 60.0
FROZEN_SECONDS = 25.0
"""Longer than the 10 seconds after which a silent triggerer loses its triggers here."""

LIMIT_SECONDS = 900.0
AT_WORK = ("running", "deferred")


@dataclass(frozen=True)
class Ended:
    """A wait that was ended by force.

    :param was_killed: whether its process had no chance to say anything.
    """

    task_id: str
    try_number: int
    was_killed: bool


class Monkey:
    """Does what must not harm.

    :param airflow: the cluster.
    :param sandbox: the server.
    :param truth: what happens in it.
    :param run_id: the run of the DAG.
    :param seed: whom it befalls is drawn from it.
    :param say: gets a line for each thing that is done.
    """

    def __init__(
        self,
        airflow: Cluster,
        sandbox: ArroyoSandbox,
        truth: Truth,
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
        self.ended: list[Ended] = []

    def run(self) -> None:
        """Do everything once."""
        self._wait_for_work(8)
        self._kill_tasks(3)
        self._clear(3)
        self._wait_for_work(2, "deferred")
        self._mark_failed(4)
        for number in (1, 2):
            self._wait_for_work(4, "deferred")
            self._kill_triggerer(number)
        self._kill_tasks(2)
        self._wait_for_work(4, "deferred")
        self._freeze_triggerer(1)
        self._clear(2)
        self._restart_scheduler()
        self._wait_for_work(4)
        self._outage()
        self._kill_tasks(3)
        self._mark_failed(2)

    # -- the acts --------------------------------------------------------------------------------------------

    def _kill_tasks(self, count: int) -> None:
        """SIGKILL processes of tasks, or wait for some that there are to be killed."""
        self._until(lambda: len(self._airflow.task_processes()) >= count, 60)
        by_id = {one["id"]: one for one in self._instances()}
        there = [
            (by_id[id_], process) for id_, process in self._airflow.task_processes().items() if id_ in by_id
        ]
        for instance, process in self._draw.sample(there, min(count, len(there))):
            self._note("task process killed", instance["task_id"])
            self.ended.append(Ended(instance["task_id"], instance["try_number"], was_killed=True))
            process.send_signal(signal.SIGKILL)

    def _clear(self, count: int) -> None:
        """Clear tasks that are under way."""
        for instance in self._some_at_work(count):
            self._note(f"cleared while {instance['state']}", instance["task_id"])
            self.ended.append(Ended(instance["task_id"], instance["try_number"], was_killed=False))
            self._airflow.clear(DAG_ID, self._run_id, instance["task_id"])

    def _mark_failed(self, count: int) -> None:
        """Mark tasks failed that are under way, and clear them when Airflow has told them."""
        marked = self._some_at_work(count, "submit_")
        for instance in marked:
            task_id = instance["task_id"]
            self._note(f"marked failed while {instance['state']}", task_id)
            self.ended.append(Ended(task_id, instance["try_number"], was_killed=False))
            if on_kill(_lane(task_id)):
                self._truth.ledgers[_pipeline(task_id)].open(self._truth.now())
            self._airflow.mark_failed(DAG_ID, self._run_id, task_id)
        self._pause.wait(15)
        for instance in marked:
            self._truth.ledgers[_pipeline(instance["task_id"])].close(self._truth.now())
        if marked:
            self._airflow.clear(DAG_ID, self._run_id, *(one["task_id"] for one in marked))

    def _kill_triggerer(self, number: int) -> None:
        self._note("triggerer killed", str(number))
        self._airflow.signal_triggerer(number, signal.SIGKILL)
        self._pause.wait(12)
        self._airflow.start_triggerer(number)

    def _freeze_triggerer(self, number: int) -> None:
        """Stop a triggerer until the other one has taken its waits over, then let it go on."""
        self._note("triggerer frozen, its waits taken over", str(number))
        self._airflow.signal_triggerer(number, signal.SIGSTOP)
        self._pause.wait(FROZEN_SECONDS)
        self._airflow.signal_triggerer(number, signal.SIGCONT)
        self._pause.wait(5)

    def _restart_scheduler(self) -> None:
        self._note("scheduler killed, its tasks with it", "")
        by_id = {one["id"]: one for one in self._instances()}
        for id_ in self._airflow.task_processes():
            if id_ in by_id:
                self.ended.append(Ended(by_id[id_]["task_id"], by_id[id_]["try_number"], was_killed=True))
        self._airflow.kill_scheduler()

    def _outage(self) -> None:
        self._note("Arroyo's API away", f"for {OUTAGE_SECONDS:.0f} s")
        self._sandbox.faults.api_away(seconds=OUTAGE_SECONDS)
        self._pause.wait(OUTAGE_SECONDS + 2)

    # -- looking ---------------------------------------------------------------------------------------------

    def _instances(self) -> list[dict[str, Any]]:
        return self._airflow.task_instances(DAG_ID, self._run_id)

    def _some_at_work(self, count: int, prefix: str = "") -> list[dict[str, Any]]:
        def there() -> list[dict[str, Any]]:
            return [
                one
                for one in self._instances()
                if one["state"] in AT_WORK and one["task_id"].startswith(prefix)
            ]

        self._until(lambda: len(there()) >= count, 60)
        found = there()
        self._draw.shuffle(found)
        # In turn one that waits in a triggerer and one that is in a worker, as far as there are.
        deferred = [one for one in found if one["state"] == "deferred"]
        others = [one for one in found if one["state"] != "deferred"]
        mixed = [one for pair in zip_longest(deferred, others) for one in pair if one is not None]
        return mixed[:count]

    def _wait_for_work(self, count: int, *states: str) -> None:
        wanted = states or AT_WORK
        self._until(lambda: sum(one["state"] in wanted for one in self._instances()) >= count, 90)

    def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for something that had better be so; what is done then is done in any case."""
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            self._pause.wait(1)

    def _note(self, what: str, whom: str) -> None:
        self.figures.befell[what] += 1
        self._say(f"{what} {whom}".rstrip())

    # -- the end ---------------------------------------------------------------------------------------------

    def wait_for_the_end(self, until: float) -> None:
        """Wait until every task is green; clear those that failed, as somebody would."""
        while time.monotonic() < until:
            failed = [
                one["task_id"] for one in self._instances() if one["state"] in ("failed", "upstream_failed")
            ]
            if failed:
                self._say(f"cleared, since they had failed: {', '.join(failed)}")
                self.figures.befell["failed, cleared"] += len(failed)
                self._airflow.clear(DAG_ID, self._run_id, *failed)
            elif self._airflow.run_state(DAG_ID, self._run_id) in RUN_ENDED:
                return
            self._pause.wait(5)

    def judge(self) -> None:
        """Count, and say what is wrong."""
        figures = self.figures
        instances = self._instances()
        figures.tasks = len(instances)
        if self._airflow.scheduler_crashes:
            figures.befell["scheduler broke off by itself"] = self._airflow.scheduler_crashes
        figures.tries = sum(one["try_number"] for one in instances)
        for instance in instances:
            task_id = instance["task_id"]
            if instance["state"] != "success":
                figures.wrong["not ended"].append(f"{task_id} is {instance['state']}")
                continue
            result = self._airflow.xcom(DAG_ID, self._run_id, task_id)
            if not self._truth.stood(
                result["pipeline_id"], result["job_id"], result["state"], result["run_id"]
            ):
                stood = self._truth.timeline(result["pipeline_id"])
                figures.wrong["false success"].append(f"{task_id} says {result}: {stood}")
            if unmade := self._truth.is_unmade(result):
                figures.wrong["checkpoint claimed"].append(f"{task_id}: {unmade}")
        for lane in range(LANES):
            self._judge_pipeline(lane)
        figures.wrong["stopped by accident"].extend(self._truth.stops_by_accident())
        figures.wrong["fate not told"].extend(
            f"{one.task_id}, try {one.try_number}" for one in self.ended if not self._tells_fate(one)
        )

    def _judge_pipeline(self, lane: int) -> None:
        there = self._truth.pipelines(f"lane-{lane}")
        wanted = JobState.STOPPED if is_stopped(lane) else JobState.RUNNING
        if is_bounded(lane):
            wanted = JobState.FINISHED
        self.figures.wanted += 1
        self.figures.made += len(there)
        if len(there) > 1:
            self.figures.wrong["doubled"].append(f"lane-{lane}: {[one.id for one in there]}")
        state = there[0].job.state if there and there[0].job else None
        if state != wanted:
            self.figures.wrong["lost"].append(f"lane-{lane} is {state}, not {wanted}")

    def allow_the_stops(self) -> None:
        """Note that the last task of a lane may stop its pipeline, from when it was first tried."""
        for lane in filter(is_stopped, range(LANES)):
            path = f"/api/v2/dags/{DAG_ID}/dagRuns/{self._run_id}/taskInstances/last_{lane}/tries"
            begun = [one["start_date"] for one in self._airflow.call("GET", path)["task_instances"]]
            dates = [datetime.fromisoformat(date) for date in begun if date]
            if dates:
                self._truth.ledgers[f"lane-{lane}"].open(int(min(dates).timestamp() * 1_000_000))

    def _tells_fate(self, ended: Ended) -> bool:
        """Whether the log of a wait that was ended, or of the next try, says what became of the pipeline."""
        if not ended.task_id.startswith("submit_"):
            # The others own no pipeline.
            return True
        told = self._airflow.logs_on_disk(DAG_ID, self._run_id, ended.task_id, ended.try_number)
        if not ended.was_killed and any(fate in told for fate in FATES):
            return True
        following = self._airflow.logs_on_disk(DAG_ID, self._run_id, ended.task_id, ended.try_number + 1)
        # One that was ended before it made anything has nothing to tell.
        return "of an earlier try is" in following or " was created: " not in told


def _lane(task_id: str) -> int:
    return int(task_id.rpartition("_")[2])


def _pipeline(task_id: str) -> str:
    return f"lane-{_lane(task_id)}"


@contextmanager
def _cluster(scratch: Path, sandbox: ArroyoSandbox) -> Iterator[Cluster]:
    dags = scratch / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "many.py", dags)
    with (
        Postgres() as database,
        Cluster(
            home=scratch / "airflow",
            dags_folder=dags,
            env={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
                "AIRFLOW__CORE__PARALLELISM": "8",
                # A task whose worker was killed is noticed by its silence.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
                "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
                "AIRFLOW_CONN_ARROYO_DEFAULT": json.dumps({"conn_type": "arroyo", "host": sandbox.url}),
            },
        ) as airflow,
    ):
        yield airflow


def run(*, seed: str, say: Callable[[str], object]) -> Figures:
    """Run the sixty tasks while everything befalls them, and return what they came to.

    :param seed: whom it befalls is drawn from it.
    :param say: gets a line for each thing that is done.
    :raises LocalAirflowError: when Airflow does not do what it should by itself.
    :raises NoPostgresError: where there is no PostgreSQL.
    """
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-chaos-"))
    began = time.monotonic()
    with ArroyoSandbox(seed=random.Random(seed).randrange(2**32), log_size=5_000_000) as sandbox:
        truth = Truth(sandbox)
        with _cluster(scratch, sandbox) as airflow:
            airflow.unpause(DAG_ID)
            monkey = Monkey(airflow, sandbox, truth, airflow.trigger(DAG_ID), seed, say)
            monkey.run()
            monkey.wait_for_the_end(began + LIMIT_SECONDS)
            monkey.allow_the_stops()
            monkey.judge()
    monkey.figures.seconds = time.monotonic() - began
    if monkey.figures.is_good:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        say(f"Airflow's logs are in {scratch}")
    return monkey.figures
