"""A real Airflow on this machine for the demo and the end-to-end tests: start it, use it, end it.

Everything lives in one scratch folder and on free ports, so several may run side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from scripts import processes

RUN_ENDED = frozenset({"success", "failed"})
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


_LOCKED_TRIES = 10


class LocalAirflowError(RuntimeError):
    """Airflow did not do what was requested; the message says what, and which log to read."""


class LocalAirflow(processes.Running):
    """``airflow standalone`` (SQLite, LocalExecutor) in a scratch folder.

    :param home: folder for ``AIRFLOW_HOME``; made when missing.
    :param dags_folder: folder with DAG files.
    :param env: more environment for every Airflow process: connections, settings.
    """

    def __init__(self, *, home: Path, dags_folder: Path, env: Mapping[str, str]) -> None:
        self.home = home
        self.dags_folder = dags_folder
        self.user = "admin"
        self._mark = uuid.uuid4().hex
        self._token = ""
        port, worker_logs, trigger_logs = processes.free_ports(3)
        self.url = f"http://localhost:{port}"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            # `airflow standalone` starts further airflow commands, so the command must be on the PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            # Tasks find the API server by this; it does not follow the port.
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            # Before Airflow 3.1, its API gives no values of XComs without it.
            "AIRFLOW__API__ENABLE_XCOM_DESERIALIZE_SUPPORT": "True",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            # A trigger moves to another triggerer when its own has sent no heartbeat for this long.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            # A deferred task resumes this many seconds and 3 after its deferral at the earliest ([arroyo]
            # deferral_hold); Airflow's default is 5.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **env,
        }

    @property
    def password(self) -> str:
        """The password that Airflow generated for its user."""
        path = self.home / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(path.read_text())[self.user])

    # Processes

    def start(self, *, timeout_seconds: float = 300.0) -> None:
        """Start Airflow and wait until every component is healthy and the login works.

        :param timeout_seconds: how long that may take, default 300; it mostly takes 25.
        :raises LocalAirflowError: when it takes longer, or Airflow ends.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        standalone = self.start_component("standalone")
        wait_until(
            lambda: self._healthy_or_ended(standalone),
            what="a healthy Airflow",
            timeout_seconds=timeout_seconds,
            interval_seconds=0.5,
        )

    def start_component(self, name: str) -> subprocess.Popen[bytes]:
        """Start one of Airflow's commands, its output in ``<home>/<name>.log``.

        :param name: ``standalone``, ``triggerer``, ``scheduler`` and so on.
        """
        return processes.start(
            [sys.executable, "-m", "airflow", name],
            log=self.log_path(name),
            env=self._env,
            mark=self._mark,
            cwd=self.home,
        )

    def log_path(self, name: str) -> Path:
        """Return the log file of a component; the components that ``standalone`` starts write to its log."""
        return self.home / f"{name}.log"

    def component(self, name: str) -> psutil.Process:
        """Return the main process of a component, of any where there are several.

        :param name: as in :meth:`start_component`.
        :raises LocalAirflowError: when it does not run.
        """
        for process in self._components(name):
            return process
        raise LocalAirflowError(f"No {name} runs")

    def _components(self, name: str) -> Iterator[psutil.Process]:
        for process in processes.marked(self._mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = process.cmdline()
                if command[-1:] == [name] and any("airflow" in part for part in command):
                    yield process

    def triggerer_of(self, logs: Iterable[Path]) -> psutil.Process | None:
        """Return the triggerer that runs a wait: it has one of the wait's logs open.

        :param logs: the triggerers' logs of the wait.
        """
        wanted = {str(log) for log in logs}
        for process in self._components("triggerer"):
            if wanted & {file.path for file in process.open_files()}:
                return process
        return None

    def prioritise_triggerer(self) -> None:
        """Run everything else at a lower priority than the triggerer, as if that had its own machine.

        Otherwise, starting tasks delays it, and it reports a blocked event loop although nothing in it blocks.
        """
        triggerer = self.component("triggerer")
        preferred = {triggerer.pid, *(one.pid for one in triggerer.children(recursive=True))}
        for process in processes.marked(self._mark):
            if process.pid not in preferred:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.nice(10)

    def stop(self) -> None:
        """End every process that this Airflow started; safe to call twice."""
        # Tasks that still wait would not end by themselves.
        processes.stop_marked(self._mark, grace_seconds=5)

    def processes_left(self) -> list[str]:
        """Return the processes of this Airflow that still run, one line each."""
        return [f"{one.pid} {' '.join(one.cmdline())}" for one in processes.marked(self._mark)]

    def _healthy_or_ended(self, standalone: subprocess.Popen[bytes]) -> bool:
        if standalone.poll() is not None:
            tail = self.log_path("standalone").read_text(errors="replace")[-3000:]
            raise LocalAirflowError(f"airflow standalone ended with {standalone.returncode}:\n{tail}")
        try:
            health = self.call("GET", "/api/v2/monitor/health", login=False)
            if all(health.get(name, {}).get("status") == "healthy" for name in COMPONENTS):
                self._log_in()
                return True
        except (OSError, LocalAirflowError):
            pass  # not up yet
        return False

    # The REST API

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, login: bool = True
    ) -> Any:
        """Call Airflow's REST API and return its JSON.

        :param method: HTTP method.
        :param path: path and query, from the root of the server.
        :param body: sent as JSON.
        :param login: whether to send the token.
        :raises LocalAirflowError: when the response is an error.
        :raises OSError: when there is no response.
        """
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        if login:
            request.add_header("Authorization", f"Bearer {self._token}")
        for attempt in range(_LOCKED_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=120) as response:
                    text = response.read()
                break
            except urllib.error.HTTPError as error:
                words = error.read().decode(errors="replace")[:1000]
                # Another component had locked SQLite, so nothing was written.
                if "Database error" not in words or attempt == _LOCKED_TRIES - 1:
                    raise LocalAirflowError(f"{method} {path} returned {error.code}: {words}") from error
                time.sleep(1)
        return json.loads(text) if text else None

    def _log_in(self) -> None:
        response = self.call(
            "POST", "/auth/token", {"username": self.user, "password": self.password}, login=False
        )
        self._token = response["access_token"]

    def unpause(self, dag_id: str, *, timeout_seconds: float = 120.0) -> None:
        """Wait until a DAG is known, and unpause it.

        :param dag_id: the DAG.
        :param timeout_seconds: how long Airflow may take to find it, default 120.
        """
        path = f"/api/v2/dags/{dag_id}"
        wait_until(
            lambda: self._known(path), what=f"DAG {dag_id} to be found", timeout_seconds=timeout_seconds
        )
        self.call("PATCH", path, {"is_paused": False})

    def _known(self, path: str) -> bool:
        errors = self.call("GET", "/api/v2/importErrors")["import_errors"]
        if errors:
            raise LocalAirflowError(f"A DAG file cannot be imported:\n{errors[0]['stack_trace']}")
        try:
            self.call("GET", path)
        except LocalAirflowError:
            return False
        return True

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG and return its run id.

        :param dag_id: the DAG.
        :param conf: the run's configuration.
        """
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self.call("GET", self._run(dag_id, run_id))["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task instance of a run, by task id."""
        return {one["task_id"]: one["state"] or "none" for one in self.task_instances(dag_id, run_id)}

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return what Airflow's API shows of the task instances of a run, 100 at most."""
        response = self.call("GET", f"{self._run(dag_id, run_id)}/taskInstances?limit=100")
        return list(response["task_instances"])

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what Airflow's API shows of a task instance."""
        return dict(self.call("GET", f"{self._run(dag_id, run_id)}/taskInstances/{task_id}"))

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the extra links of a task instance, by name."""
        response = self.call("GET", f"{self._run(dag_id, run_id)}/taskInstances/{task_id}/links")
        return dict(response["extra_links"])

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1
    ) -> Any:
        """Return an XCom value of a task, or of one instance of a mapped one."""
        path = f"{self._run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", f"{path}?deserialize=true&map_index={map_index}")["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1) -> str:
        """Return the log of a try as the UI shows it, the triggerer's part included."""
        path = f"{self._run(dag_id, run_id)}/taskInstances/{task_id}/logs/{attempt}?full_content=true"
        content = self.call("GET", path)["content"]
        return "\n".join(
            json.dumps(line, ensure_ascii=False) if isinstance(line, dict) else str(line) for line in content
        )

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, timeout_seconds: float = 60.0
    ) -> None:
        """Wait until a task instance is in a state.

        :raises LocalAirflowError: when it is not within ``timeout_seconds``, default 60.
        """
        wait_until(
            lambda: self.task_states(dag_id, run_id).get(task_id) == state,
            what=f"task {task_id} to be {state}",
            timeout_seconds=timeout_seconds,
        )

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout_seconds: float = 120.0) -> str:
        """Wait until a run ended and return its state.

        :raises LocalAirflowError: when it does not within ``timeout_seconds``, default 120.
        """
        wait_until(
            lambda: self.run_state(dag_id, run_id) in RUN_ENDED,
            what=f"run {run_id} of {dag_id} to end",
            timeout_seconds=timeout_seconds,
        )
        return self.run_state(dag_id, run_id)

    def task_log_files(self, dag_id: str, run_id: str, task_id: str) -> Iterator[Path]:
        """Yield the log files of a task, of all its instances, the triggerer's included, as they are on disk."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        yield from sorted(folder.rglob("attempt=*"))

    @staticmethod
    def _run(dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    timeout_seconds: float,
    interval_seconds: float = 0.25,
) -> None:
    """Check a condition again and again until it holds.

    :param condition: checked every ``interval_seconds``, default 0.25.
    :param what: what is waited for, for the error.
    :param timeout_seconds: how long to go on.
    :raises LocalAirflowError: when it does not hold by then.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LocalAirflowError(f"Waited {timeout_seconds:.0f} s for {what}, which did not happen")
        time.sleep(interval_seconds)
