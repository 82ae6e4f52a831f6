"""Runs the blocks of shell commands in the documentation: *Get started* as a whole, any other block by itself.

The pages of *Get started* are one session: a block finds the files, the variables and the pipelines of those before
it. A block of text is what the commands before it print.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from airflow_provider_arroyo.exceptions import ArroyoSettingsError
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .blocks import ROOT, Block, blocks_of

START = tuple(f"docs/start/{name}.md" for name in ("install", "connect", "first-deploy", "first-wait"))
SANDBOX = "127.0.0.1:5115"
"""Where the sandbox of the pages listens; that of the tests has another port."""

_LIMIT_SECONDS = 600
_OPTIONAL = re.compile(
    r"^\w+(?: → \w+ after [\d.]+ s)?: [\w-]+ \((?:run \d+|no run yet)(?:, stop requested)?\)$"
)
"""A change of state: a poll on a busy machine misses some."""


def run_start(folder: Path) -> dict[str, str | None]:
    """Run the blocks of *Get started*, and return what went wrong, by place.

    :param folder: empty; where the reader works.
    """
    found: dict[str, str | None] = {}
    blocks = [block for page in START for block in blocks_of(ROOT / page)]
    with ArroyoSandbox() as sandbox:
        address = sandbox.url.partition("://")[2]
        env, printed = _environment(), ""
        for block in blocks:
            if block.file is not None:
                path = folder / "airflow" / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == "bash" and block.why_not is None:
                ran, env = run_bash(block.text.replace(SANDBOX, address), folder, env)
                printed, found[block.place] = ran.stdout, problem_of(ran)
            elif block.language == "text":
                lacking = list(lines_missing(block.text, printed))
                found[block.place] = f"not printed: {lacking}; but:\n{printed[-6000:]}" if lacking else None
    return found


def run_others(folder: Path, blocks: Sequence[Block]) -> dict[str, str | None]:
    """Run the blocks of the other pages, each by itself, and return what went wrong, by place.

    :param folder: where to run them.
    :param blocks: of all pages.
    """
    found: dict[str, str | None] = {}
    for block in blocks:
        if block.language == "bash" and block.page not in START and block.why_not is None:
            ran, env = run_bash(block.text, folder, _environment())
            found[block.place] = problem_of(ran) or _connection_problem(env)
    return found


def run_bash(
    text: str, folder: Path, env: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run commands, and return what they printed, and the environment that they left."""
    left = folder / ".environment"
    with subprocess.Popen(  # our own pages
        ["bash", "-euo", "pipefail", "-c", f"{text}\nenv -0 > {left}"],
        cwd=folder,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            # With what the commands started.
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
    ran = subprocess.CompletedProcess(text, process.returncode, printed)
    pairs = (pair.partition("=") for pair in left.read_text().split("\0") if pair) if left.exists() else ()
    return ran, {name: value for name, _, value in pairs} or dict(env)


def problem_of(ran: subprocess.CompletedProcess[str]) -> str | None:
    """Return what went wrong with commands; None where they succeeded."""
    return None if ran.returncode == 0 else f"exit code {ran.returncode}:\n{ran.stdout[-6000:]}"


def lines_missing(wanted: str, printed: str) -> Iterator[str]:
    """Yield the lines of a block of text that were not printed, in this order.

    Numbers may differ, ``…`` stands for a part of a word, and a change of state may have been missed.
    """
    rest = printed
    for line in wanted.splitlines():
        pattern = re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+", re.escape(line).replace("…", r"\S*"))
        if found := re.search(pattern, rest):
            rest = rest[found.end() :]
        elif not _OPTIONAL.match(line):
            yield line


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}


def _connection_problem(env: Mapping[str, str]) -> str | None:
    """Return what is wrong with a connection that commands set; None where nothing is."""
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

    name = "AIRFLOW_CONN_ARROYO_DEFAULT"
    with patch.dict(os.environ, {name: env[name]} if name in env else {}):
        try:
            if name in env:
                ArroyoHook().settings  # noqa: B018  # read, since that looks the connection up
        except ArroyoSettingsError as err:
            return str(err)
    return None
