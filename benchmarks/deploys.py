"""What a deploy costs if nothing has changed."""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.hooks.clients import forget_clients
from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.pipelines.ownership import Deployment, Owner, OwnershipLabel
from benchmarks.processes import child
from benchmarks.report import Table, spread

QUERY = """\
CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '1');
CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
INSERT INTO sink SELECT counter FROM impulse;"""
NAMESPACE = "bench"
_LOG = logging.Logger("benchmarks.deploys")
_LOG.addHandler(logging.NullHandler())
STARTED_SECONDS = 60.0


def deploys_table(repeats: int, deployments: int) -> Table:
    """Measure deploys that change nothing, one after another on one connection.

    :param repeats: how often all of them are deployed.
    :param deployments: how many.
    """
    table = Table(
        f"{deployments} unchanged deployments on one connection",
        "at most 2 requests each, and 5 s in all",
        [
            "Arroyo",
            "deployments",
            "requests each",
            "seconds in all",
            "of these computed in the task's process",
        ],
    )
    for version in ("0.15", "0.16"):
        with child("server", "0", version) as server:
            url = server.read()["url"]
            _create(url, version, deployments)
            extra = {"namespace": NAMESPACE}
            os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(
                {"conn_type": "arroyo", "host": url, "extra": extra}
            )
            forget_clients()
            seconds, cpu, requests = [], [], []
            for _ in range(repeats):
                server.ask(do="mark")
                began, computed = time.monotonic(), time.process_time()
                actions = {_deploy(number) for number in range(deployments)}
                seconds.append(time.monotonic() - began)
                cpu.append(time.process_time() - computed)
                requests.append(server.ask(do="spent")["requests"] / deployments)
                if actions != {"unchanged"}:
                    raise RuntimeError(f"not unchanged: {actions}")
            table.add(version, f"{deployments:,}", spread(requests), spread(seconds, 2), spread(cpu, 2))
    return table


def _deploy(number: int) -> str:
    operator = ArroyoDeployPipelineOperator(
        task_id="deploy",
        pipeline_name=f"bench {number}",
        query=QUERY,
        arroyo_conn_id="bench",
        deferrable=False,
    )
    # In Airflow, logs go to a file; here they are discarded.
    operator._log = operator._cached_logger = _LOG  # type: ignore[assignment]  # Airflow's is structlog's
    ti = SimpleNamespace(
        dag_id="bench",
        task_id="deploy",
        run_id="r",
        map_index=-1,
        try_number=1,
        xcom_push=lambda key, value: None,
    )
    context: Any = {"ti": ti}
    return str(operator.execute(context)["action"])


def _create(url: str, version: str, deployments: int) -> None:
    """Create the pipelines as a deploy does, but without waiting for each, and return when all run."""
    client = ArroyoClient(ClientSettings(base_url=url))
    task = Owner(dag_id="bench", task_id="deploy", run_id="r", namespace=NAMESPACE)

    def create(number: int) -> None:
        name = f"bench {number}"
        deployment = Deployment(group="default", name=name, namespace=NAMESPACE)
        label = OwnershipLabel(
            task=task, try_number=1, package_version="0", deployment=deployment, generation=1
        ).for_new_request()
        if version == "0.15":
            client.create_pipeline(name=name, query=label.to_comment({}) + QUERY)
        else:
            client.put_pipeline(deployment.pipeline_id(1), name=name, query=QUERY, tags=label.to_tags())

    with client, ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(deployments)))
        until = time.monotonic() + STARTED_SECONDS
        while any(job.state != "Running" for job in client.list_jobs()):
            if time.monotonic() > until:
                raise RuntimeError("the pipelines do not start")
            time.sleep(0.2)
