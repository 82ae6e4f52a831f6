"""Start child processes that can be ended reliably, with everything they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

# All descendants of a process inherit this, even if they are orphaned or leave its process group.
MARK = "ARROYO_PROVIDER_RUN"


_held: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Return free ports, all different, for servers that this process starts; no other process is given them.

    Each stays bound until this process ends. A server may listen on it nevertheless, as long as it sets
    ``SO_REUSEADDR``, which most do. Only Linux allows that. On other systems the ports are released at once.

    :param count: how many.
    """
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    if sys.platform == "linux":
        _held.extend(sockets)
    else:
        for one in sockets:
            one.close()
    return ports


class Running:
    """What is started when it is entered, and ended when it is left or does not start."""

    def start(self) -> None:
        """Start it."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it; safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def start(
    command: Sequence[str], *, log: Path, mark: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in its own session, its output appended to a file.

    :param command: program and arguments.
    :param log: file that receives standard output and standard error.
    :param mark: value that :func:`stop_marked` finds it by, with all its descendants.
    :param cwd: folder to run in.
    :param env: the whole environment of the command; None: this process's.
    :returns: the running process.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # SPT_NOENV: otherwise, a process that sets its title overwrites the mark.
            env={**(os.environ if env is None else env), MARK: mark, "SPT_NOENV": "1"},
            cwd=cwd,
            start_new_session=True,
        )


def marked(mark: str) -> list[psutil.Process]:
    """Return the running processes that have a mark, with their children, except this one."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            # The environment of Airflow's tasks is unreadable, so they are found as children. A parent comes
            # before its children.
            is_child = process.ppid() in found
            if process.pid != os.getpid() and (is_child or process.environ().get(MARK) == mark):
                found[process.pid] = process
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return list(found.values())


def signal_tree(process: psutil.Process, signum: signal.Signals) -> None:
    """Send a signal to a process and all its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signum)


def kill_tree(process: psutil.Process) -> None:
    """End a process and all its children with SIGKILL, as when a machine dies: none sees the end of another."""
    signal_tree(process, signal.SIGSTOP)
    signal_tree(process, signal.SIGKILL)


def stop_marked(mark: str, *, grace_seconds: float = 15.0) -> None:
    """End every process that has a mark: first with SIGTERM, then with SIGKILL.

    :param mark: what :func:`start` was given.
    :param grace_seconds: how long they may take to end by themselves, default 15.
    """
    _stop(marked(mark), grace_seconds)
    # A process that was starting another one when it got the signal may have left that one running.
    _stop(marked(mark), 0)


def _stop(processes: Iterable[psutil.Process], grace_seconds: float) -> None:
    alive = list(processes)
    if grace_seconds:
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(alive, timeout=grace_seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
