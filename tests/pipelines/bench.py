"""A sandbox whose clock advances with each request, clients of it, and submits."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Self

import pytest
import requests

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.retry import Limits
from airflow_provider_arroyo.client.settings import API_PREFIX, ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoApiError
from airflow_provider_arroyo.pipelines.choices import OnExisting
from airflow_provider_arroyo.pipelines.create import Submitted
from airflow_provider_arroyo.pipelines.owned import OwnedPipelines
from airflow_provider_arroyo.pipelines.ownership import Namespace, Owner, OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.submit import Submission
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.adapters import Hook, HookedAdapter
from tests.support import ENDLESS, Lines

OWNER = Owner(dag_id="orders", task_id="submit", run_id="scheduled__2026-11-25T00:00:00+00:00")
SPEC = PipelineSpec(name="orders per minute", query=ENDLESS)
LABEL = OwnershipLabel(task=OWNER, try_number=1, package_version="1.2.3")
PIPELINE_ID = OWNER.pipeline_id


def endpoint(request: requests.PreparedRequest) -> str:
    """Return the method and path of a request, such as ``POST /pipelines``."""
    path = str(request.path_url).partition("?")[0].removeprefix(API_PREFIX)
    return f"{request.method} {path}"


class Bench:
    """One sandbox, a client of it, and submits. Nothing here takes real time."""

    def __init__(self, sandbox: ArroyoSandbox, resources: ExitStack) -> None:
        self.sandbox = sandbox
        self.version = sandbox.arroyo_version
        self._resources = resources
        self.log = logging.Logger("tests.pipelines")
        self.lines = Lines()
        self.log.addHandler(self.lines)
        self.client = self.new_client()

    def new_client(
        self,
        before: Hook | None = None,
        after: Hook | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> ArroyoClient:
        """Return a client with its own connection, and hooks around each HTTP request."""
        settings = ClientSettings(base_url=self.sandbox.url)
        limits = Limits(max_elapsed_seconds=600.0)  # as a task's
        client = ArroyoClient(
            settings,
            limits=limits,
            log=self.log,
            sleep=sleep or self.sandbox.advance,
            clock=self.now,
        )
        HookedAdapter(client, before, after)
        return self._resources.enter_context(client)

    def now(self) -> float:
        return self.sandbox.clock.now_micros() / 1e6

    def submit(
        self,
        spec: PipelineSpec = SPEC,
        *,
        owner: Owner = OWNER,
        try_number: int = 1,
        on_existing: str = "adopt",
        pipeline_id: str | None = None,
        client: ArroyoClient | None = None,
        is_namespace_explicit: bool = True,
        derived_namespace: str = "",
    ) -> Submitted:
        """Submit, and check again before the success, as a task does."""
        label = replace(LABEL, task=owner, try_number=try_number)
        submission = Submission(
            client or self.client,
            spec,
            label,
            users_id=pipeline_id,
            namespace=Namespace(
                name=owner.namespace, is_explicit=is_namespace_explicit, derived=derived_namespace
            ),
            on_existing=OnExisting(on_existing),
        )
        submitted = submission.run()
        if submitted.late_seconds is not None:
            made = submitted.pipeline
            owned = OwnedPipelines(client or self.client, label)
            owned.remove_late(made.id, made.created_at_micros, submitted.late_seconds)
        return submitted

    def create_externally(
        self, spec: PipelineSpec = SPEC, *, pipeline_id: str = "by-hand", comment: str = ""
    ) -> Pipeline:
        """Create a pipeline without an ownership label, unless the spec or the comment contains one."""
        fields = spec.to_request(query=comment + spec.query)
        if self.version == "0.15":
            return self.client.create_pipeline(**fields)
        return self.client.put_pipeline(pipeline_id, **fields)

    def change(self, pipeline_id: str, *steps: str | float) -> None:
        """Change a pipeline's state, step by step.

        :param steps: seconds to let pass, a state to wait for, or an action: ``stop``, ``resume``, ``restart``,
            ``fail``, ``hibernate`` (shows a state that this package does not know).
        """
        for step in steps:
            match step:
                case int() | float():
                    self.sandbox.advance(step)
                case "stop":
                    self.client.patch_pipeline(pipeline_id, stop="checkpoint")
                case "resume":
                    self.client.patch_pipeline(pipeline_id, stop="none")
                case "restart":
                    self.client.restart_pipeline(pipeline_id)
                case "fail":
                    self.sandbox.faults.fail(pipeline_id)
                case "hibernate":
                    self.sandbox.faults.show_state(pipeline_id, "Hibernating", seconds=5)
                case _:
                    deadline = self.now() + 10
                    while self.sandbox.state(pipeline_id) != JobState(step):
                        assert self.now() < deadline, f"{pipeline_id} was never {step}"
                        self.sandbox.advance(0.01)

    def leave_half_created(self) -> None:
        """Leave a half-created record at a submit's id, as the API does if it refuses the checkpoint interval."""
        request = endpoints.put_pipeline(PIPELINE_ID, **SPEC.to_request())
        body = {**(request.body or {}), "checkpoint_interval_micros": 10}
        with pytest.raises(ArroyoApiError, match="between 1 second and 1 day"):
            self.client.send(replace(request, body=body))

    def pipelines(self) -> list[Pipeline]:
        return list(self.client.iter_pipelines())

    def job(self, pipeline_id: str) -> Job:
        job = self.client.get_job(pipeline_id)
        assert job is not None
        return job

    def running(self) -> set[str]:
        """Return the ids of the running pipelines, after each has had time to reach its state."""
        self.sandbox.advance(10)
        jobs = {pipeline.id: self.job(pipeline.id) for pipeline in self.pipelines()}
        running = {key: job for key, job in jobs.items() if job.state not in TERMINAL_STATES}
        assert all(job.running_desired for job in running.values()), running
        return set(running)

    def only_pipeline(self) -> Pipeline:
        """Return the running pipeline, after checking that there is no other pipeline."""
        running = self.running()
        (pipeline,) = self.pipelines()
        assert running == {pipeline.id}
        return pipeline

    @classmethod
    @contextmanager
    def open(cls, version: str, *, seconds_per_request: float = 0.05, **options: Any) -> Iterator[Self]:
        """Return a bench with its own server."""
        # The number of requests depends on the waits before retries, which are random.
        random.seed(5)
        clock = ManualClock(seconds_per_request=seconds_per_request)
        options = {"clock": clock, "seed": 5, "allowed_restarts": 1, **options}
        with ArroyoSandbox(arroyo_version=version, **options) as sandbox, ExitStack() as resources:
            yield cls(sandbox, resources)


open_bench = Bench.open
