"""Restarts, updates and deletes that are killed at any request or lose responses: what is left at the end.

Real operators against a sandbox whose time passes quickly. A task is tried until it succeeds, as Airflow would.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeletePipelineOperator,
    ArroyoRestartPipelineOperator,
    ArroyoUpdatePipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS, KilledError, kill_at
from tests.tasks.harness import DEFERRED, SYNC, Ended, FakeTaskInstance, run_task

from .figures import Figures

CHANGE_FIGURES = ("lost", "not running", "wrong settings", "not deleted", "foreign touched", "not finished")

SPEED = 8
MAX_TRIES = 12
TRIES_WITH_FAULTS = 4
_SETTLED = {"Running", "Stopped", "Failed"}


@contextmanager
def _killed_at(number: int, *, is_after: bool) -> Iterator[None]:
    """Kill the try at one of its requests, before it is sent or after it was."""
    send, kill = ArroyoClient.send, kill_at(number)

    def counted(client: ArroyoClient, request: Any) -> Any:
        if not is_after:
            kill(request)
        response = send(client, request)
        if is_after:
            kill(request)
        return response

    with mock.patch.object(ArroyoClient, "send", counted):
        yield


class Scenario:
    """One pipeline that is changed by several tasks in turn, and deleted by the last one.

    :param sandbox: its server.
    :param seed: decides what happens.
    :param figures: collects the violations.
    """

    def __init__(self, sandbox: ArroyoSandbox, seed: str, figures: Figures) -> None:
        self._sandbox = sandbox
        self._client = ArroyoClient(ClientSettings(base_url=sandbox.url))
        self._draw = random.Random(seed)
        self._seed = seed
        self._figures = figures

    def run(self) -> None:
        """Change a pipeline a few times beside another owner's, then delete it."""
        with self._client:
            foreign = self._client.create_pipeline(name="orders", query=ENDLESS).id
            pipeline_id = self._client.create_pipeline(name="orders", query=ENDLESS).id
            for _ in range(self._draw.randint(2, 4)):
                self._arrange(pipeline_id)
                self._draw.choice((self._restart, self._update))(pipeline_id)
            self._delete(pipeline_id)
            self._sandbox.advance(10)
            job = self._client.get_job(foreign)
            if job is None or (job.state, job.run_id) != ("Running", 1):
                self._violation("foreign touched", str(job))

    def _arrange(self, pipeline_id: str) -> None:
        """Bring the pipeline into one of the states that a task may find."""
        self._sandbox.advance(20)
        kind = self._draw.choice(("unchanged", "stopped", "failed", "stopping"))
        if kind == "failed":
            self._sandbox.faults.fail(pipeline_id)
        elif kind != "unchanged":
            self._client.patch_pipeline(pipeline_id, stop=StopMode.CHECKPOINT)
        if kind != "stopping":
            self._sandbox.advance(20)

    def _restart(self, pipeline_id: str) -> None:
        before = self._job(pipeline_id)
        self._task(ArroyoRestartPipelineOperator, pipeline_id, stable_for=0.3)
        after = self._settled(pipeline_id)
        if after is not None and (after.state != "Running" or after.run_id <= before.run_id):
            self._violation("not running", f"{before} → {after}")

    def _update(self, pipeline_id: str) -> None:
        wanted = self._draw.randint(1, 4)
        self._task(ArroyoUpdatePipelineOperator, pipeline_id, stable_for=0.3, parallelism=wanted)
        if self._settled(pipeline_id) is None:
            return
        # A stopped or failed pipeline uses it from its next start on; the graph shows what was requested.
        found = self._client.get_pipeline(pipeline_id).graph.parallelism
        if found != wanted:
            self._violation("wrong settings", f"parallelism {found}, not {wanted}")

    def _delete(self, pipeline_id: str) -> None:
        self._task(ArroyoDeletePipelineOperator, pipeline_id)
        try:
            self._client.get_pipeline(pipeline_id)
        except ArroyoNotFoundError:
            return
        self._violation("not deleted", pipeline_id)

    def _task(self, operator: Any, pipeline_id: str, **arguments: Any) -> None:
        """Run a task until it succeeds."""
        self._figures.wanted += 1
        given = {"task_id": "a_task", "pipeline_id": pipeline_id, "poll_interval": 0.02, **arguments}
        for number in range(1, MAX_TRIES + 1):
            self._figures.tries += 1
            what = self._draw.choice(("nothing", "killed", "killed", "lost"))
            what = what if number <= TRIES_WITH_FAULTS else "nothing"
            self._figures.events[what] += 1
            # A triggerer only polls, so only a worker can be killed between two changes.
            mode = SYNC if what == "killed" else self._draw.choice((SYNC, DEFERRED))
            ended = self._try(lambda **m: operator(**{**given, **m}), what, mode, number)
            self._sandbox.faults.clear()
            if ended is not None and ended.error is None:
                self._figures.tasks += 1
                self._figures.created += 1
                return
        self._violation("not finished", f"{operator.__name__}: {ended and ended.error}")

    def _try(self, make: Callable[..., Any], what: str, mode: str, number: int) -> Ended | None:
        if what == "lost":
            for method in ("POST", "PATCH", "DELETE", "GET"):
                if self._draw.random() < 0.6:
                    self._sandbox.faults.reset(
                        method=method, after_effect=self._draw.random() < 0.6, times=self._draw.randint(1, 2)
                    )
        ti = FakeTaskInstance(try_number=number)
        if what != "killed":
            return run_task(make, mode, ti)
        with _killed_at(1 + int(self._draw.expovariate(0.2)), is_after=self._draw.random() < 0.5):
            ended = run_task(make, mode, ti)
        return None if isinstance(ended.error, KilledError) else ended

    # -- what is left afterwards ------------------------------------------------------------------------------------

    def _job(self, pipeline_id: str) -> Job:
        job = self._client.get_job(pipeline_id)
        if job is None:
            raise LookupError(f"{pipeline_id} has no job")
        return job

    def _settled(self, pipeline_id: str) -> Job | None:
        """Return the job once its state no longer changes; None if the pipeline is gone."""
        self._sandbox.advance(15)
        try:
            job = self._job(pipeline_id)
        except (ArroyoNotFoundError, LookupError) as err:
            self._violation("lost", str(err))
            return None
        if job.state not in _SETTLED:
            self._violation("not running", str(job))
        return job

    def _violation(self, figure: str, text: str) -> None:
        self._figures.violations[figure].append(f"{self._seed}: {text}")


def run_changes(version: str, *, changes: int, seed: str) -> Figures:
    """Run scenarios until that many changes have ended.

    :param version: the version of the server.
    :param changes: how many.
    :param seed: decides what happens.
    """
    figures = Figures(title=f"change {version}", violations={name: [] for name in CHANGE_FIGURES})
    began = time.monotonic()
    number = 0
    while figures.tasks < changes and not figures.violations["not finished"]:
        with ArroyoSandbox(arroyo_version=version, seed=number, speed=SPEED) as sandbox:
            uri = sandbox.airflow_connection_uri()
            with mock.patch.dict(os.environ, {"AIRFLOW_CONN_ARROYO_DEFAULT": uri}):
                Scenario(sandbox, f"{seed}-{number}", figures).run()
        number += 1
    figures.seconds = time.monotonic() - began
    return figures
