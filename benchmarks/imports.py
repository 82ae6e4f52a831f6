"""What importing costs on top of ``from airflow.sdk import DAG``, which every DAG file does anyway."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.report import Table, spread

HTTP_LIBRARIES = ("aiohttp", "requests", "httpx", "urllib3")

OURS = (
    "airflow_provider_arroyo",
    "airflow_provider_arroyo.get_provider_info",
    "airflow_provider_arroyo.exceptions",
    "airflow_provider_arroyo.links",
    "airflow_provider_arroyo.hooks.arroyo",
    "airflow_provider_arroyo.operators.arroyo",
    "airflow_provider_arroyo.sensors.arroyo",
    "airflow_provider_arroyo.triggers.arroyo",
    "airflow_provider_arroyo.sandbox",
)
PEERS = (
    "airflow.providers.databricks.operators.databricks",
    "airflow.providers.dbt.cloud.operators.dbt",
    "airflow.providers.http.operators.http",
)

SCRIPT = """
import json, sys, time
from airflow.sdk import DAG
before, began = set(sys.modules), time.perf_counter()
try:
    __import__(sys.argv[1])
except ModuleNotFoundError as error:
    if error.name and sys.argv[1].startswith(error.name):
        print(json.dumps(None)); sys.exit()
    raise
seconds = time.perf_counter() - began
new = set(sys.modules) - before
roots = sorted({name.partition(".")[0] for name in new})
print(json.dumps({"milliseconds": 1000 * seconds, "modules": len(new), "roots": roots}))
"""


def imports_table(repeats: int) -> Table:
    """Measure each public module in fresh processes."""
    table = Table(
        "Imports on top of `from airflow.sdk import DAG`",
        "≤ 15 ms and no HTTP library",
        ["module", "milliseconds", "modules", "HTTP libraries it pulls in"],
    )
    print(table.title, flush=True)
    for module in (*OURS, *PEERS):
        runs = []
        for _ in range(repeats):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT, module], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout.strip().splitlines()[-1])
            if found is None:
                break
            runs.append(found)
        if not runs:
            table.note(f"`{module}` is not here.")
            continue
        libraries = [name for name in HTTP_LIBRARIES if name in runs[0]["roots"]]
        table.add(
            f"`{module}`",
            spread([one["milliseconds"] for one in runs]),
            str(runs[0]["modules"]),
            ", ".join(libraries) or "none",
        )
    return table
