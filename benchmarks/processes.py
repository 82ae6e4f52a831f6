"""Child processes that read and write lines, and measurements of what a process uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

END_SECONDS = 15


class Child:
    """A process that speaks JSON lines.

    :param command: program and arguments.
    :param env: its whole environment.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        # Pipes were asked for, so that both are there.
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)
        self.pid = self._process.pid

    def read(self) -> dict[str, Any]:
        """Return its next line."""
        line = self._output.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait(END_SECONDS)}")
        response: dict[str, Any] = json.loads(line)
        return response

    def send(self, **command: Any) -> None:
        """Send it a line."""
        self._input.write(json.dumps(command) + "\n")
        self._input.flush()

    def end(self) -> None:
        """Close its input, so that it ends; otherwise kill it."""
        self._input.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send it a line, and return its response."""
        self.send(**command)
        return self.read()


@contextmanager
def child(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """Run a module of this folder until the context ends.

    :param module: its name in ``benchmarks``.
    :param env: more environment for it.
    """
    one = Child([sys.executable, "-m", f"benchmarks.{module}", *arguments], {**os.environ, **(env or {})})
    try:
        yield one
    finally:
        one.end()


def resident_megabytes(pid: int) -> float:
    """Return how much memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
