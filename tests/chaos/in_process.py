"""The first part: hundreds of scenarios, in one process for each version of the server."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from airflow_provider_arroyo.client import client
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .crashing_client import crashing_clients
from .figures import Figures
from .ground_truth import GroundTruth
from .network_faults import NetworkFaults
from .scenarios import NAMESPACES, Environment, Scenario, check_the_end, conn_id_in
from .small_airflow import Triggerer, fake_task_states

VERSIONS = ("0.15", "0.16")

SPEED = 3.0
"""How much faster than real time the sandbox runs, so that less time is spent waiting."""

OUTAGES: Sequence[Callable[[ArroyoSandbox], object] | None] = (
    None,
    None,
    lambda sandbox: sandbox.faults.api_away(seconds=2 * SPEED),
    lambda sandbox: sandbox.faults.controller_away(seconds=2 * SPEED),
    lambda sandbox: sandbox.faults.server_restart(seconds=1 * SPEED),
    lambda sandbox: sandbox.faults.kill_worker("*"),
)
"""Server faults, each injected once in a batch."""


@contextmanager
def quiet_logs(name: str) -> Iterator[None]:
    """Silence the log lines of a logger about each fault; those of tasks go to their own loggers."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def environment_of(version: str, seed: str, limit_seconds: float) -> Iterator[Environment]:
    """Run a sandbox whose clients may crash, and two triggerers.

    :param version: the version of the server.
    :param seed: decides what happens.
    :param limit_seconds: after how long tasks count as not finished.
    """
    with ExitStack() as stack:
        stack.enter_context(crashing_clients())
        stack.enter_context(fake_task_states())
        stack.enter_context(quiet_logs(client.__name__))
        sandbox = stack.enter_context(
            ArroyoSandbox(
                arroyo_version=version,
                seed=random.Random(seed).randrange(2**32),
                speed=SPEED,
                log_size=5_000_000,
            )
        )
        conn_id = f"chaos_{sandbox.port}"
        for namespace in ("", *NAMESPACES):
            variable = f"AIRFLOW_CONN_{conn_id_in(conn_id, namespace).upper()}"
            # A response may hang or come late, and the client must not wait long for it.
            extra: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 1}
            extra |= {"namespace": namespace} if namespace else {}
            os.environ[variable] = sandbox.airflow_connection_uri(**extra)
            stack.callback(os.environ.pop, variable)
        # There is no worker process here that a hold would have to wait for.
        stack.enter_context(mock.patch.dict(os.environ, {"AIRFLOW__ARROYO__DEFERRAL_HOLD": "0"}))
        triggerers = [stack.enter_context(Triggerer(f"triggerer-{number}")) for number in (1, 2)]
        until = time.monotonic() + limit_seconds
        yield Environment(sandbox, GroundTruth(sandbox), triggerers, conn_id, until)


def batch(
    version: str,
    *,
    scenarios: int,
    seed: str,
    workers: int = 24,
    limit_seconds: float = 240.0,
    only: str | None = None,
    report: Callable[[str], object] | None = None,
) -> Figures:
    """Run scenarios concurrently on one server, and return their figures.

    :param version: the version of the server.
    :param scenarios: how many.
    :param seed: decides what happens.
    :param workers: how many run at the same time.
    :param limit_seconds: after how long tasks count as not finished.
    :param only: the name of the one scenario to run.
    :param report: gets the logs of scenarios that violated a rule.
    """
    figures = Figures(title=version)
    began = time.monotonic()
    with environment_of(version, seed, limit_seconds) as environment:
        faults = NetworkFaults(environment.sandbox, f"{seed} faults")
        names = [f"{seed}-{number}" for number in range(scenarios)]
        chosen = [
            Scenario(environment, name, f"{version} {name} {namespace}", namespace)
            for name in names
            if only in (None, name)
            # Every fourth DAG runs in two deployments of Airflow, at the same time.
            for namespace in _namespaces(random.Random(f"{version} {name}"))
        ]
        outage = random.Random(seed).choice(OUTAGES)
        timer = threading.Timer(3.0, lambda: outage(environment.sandbox) if outage else None)
        timer.start()
        with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
            outcomes = list(pool.map(Scenario.run, chosen))
        timer.join()
        faults.switch_off()
        environment.sandbox.faults.controller_back()
        _let_settle(environment, chosen)
        for scenario, outcome in zip(chosen, outcomes, strict=True):
            figures.tasks += outcome.tasks
            figures.tries += outcome.tries
            figures.events.update(outcome.events)
            for figure, line in outcome.violations:
                figures.violations[figure].append(line)
            check_the_end(scenario, environment.truth, figures)
        figures.violations["unwanted stop"].extend(environment.truth.unwanted_stops())
        figures.events.update(faults.count)
        if report is not None:
            lines = [line for found in figures.violations.values() for line in found]
            for scenario in chosen:
                if any(line.startswith(f"{scenario.key}:") for line in lines):
                    report("\n".join([f"== {scenario.key}", *scenario.journal.lines]))
    figures.seconds = time.monotonic() - began
    return figures


def _namespaces(draw: random.Random) -> Sequence[str]:
    if draw.random() < 0.75:
        return ("",)
    return draw.choice((NAMESPACES[:2], (NAMESPACES[0], "")))


def _let_settle(
    environment: Environment, scenarios: Sequence[Scenario], *, limit_seconds: float = 60.0
) -> None:
    """Wait until every pipeline is in its final state, but at most until the limit."""
    until = time.monotonic() + limit_seconds
    pause = threading.Event()

    def is_settled(scenario: Scenario) -> bool:
        states = [one.job and one.job.state for one in environment.truth.pipelines(scenario.key)]
        return bool(states) and set(states) == {scenario.final_state}

    while not all(map(is_settled, scenarios)) and time.monotonic() < until:
        pause.wait(0.2)


def report_to_stderr(text: str) -> None:
    """Print the log of a scenario to stderr, apart from the table."""
    sys.stderr.write(f"{text}\n")


def run(
    version: str,
    *,
    tasks: int,
    seed: str,
    batch_size: int = 60,
    only: str | None = None,
    report: Callable[[str], object] | None = None,
    limit_seconds: float = 1500.0,
) -> Figures:
    """Run batches until that many tasks have finished.

    :param version: the version of the server.
    :param tasks: submits, clears and stops.
    :param seed: decides what happens.
    :param batch_size: scenarios on one server.
    :param only: the name of the one scenario to run, in the batch of that name.
    :param report: gets the logs of scenarios that violated a rule.
    :param limit_seconds: after how long no more batches are started; missing tasks count as not finished.
    """
    total = Figures(title=version)
    began = time.monotonic()
    number = int(only.split(".")[1].split("-")[0]) if only else 0
    while total.tasks < tasks:
        if time.monotonic() - began > limit_seconds:
            total.violations["not finished"].append(
                f"{total.tasks} of {tasks} tasks in {limit_seconds:.0f} s"
            )
            break
        figures = batch(version, scenarios=batch_size, seed=f"{seed}.{number}", only=only, report=report)
        total.add(figures)
        number += 1
        if only:
            break
    total.seconds = time.monotonic() - began
    return total
