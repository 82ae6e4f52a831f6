"""A real Airflow with several triggerers, whose processes can be killed, frozen and continued."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import psutil

from scripts import processes
from scripts.local_airflow import COMPONENTS, LocalAirflow, LocalAirflowError, wait_until

RESTART_SECONDS = 3.0
"""How long after its end a scheduler is started again."""


class Triggerers(LocalAirflow):
    """``airflow standalone`` with numbered triggerers; the one that it starts itself is number 1.

    :param arguments: see :class:`.LocalAirflow`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._triggerers: dict[int, psutil.Process] = {}

    def start_triggerer(self, number: int) -> None:
        """Start one more triggerer.

        :param number: its number, 2 or more.
        """
        # Each serves its logs on its own port.
        (port,) = processes.free_ports(1)
        more = {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port)}
        self._triggerers[number] = self.start_process("triggerer", log=f"triggerer-{number}", more=more)

    def start_process(
        self, *command: str, log: str | None = None, more: Mapping[str, str] | None = None
    ) -> psutil.Process:
        """Start one of Airflow's commands and return its process.

        :param command: its words, after ``airflow``.
        :param log: name of its log, default the command's first word.
        :param more: more environment.
        """
        started = processes.start(
            [sys.executable, "-m", "airflow", *command],
            log=self.log_path(log or command[0]),
            env={**self._env, **(more or {})},
            mark=self._mark,
            cwd=self.home,
        )
        return psutil.Process(started.pid)

    def triggerer(self, number: int) -> psutil.Process:
        """Return a triggerer's main process."""
        if number not in self._triggerers and number == 1:
            self._triggerers[1] = self.component("triggerer")
        return self._triggerers[number]

    def signal_triggerer(self, number: int, signum: signal.Signals) -> None:
        """Send a signal to a triggerer and all its children, as if its machine stopped or froze."""
        processes.signal_tree(self.triggerer(number), signum)

    # The REST API

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task failed, as a user does in Airflow's UI."""
        self.call("PATCH", f"{self._run(dag_id, run_id)}/taskInstances/{task_id}", {"new_state": "failed"})

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear tasks, whatever their state, as a user does in Airflow's UI."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def try_number(self, dag_id: str, run_id: str, task_id: str) -> int:
        """Return the number of the latest try of a task."""
        return int(self.task_instance(dag_id, run_id, task_id)["try_number"])

    def logs_on_disk(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> str:
        """Return the log of a try on disk, including those of the triggerers."""
        files = self.task_log_files(dag_id, run_id, task_id)
        return "\n".join(
            path.read_text(errors="replace") for path in files if path.name.startswith(f"attempt={attempt}.")
        )


class Cluster(Triggerers):
    """Airflow's components as separate processes that can be killed and started again. The scheduler is started again
    whenever it has ended, as in every deployment: it may crash if a task is cleared just as Airflow processes the end
    of its worker.

    :param triggerers: how many triggerers, default 2.
    :param arguments: see :class:`.LocalAirflow`; the environment names a database.
    """

    def __init__(self, *, triggerers: int = 2, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._triggerer_count = triggerers
        self._is_over = threading.Event()
        self._restarter = threading.Thread(
            target=self._restart_scheduler, daemon=True, name="scheduler-restarter"
        )
        self._was_killed = False
        self.scheduler_crashes = 0
        """How often the scheduler crashed."""

    def start(self, *, timeout_seconds: float = 240.0) -> None:
        """Create the database, start every component, and wait until all are healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log_path("migrate").open("wb") as log:
            subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self._env,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        self.start_process("api-server")
        self._start_scheduler()
        self._restarter.start()
        self.start_process("dag-processor")
        for number in range(1, self._triggerer_count + 1):
            self.start_triggerer(number)
        wait_until(
            self._is_healthy, what="a healthy Airflow", timeout_seconds=timeout_seconds, interval_seconds=1
        )

    def stop(self) -> None:
        """End every process; safe to call twice."""
        self._is_over.set()
        super().stop()

    def _start_scheduler(self) -> None:
        self._scheduler = self.start_process("scheduler")

    def _restart_scheduler(self) -> None:
        while True:
            self._scheduler.wait()
            if self._is_over.wait(RESTART_SECONDS):
                return
            if not self._was_killed:
                self.scheduler_crashes += 1
            self._was_killed = False
            self._start_scheduler()

    def kill_scheduler(self) -> None:
        """Kill the scheduler, its workers and their tasks; another one is started soon after."""
        self._was_killed = True
        processes.kill_tree(self._scheduler)

    def kill_worker(self, pid: int) -> None:
        """Kill what runs a task, with all its processes: with LocalExecutor, the scheduler.

        :param pid: the task's process.
        """
        if pid not in {process.pid for process in self._scheduler.children(recursive=True)}:
            raise LocalAirflowError(f"The scheduler does not have the process {pid}")
        self.kill_scheduler()

    def task_processes(self) -> dict[str, psutil.Process]:
        """Return the processes of running tasks, by the ids of their task instances."""
        found = {}
        # Airflow makes the environment of these unreadable, so their mark cannot be seen.
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self._scheduler.children(recursive=True)
        for process in children:
            with contextlib.suppress(psutil.Error):
                _, found_title, title = " ".join(process.cmdline()).partition("airflow worker -- ")
                if found_title and not title.startswith("LocalExecutor"):
                    found[title.strip()] = process
        return found

    def _is_healthy(self) -> bool:
        with contextlib.suppress(OSError, LocalAirflowError, KeyError):
            health = self.call("GET", "/api/v2/monitor/health", login=False)
            if all(health[name]["status"] == "healthy" for name in COMPONENTS):
                self._log_in()
                return True
        return False
