"""Submits one after another: ours in each mode, and one that always defers."""

from __future__ import annotations

from airflow.sdk import DAG

from benchmarks.parts import ROUNDS, SUBMITS, submit

with DAG("submits", schedule=None):
    before = None
    for turn in range(ROUNDS):
        for kind, (start, arguments) in SUBMITS.items():
            task = submit(f"{kind}_{turn}", f"{start}_{kind}_{turn}", arguments)
            if before is not None:
                before >> task
            before = task
