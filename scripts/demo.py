"""The demo: a real Airflow submits, watches and stops a pipeline, and its progress is printed live.

Run it with ``make demo``. Environment: ``KEEP=1`` leaves everything up until Ctrl-C; ``ARROYO_URL``, and
``ARROYO_API_KEY`` if it requires one, use a real Arroyo instead of the sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from scripts.local_airflow import RUN_ENDED, LocalAirflow, LocalAirflowError
from scripts.local_arroyo import ArroyoServer, LocalArroyoError, SandboxServer

DAG_ID = "arroyo_submit_watch_stop"
EXAMPLES = Path(__file__).parent.parent / "example_dags"
RUN_TIMEOUT_SECONDS = 600
POLL_SECONDS = 0.3


class Interrupted(BaseException):
    """The demo was interrupted by a signal."""


class Followed:
    """Prints what is new in a run since the last update: states of tasks, and their log lines about pipelines.

    :param airflow: where it runs.
    :param run_id: the run of the demo's DAG.
    """

    def __init__(self, airflow: LocalAirflow, run_id: str) -> None:
        self._airflow = airflow
        self._run_id = run_id
        self._begun = time.monotonic()
        self._states: dict[str, str] = {}
        self._read: dict[Path, int] = {}

    def update(self) -> None:
        """Print what is new."""
        states = self._airflow.task_states(DAG_ID, self._run_id)
        # A task logged this before it reached its current state.
        for task_id, text in self._new_lines(list(states)):
            self._say(task_id, f"  {text}")
        for task_id, state in states.items():
            if state != "none" and self._states.get(task_id) != state:
                self._states[task_id] = state
                self._say(task_id, f"[{state}]")

    def _say(self, task_id: str, text: str) -> None:
        say(f"{time.monotonic() - self._begun:6.1f} s  {task_id:<7} {text}")

    def _new_lines(self, task_ids: list[str]) -> Iterator[tuple[str, str]]:
        for task_id in task_ids:
            for path in self._airflow.task_log_files(DAG_ID, self._run_id, task_id):
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                self._read[path] = self._read.get(path, 0) + len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    if text := line_about_arroyo(line):
                        yield task_id, text


def line_about_arroyo(line: str) -> str | None:
    """Return the text of a line of a task's log if this package wrote it.

    :param line: JSON, as Airflow stores it.
    """
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if "arroyo" not in str(record.get("logger", "")):
        return None
    return str(record.get("event", ""))


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def keeps_up() -> bool:
    """Return whether everything keeps running after the run."""
    return os.environ.get("KEEP") == "1"


def start_arroyo(stack: ExitStack, scratch: Path) -> ArroyoServer:
    """Return the server that ``ARROYO_URL`` names, or a sandbox that ends with the stack.

    :raises LocalArroyoError: when it cannot be used.
    """
    if url := os.environ.get("ARROYO_URL"):
        server = ArroyoServer(url, os.environ.get("ARROYO_API_KEY") or None)
        server.check()
        say(f"Arroyo   {server.url}")
        return server
    sandbox = stack.enter_context(SandboxServer(log=scratch / "sandbox.log", demo=keeps_up()))
    say(f"Arroyo   {sandbox.url}  (the sandbox: Arroyo's API without Arroyo)")
    return sandbox


def run_dag(airflow: LocalAirflow) -> str:
    """Run the DAG, print what happens, and return the state that the run ended in.

    :raises LocalAirflowError: when it does not end in ten minutes.
    """
    airflow.unpause(DAG_ID)
    run_id = airflow.trigger(DAG_ID)
    say(f"DAG run  {airflow.url}/dags/{DAG_ID}/runs/{run_id}")
    say()
    followed = Followed(airflow, run_id)
    deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
    while (state := airflow.run_state(DAG_ID, run_id)) not in RUN_ENDED:
        if time.monotonic() > deadline:
            raise LocalAirflowError(f"The run has not ended in {RUN_TIMEOUT_SECONDS} s; it is {state}")
        followed.update()
        time.sleep(POLL_SECONDS)
    followed.update()
    return state


def demo(scratch: Path) -> int:
    """Start everything, run the DAG, and end everything.

    :param scratch: empty folder for all that is written.
    :returns: the exit code: 0 when the run succeeded.
    """
    with ExitStack() as stack:
        arroyo = start_arroyo(stack, scratch)
        shutil.copytree(EXAMPLES, scratch / "dags")
        airflow = LocalAirflow(
            home=scratch / "airflow",
            dags_folder=scratch / "dags",
            env={
                "AIRFLOW_CONN_ARROYO_DEFAULT": arroyo.airflow_connection(),
                "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            },
        )
        say("Airflow  is starting; it takes about half a minute ...")
        stack.enter_context(airflow)
        say(f"Airflow  {airflow.url}  user {airflow.user}, password {airflow.password}")
        state = run_dag(airflow)
        say()
        say(f"The run ended: {state}")
        if keeps_up():
            say(f"All pipelines: {airflow.url}/plugin/arroyo?connection=arroyo_default")
            say("Everything stays up until you press Ctrl-C.")
            try:
                signal.pause()
            except Interrupted:
                say()
        say("Stopping Airflow and everything else that was started ...")
    return 0 if state == "success" else 1


def main() -> int:
    """Run the demo in a scratch folder, which is kept only if something went wrong."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # An interrupted cleanup would leave processes running.
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)
    scratch = Path(tempfile.mkdtemp(prefix="arroyo-demo-"))
    code = 1
    try:
        code = demo(scratch)
    except Interrupted:
        code = 130
        say("Interrupted; everything that was started was stopped.")
    except (LocalAirflowError, LocalArroyoError) as error:
        say(f"The demo failed: {error}")
    if code in (0, 130) or not any(scratch.iterdir()):
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        say(f"Logs are in {scratch}")
    return code


if __name__ == "__main__":
    sys.exit(main())
