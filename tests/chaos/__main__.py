"""``python -m tests.chaos``: runs the parts, prints a table, and fails if a figure is not zero that must be."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from . import events_in_airflow, in_airflow
from .changes import run_changes
from .deployments import run_deployments
from .figures import Figures, table
from .in_process import VERSIONS, report_to_stderr, run
from .watching import run_watching


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def in_process(*, tasks: int, seed: str, versions: Sequence[str], only: str | None) -> list[Figures]:
    """Run the first part, in one process for each version."""
    run_version = partial(run, tasks=tasks, seed=seed, only=only, report=report_to_stderr)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(run_version, versions))


def deployments(*, count: int, seed: str, versions: Sequence[str], only: str | None) -> list[Figures]:
    """Run deployments, in one process for each version."""
    run_version = partial(run_deployments, deployments=count, seed=seed, only=only, report=report_to_stderr)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(run_version, versions))


def changes(*, count: int, seed: str, versions: Sequence[str]) -> list[Figures]:
    """Run restarts, updates and deletes, in one process for each version."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(partial(run_changes, changes=count, seed=seed), versions))


def watching(*, pipelines: int, seed: str, versions: Sequence[str]) -> list[Figures]:
    """Watch pipelines for their events, and guard them, in one process for each version."""
    run_version = partial(run_watching, pipelines=pipelines, seed=seed, report=report_to_stderr)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(versions), mp_context=spawn) as pool:
        return list(pool.map(run_version, versions))


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
    # So that every process that was started is ended in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    parts = (options.in_process, options.deploy, options.change, options.airflow, options.events)
    whole = not any(parts)
    runs: list[Figures] = []
    if options.in_process or whole:
        runs += in_process(
            tasks=options.tasks, seed=options.seed, versions=options.versions.split(","), only=options.only
        )
        _say(table(runs))
        if not options.only:
            watched = watching(
                pipelines=options.pipelines, seed=options.seed, versions=options.versions.split(",")
            )
            runs += watched
            _say(table(watched))
    if options.deploy or whole:
        deployed = deployments(
            count=options.deployments,
            seed=options.seed,
            versions=options.versions.split(","),
            only=options.only,
        )
        runs += deployed
        _say(table(deployed))
    if options.change or whole:
        changed = changes(count=options.changes, seed=options.seed, versions=options.versions.split(","))
        runs += changed
        _say(table(changed))
    if options.airflow or whole:
        figures = in_airflow.run(seed=options.seed, say=_say)
        runs.append(figures)
        _say(table([figures]))
    if options.events or options.airflow or whole:
        figures = events_in_airflow.run(seed=options.seed, say=_say)
        runs.append(figures)
        _say(table([figures]))
    return 0 if all(one.has_passed for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
