"""``python -m tests.chaos``: runs the parts, prints a table, and fails where a figure is not zero that must be."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from . import in_airflow
from .figures import Figures, table
from .in_process import VERSIONS, complain, run


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def in_process(*, tasks: int, seed: str, versions: Sequence[str], only: str | None) -> list[Figures]:
    """Run the first part, a process for each version."""
    work = partial(run, tasks=tasks, seed=seed, only=only, tell=complain)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(work, versions))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--in-process", action="store_true", help="only the first part")
    parser.add_argument("--airflow", action="store_true", help="only the second part")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of the first part, for each version")
    parser.add_argument("--seed", default="1", help="what happens in the first part is drawn from it")
    parser.add_argument("--versions", default=",".join(VERSIONS), help="of the server, with commas between")
    parser.add_argument("--only", help="the name of one story of the first part, to see it again")
    asked = parser.parse_args(arguments)
    # So that whatever was started is ended in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    both = not asked.in_process and not asked.airflow
    runs: list[Figures] = []
    if asked.in_process or both:
        runs += in_process(
            tasks=asked.tasks, seed=asked.seed, versions=asked.versions.split(","), only=asked.only
        )
        _say(table(runs))
    if asked.airflow or both:
        figures = in_airflow.run(seed=asked.seed, say=_say)
        runs.append(figures)
        _say(table([figures]))
    return 0 if all(one.is_good for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
