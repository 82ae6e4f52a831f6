"""In a real Airflow: how our waits affect other triggers, and how soon a submit is done."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.crowds import CROWDS, Crowd
from benchmarks.parts import ALARMS, DEFERRED, FOLDER, SUBMITS, WAVE, WAVES
from benchmarks.processes import Child, child, cpu_seconds, resident_megabytes
from benchmarks.report import Table, spread
from scripts.local_airflow import LocalAirflow, wait_until

ROOT = Path(__file__).parent.parent
SETTLE_SECONDS = 40.0
QUIET_SECONDS = 15.0
ALARM_SECONDS = 2.0
"""Between two alarms, so that one worker is done before the next one begins."""

EVENT_SECONDS = 3.0
"""Between two events of a wave …"""
SOON_SECONDS = 3.0
"""… and before its first, for the triggerer to have every trigger."""

FLOOR = "Airflow's floor: a trigger fires"


@contextmanager
def airflow(server: Child, crowd: str, dags: Sequence[str]) -> Iterator[LocalAirflow]:
    """Run an Airflow with some of our DAGs.

    :param server: the sandbox.
    :param crowd: which waits it has, one of ``CROWDS``.
    :param dags: files in the folder of DAGs.
    """
    begun = server.read()
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-bench-"))
    try:
        folder = scratch / "dags"
        folder.mkdir()
        for name in dags:
            shutil.copy(ROOT / "benchmarks" / "dags" / f"{name}.py", folder)
        _tell(scratch, "server", {**begun, "crowd": crowd})
        env = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "AIRFLOW_CONN_ARROYO_DEFAULT": json.dumps({"conn_type": "arroyo", "host": begun["url"]}),
            # Airflow's default is 1,000; further triggers would wait until there is room.
            "AIRFLOW__TRIGGERER__CAPACITY": "2000",
            # Parsing hundreds of DAGs again and again would take a core from the measurement.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            FOLDER: str(scratch),
        }
        with LocalAirflow(home=scratch / "airflow", dags_folder=folder, env=env) as running:
            yield running
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _tell(scratch: Path, name: str, value: Any) -> None:
    # Replaced in one step, since triggers read it meanwhile.
    draft = scratch / f"{name}.draft"
    draft.write_text(json.dumps(value))
    draft.replace(scratch / f"{name}.json")


def _ends(running: LocalAirflow, dag_id: str, run_id: str) -> dict[str, float]:
    """Return when each task of a run ended, seconds since the epoch; all must have gone well."""
    found = {}
    for one in running.task_instances(dag_id, run_id):
        if one["state"] != "success":
            raise RuntimeError(f"{one['task_id']} of {dag_id} is {one['state']}")
        found[one["task_id"]] = datetime.fromisoformat(one["end_date"]).timestamp()
    return found


def _fill(running: LocalAirflow, crowd: Crowd) -> None:
    """Start a crowd, and wait until all of its tasks wait."""
    for number in range(crowd.dags):
        running.unpause(f"crowd_{number}")
        running.trigger(f"crowd_{number}")
    path = "/api/v2/dags/~/dagRuns/~/taskInstances?state=deferred&limit=1"
    wait_until(
        lambda: running.call("GET", path)["total_entries"] == crowd.waits,
        what=f"{crowd.waits} tasks to be deferred",
        timeout_seconds=300,
        interval_seconds=2,
    )


def _alarms(running: LocalAirflow, seed: int) -> tuple[list[float], list[float]]:
    """Fire alarms; return how long after its event each task was done, by worker and by triggerer."""
    running.unpause("neighbours")
    rng = random.Random(seed)
    first = time.time() + 20
    alarms = [first + ALARM_SECONDS * (number + rng.random()) for number in range(ALARMS)]
    _tell(running.home.parent, "alarms", alarms)
    run_id = running.trigger("neighbours")
    running.wait_for_run("neighbours", run_id, timeout_seconds=20 + ALARM_SECONDS * ALARMS + 120)
    ends = _ends(running, "neighbours", run_id)
    late = [ends[f"alarm_{number}"] - alarm for number, alarm in enumerate(alarms)]
    return late[0::2], late[1::2]


def _triggerer(running: LocalAirflow, seconds: float) -> tuple[float, float]:
    """Return the share of a core that the triggerer took, in percent, and its memory in megabytes."""
    main = running.component("triggerer")
    pids = [main.pid, *(one.pid for one in main.children(recursive=True))]
    before, began = sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    cpu = 100 * (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - began)
    return cpu, sum(map(resident_megabytes, pids))


def neighbours_table(repeats: int) -> Table:
    """Measure other triggers next to crowds of waits.

    :param repeats: how many Airflows for each crowd, one after another.
    """
    table = Table(
        "Other people's triggers in a real triggerer: the event to the task's success, seconds",
        "median and worst within 1.2 × of those where nobody else waits",
        [
            "who waits beside them",
            "resumed in a worker: median",
            "worst",
            "ended by the triggerer: median",
            "worst",
            "triggerer's CPU, % of a core",
            "its memory, MB",
        ],
    )
    print(table.title, flush=True)
    seen: dict[str, list[tuple[list[float], list[float], float, float]]] = defaultdict(list)
    for seed in range(repeats):
        for name, crowd in CROWDS.items():
            with (
                child("server", "1000", "0.16") as server,
                airflow(server, name, ["crowd", "neighbours"]) as running,
            ):
                _fill(running, crowd)
                time.sleep(SETTLE_SECONDS)
                cpu, memory = _triggerer(running, QUIET_SECONDS)
                seen[name].append((*_alarms(running, seed), cpu, memory))
    for name, runs in seen.items():
        resumed, ended, cpu, memory = zip(*runs, strict=True)
        table.add(
            name,
            *(
                figure
                for late in (resumed, ended)
                for figure in (
                    spread([statistics.median(one) for one in late], 2),
                    spread([max(one) for one in late], 2),
                )
            ),
            spread(cpu),
            spread(memory, 0),
        )
    table.note(
        f"{ALARMS // 2} events of each kind in a run, {repeats} runs, on SQLite with the LocalExecutor. "
        "CPU and memory are those of all of the triggerer's processes while no event happens."
    )
    return table


def _deferred(running: LocalAirflow, server: Child, wave: int) -> dict[str, list[float]]:
    """Let submits and alarms wait at the same time, then end one by one; return how late each kind was done.

    So all of them use the same triggerer, scheduler and workers, at independent moments.
    """
    _tell(running.home.parent, "alarms", None)
    run_id = running.trigger("deferred", {"wave": wave})
    wait_until(
        lambda: set(running.task_states("deferred", run_id).values()) == {"deferred"},
        what="all tasks of a wave to be deferred",
        timeout_seconds=120,
    )
    rng = random.Random(wave)
    waiting = [(kind, number) for kind in ("alarm", *DEFERRED) for number in range(WAVE)]
    rng.shuffle(waiting)
    first = time.time() + SOON_SECONDS
    moments = {one: first + EVENT_SECONDS * (turn + rng.random() / 2) for turn, one in enumerate(waiting)}
    _tell(running.home.parent, "alarms", [moments["alarm", number] for number in range(WAVE)])
    for kind, number in waiting:
        time.sleep(max(0.0, moments[kind, number] - time.time()))
        if kind != "alarm":
            server.ask(do="let run", pipeline=f"held_{wave}_{kind}_{number}")
    running.wait_for_run("deferred", run_id)
    ran = server.ask(do="when did they run")["ran"]
    ends = _ends(running, "deferred", run_id)
    late = defaultdict(list)
    for (kind, number), moment in moments.items():
        begun = moment if kind == "alarm" else ran[f"held_{wave}_{kind}_{number}"]
        late[kind].append(ends[f"{kind}_{number}"] - begun)
    return late


def submit_table() -> Table:
    """Measure how soon after its pipeline really runs a submit is done."""
    table = Table(
        "Submit (`stable_for=0`): the pipeline really runs to the task's success, seconds",
        "in the worker ≤ 0.15 s; deferred within 0.2 s of Airflow's own floor",
        ["how", "the pipeline runs after", "submits", "median", "mean", "worst"],
    )
    print(table.title, flush=True)
    late: dict[str, list[float]] = defaultdict(list)
    with (
        child("server", "10", "0.16") as server,
        airflow(server, "nobody", ["submits", "deferred"]) as running,
    ):
        running.unpause("submits")
        run_id = running.trigger("submits")
        running.wait_for_run("submits", run_id, timeout_seconds=1800)
        ran = server.ask(do="when did they run")["ran"]
        for task_id, end in _ends(running, "submits", run_id).items():
            kind = task_id.rpartition("_")[0]
            late[kind].append(end - ran[f"{SUBMITS[kind][0]}_{task_id}"])
        running.unpause("deferred")
        for wave in range(WAVES):
            for kind, some in _deferred(running, server, wave).items():
                late[kind] += some
    starts = {kind: "half a second" if start == "soon" else "6 s" for kind, (start, _) in SUBMITS.items()}
    for kind, some in late.items():
        table.add(
            FLOOR if kind == "alarm" else kind.replace("_", " "),
            "–" if kind == "alarm" else starts.get(kind, "all wait"),
            str(len(some)),
            f"{statistics.median(some):.2f}",
            f"{statistics.mean(some):.2f}",
            f"{max(some):.2f}",
        )
    table.note(
        "“worker” and those with “defer after” are ours; “always defers” creates the pipeline, defers at once and "
        "polls every 100 ms in a trigger of its own. Those that run when all wait, and the floor, happen in turn "
        "in the same waves."
    )
    return table
