"""``python -m tests.deferrals``: how many short deferrals Airflow fails, with the hold and without.

A real Airflow on PostgreSQL with its default settings runs sensors that defer at once; their pipelines are stopped at
random times within the next twelve seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import RUN_ENDED, LocalAirflow, LocalAirflowError
from tests.cluster import CELERY, LOCAL, running

from .dags.deferrals import DAG_ID

LONGEST_SECONDS = 12.0
LIMIT_SECONDS = 900.0
ENDLESS = """
CREATE TABLE source WITH (connector = 'impulse', event_rate = '1');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM source;
"""


@dataclass(frozen=True)
class Figures:
    """The result of one run.

    :param states: how many tasks ended in each state.
    :param latencies: seconds from the end of each pipeline to the success of its task.
    """

    name: str
    states: Counter[str]
    latencies: Sequence[float]

    @property
    def failed(self) -> int:
        """How many tasks did not succeed."""
        return sum(count for state, count in self.states.items() if state != "success")

    def __str__(self) -> str:
        """Return a row of a table."""
        worst, usual = max(self.latencies, default=0.0), median(self.latencies or [0.0])
        tasks = sum(self.states.values())
        return f"| {self.name} | {tasks} | {self.failed} | {usual:.1f} s | {worst:.1f} s |"


class Stopper:
    """Stops each pipeline at a random time within twelve seconds of its sensor's first poll.

    :param sandbox: has the pipelines.
    :param seed: decides the times.
    """

    def __init__(self, sandbox: ArroyoSandbox, pipelines: Sequence[str], seed: str) -> None:
        self._sandbox, self._left = sandbox, set(pipelines)
        self._draw = random.Random(seed)
        self.stopped_at: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="stopper")

    def __enter__(self) -> Stopper:
        self._sandbox.requests.clear()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(30)

    def _run(self) -> None:
        due: list[tuple[float, str]] = []
        with ArroyoClient(ClientSettings(base_url=self._sandbox.url)) as client:
            while not self._is_over.wait(0.05):
                for request in self._sandbox.requests.find("GET", "/api/v1/pipelines/*"):
                    pipeline_id = request.path.split("/")[4]
                    if pipeline_id in self._left:
                        self._left.remove(pipeline_id)
                        due.append((time.time() + self._draw.uniform(0, LONGEST_SECONDS), pipeline_id))
                if self._left:
                    self._sandbox.requests.clear()
                for at, pipeline_id in [one for one in due if one[0] <= time.time()]:
                    due.remove((at, pipeline_id))
                    client.patch_pipeline(pipeline_id, stop=StopMode.IMMEDIATE)
                self._note(client)

    def _note(self, client: ArroyoClient) -> None:
        """Record when a pipeline was first in state Stopped."""
        for job in client.list_jobs():
            if job.state == JobState.STOPPED:
                self.stopped_at.setdefault(job.pipeline_id or job.id, time.time())


@contextmanager
def _airflow(executor: str, scratch: Path, env: dict[str, str]) -> Iterator[LocalAirflow]:
    dags = scratch / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags)
    env = {
        # Airflow's defaults; the demo and other tests use other values.
        "AIRFLOW__CORE__PARALLELISM": "32",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
        **env,
    }
    with running(
        executor, home=scratch / "airflow", dags_folder=dags, env=env, workers=1, triggerers=1
    ) as airflow:
        yield airflow


def _wait_for_run(airflow: LocalAirflow, run_id: str) -> None:
    """Wait for the run to end; a busy Airflow may take long to report that."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            if airflow.run_state(DAG_ID, run_id) in RUN_ENDED:
                return
        time.sleep(2)
    raise LocalAirflowError(f"Run {run_id} has not ended within {LIMIT_SECONDS:.0f} s")


def run(name: str, executor: str, *, count: int, at_once: int, seed: str, env: dict[str, str]) -> Figures:
    """Run that many deferrals and return the figures."""
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-deferrals-"))
    pipelines = [f"pl_{number}" for number in range(count)]
    with ArroyoSandbox(arroyo_version="0.16", seed=1, log_size=200_000) as sandbox:
        with ArroyoClient(ClientSettings(base_url=sandbox.url)) as client:
            for pipeline_id in pipelines:
                client.put_pipeline(pipeline_id, name=pipeline_id, query=ENDLESS)
            while any(job.state != JobState.RUNNING for job in client.list_jobs()):
                time.sleep(0.2)
        connection = json.dumps({"conn_type": "arroyo", "host": sandbox.url})
        more = {
            "AIRFLOW_CONN_ARROYO_DEFAULT": connection,
            "DEFERRALS_PIPELINES": json.dumps(pipelines),
            "DEFERRALS_AT_ONCE": str(at_once),
            **env,
        }
        with _airflow(executor, scratch, more) as airflow, Stopper(sandbox, pipelines, seed) as stopper:
            airflow.unpause(DAG_ID)
            run_id = airflow.trigger(DAG_ID)
            _wait_for_run(airflow, run_id)
            instances = [
                one
                for offset in range(0, count, 100)
                for one in airflow.call(
                    "GET",
                    f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?limit=100&offset={offset}",
                )["task_instances"]
            ]
    latencies = [
        datetime.fromisoformat(one["end_date"]).timestamp() - stopper.stopped_at[pipelines[one["map_index"]]]
        for one in instances
        if one["state"] == "success"
    ]
    figures = Figures(name, Counter(str(one["state"]) for one in instances), latencies)
    if figures.failed:
        sys.stderr.write(f"{name}: Airflow's logs are in {scratch}\n")
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return figures


RUNS: dict[str, dict[str, str]] = {
    "with the hold": {},
    "without a hold": {"AIRFLOW__ARROYO__DEFERRAL_HOLD": "0"},
    "end_from_trigger": {"DEFERRALS_END_FROM_TRIGGER": "1"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print a table, and return 0 if no task failed, except those without a hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.deferrals", description=__doc__)
    parser.add_argument("--executor", choices=[LOCAL, CELERY], action="append", help="default both")
    parser.add_argument("--run", choices=list(RUNS), action="append", help="default all")
    parser.add_argument("--count", type=int, default=200, help="deferrals in each run")
    parser.add_argument("--at-once", type=int, default=16, help="tasks that run at once: Airflow's default")
    parser.add_argument("--seed", default="1", help="draws when the pipelines end")
    options = parser.parse_args(arguments)
    # Exit normally, so that every process that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    sys.stdout.write("| run | deferrals | failed | end of the pipeline to success, median | worst |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    has_passed = True
    for executor in options.executor or (LOCAL, CELERY):
        for name in options.run or RUNS:
            figures = run(
                f"{executor}, {name}",
                executor,
                count=options.count,
                at_once=options.at_once,
                seed=options.seed,
                env=RUNS[name],
            )
            sys.stdout.write(f"{figures}\n")
            sys.stdout.flush()
            has_passed &= not figures.failed or name == "without a hold"
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
