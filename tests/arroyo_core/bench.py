"""A sandbox whose time passes with each request, and what a submit needs to meet it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.identity import Mark, Owner
from airflow_provider_arroyo.arroyo.listing import Caller, iter_pipelines, newest_job
from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.arroyo.submission import OnExisting, Submission, Submitted
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.support import ENDLESS, Lines

T = TypeVar("T")


OWNER = Owner(dag_id="orders", task_id="submit", run_id="scheduled__2026-11-25T00:00:00+00:00")
SPEC = PipelineSpec(name="orders per minute", query=ENDLESS)


class Bench:
    """One sandbox, a client of it, and submits against it. Nothing here takes real time."""

    def __init__(self, sandbox: ArroyoSandbox) -> None:
        self.sandbox = sandbox
        self.version = sandbox.arroyo_version
        self.client = self.new_client()
        self.log = logging.Logger("tests.arroyo_core")
        self.lines = Lines()
        self.log.addHandler(self.lines)

    def new_client(self) -> ArroyoClient:
        return ArroyoClient(
            ClientSettings(base_url=self.sandbox.url), sleep=self.sandbox.advance, clock=self.now
        )

    def now(self) -> float:
        return self.sandbox.clock.now_micros() / 1e6

    def submission(
        self,
        spec: PipelineSpec = SPEC,
        *,
        owner: Owner = OWNER,
        try_number: int = 1,
        on_existing: str = "adopt",
        pipeline_id: str | None = None,
        caller: Caller | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> Submission:
        key = owner.submit_key(spec.fingerprint)
        return Submission(
            caller or self.client,
            spec,
            Mark(key=key, owner=owner, try_number=try_number, package_version="1.2.3"),
            pipeline_id=pipeline_id or owner.pipeline_id(key),
            pipeline_id_is_users=pipeline_id is not None,
            on_existing=OnExisting(on_existing),
            log=self.log,
            sleep=sleep or self.sandbox.advance,
            monotonic=self.now,
        )

    def submit(self, spec: PipelineSpec = SPEC, **given: Any) -> Submitted:
        return self.submission(spec, **given).run()

    def make(self, spec: PipelineSpec = SPEC, *, pipeline_id: str = "by-hand") -> Pipeline:
        """Make a pipeline by hand, without a mark of ours unless the spec has one."""
        if self.version == "0.15":
            return self.client.create_pipeline(spec)
        return self.client.put_pipeline(pipeline_id, spec)

    def marked(self, spec: PipelineSpec = SPEC, comment: str = "") -> PipelineSpec:
        return replace(spec, query=comment + spec.query)

    # -- looking, past the log of requests -------------------------------------------------------------------

    def pipelines(self) -> list[Pipeline]:
        return list(iter_pipelines(self.client))

    def job(self, pipeline_id: str) -> Job:
        job = newest_job(self.client.call(api.pipeline_jobs(pipeline_id)))
        assert job is not None
        return job

    def running(self) -> list[Pipeline]:
        """Return the pipelines that run, once all have come to where they go."""
        self.sandbox.advance(10)
        running = []
        for pipeline in self.pipelines():
            job = self.job(pipeline.id)
            if job.state not in TERMINAL_STATES:
                assert job.running_desired, (pipeline.id, job)
                running.append(pipeline)
        return running

    def the_only_one(self) -> Pipeline:
        """Return the pipeline that runs, and see that there is no other one, running or not."""
        running = self.running()
        assert [pipeline.id for pipeline in running] == [pipeline.id for pipeline in self.pipelines()]
        assert len(running) == 1
        return running[0]


@contextmanager
def bench(version: str, **given: Any) -> Iterator[Bench]:
    clock = ManualClock(seconds_per_request=0.05)
    with ArroyoSandbox(arroyo_version=version, clock=clock, seed=5, allowed_restarts=1, **given) as sandbox:
        made = Bench(sandbox)
        with made.client:
            yield made
