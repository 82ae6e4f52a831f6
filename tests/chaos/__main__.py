"""``python -m tests.chaos``: runs the parts, prints a table, and fails if a figure that must be zero is not."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from . import events_in_airflow, in_airflow
from .changes import run_changes
from .deployments import run_deployments
from .figures import Figures, table
from .in_process import VERSIONS, report_to_stderr, run
from .watching import run_watching


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def per_version(run_one: Callable[..., Figures], versions: Sequence[str], **arguments: Any) -> list[Figures]:
    """Run a part in one process for each version of the server."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(partial(run_one, **arguments), versions))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--in-process", action="store_true", help="only the first part")
    parser.add_argument("--deploy", action="store_true", help="only the deployments")
    parser.add_argument("--change", action="store_true", help="only restarts, updates and deletes")
    parser.add_argument("--airflow", action="store_true", help="only the part in a real Airflow")
    parser.add_argument("--events", action="store_true", help="only the events in a real Airflow")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of the first part, for each version")
    parser.add_argument("--pipelines", type=int, default=300, help="that are watched, for each version")
    parser.add_argument("--deployments", type=int, default=1000, help="deployments, for each version")
    parser.add_argument("--changes", type=int, default=500, help="changes, for each version")
    parser.add_argument("--seed", default="1", help="decides what happens")
    parser.add_argument("--versions", default=",".join(VERSIONS), help="of the server, separated by commas")
    parser.add_argument("--only", help="the name of one scenario, to run it again")
    options = parser.parse_args(arguments)
    # Exit normally, so that every process that was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    parts = (options.in_process, options.deploy, options.change, options.airflow, options.events)
    whole = not any(parts)
    versions, seed, only = options.versions.split(","), options.seed, options.only
    runs: list[Figures] = []

    def add(figures: list[Figures]) -> None:
        runs.extend(figures)
        _say(table(figures))

    logged = {"seed": seed, "report": report_to_stderr}
    if options.in_process or whole:
        add(per_version(run, versions, tasks=options.tasks, only=only, **logged))
        if not only:
            add(per_version(run_watching, versions, pipelines=options.pipelines, **logged))
    if options.deploy or whole:
        add(per_version(run_deployments, versions, deployments=options.deployments, only=only, **logged))
    if options.change or whole:
        add(per_version(run_changes, versions, changes=options.changes, seed=seed))
    if options.airflow or whole:
        add([in_airflow.run(seed=seed, say=_say)])
    if options.events or options.airflow or whole:
        add([events_in_airflow.run(seed=seed, say=_say)])
    return 0 if all(one.has_passed for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
