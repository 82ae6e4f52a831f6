"""Measures each row of the results, prints it, and writes ``RESULTS.md``.

``python -m benchmarks [--rows waits,burst,…] [--quick] [--out FILE]``
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.cost_of_pages import page_requests_table
from benchmarks.deploys import deploys_table
from benchmarks.imports import imports_table
from benchmarks.in_airflow import neighbours_table, submit_table
from benchmarks.pages import pages_tables
from benchmarks.waits import Effort, burst_table, events_table, many_table, waits_table

COMPARED = (
    "apache-airflow",
    "aiohttp",
    "apache-airflow-providers-http",
    "apache-airflow-providers-databricks",
    "apache-airflow-providers-dbt-cloud",
)


def rows(quick: bool) -> dict[str, Callable[[], list[report.Table]]]:
    """Return what can be measured, by name.

    :param quick: short runs that only show that the benchmark works; the figures mean little.
    """
    effort = Effort(1, 3, 3, 6) if quick else Effort(3, 4, 5, 8)
    waits = [1, 100, 1000] if quick else [1, 100, 500, 1000]
    plan = {"shared poller": sorted({*waits, 10}), "one each": waits, "arroyo rule": waits}
    if importlib.util.find_spec("airflow.providers.http") is not None:
        plan["http sensor"] = [1, 10, 100]
    return {
        "page-requests": lambda: [page_requests_table(10 if quick else 30)],
        "imports": lambda: [imports_table(1 if quick else 5)],
        "waits": lambda: waits_table(effort, plan),
        "burst": lambda: [burst_table(effort, 1000)],
        "events": lambda: [events_table(effort, [1, 1000])],
        "many": lambda: [many_table(effort, 1000 if quick else 10_000)],
        "submits": lambda: [submit_table()],
        "deploys": lambda: [deploys_table(1 if quick else 5, 500)],
        "neighbours": lambda: [neighbours_table(1 if quick else 2)],
        "pages": lambda: pages_tables(1 if quick else 3),
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that it works")
    parser.add_argument(
        "--rows", default="", help=f"which, with commas (default: all of {', '.join(rows(True))})"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "RESULTS.md",
        help="file to write; tables of other rows stay in it",
    )
    options = parser.parse_args()
    known = rows(options.quick)
    chosen = [name for name in options.rows.split(",") if name] or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--rows: {', '.join(unknown)} is not one of {', '.join(known)}")
    about = f"{report.machine()}. {report.versions(COMPARED)}."
    print(about, flush=True)
    for name in chosen:
        # After each row, so that an interrupted run keeps its results.
        report.write(options.out, known[name](), about=about, command=parser.prog)


if __name__ == "__main__":
    main()
