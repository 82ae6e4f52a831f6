"""Deploys to a sandbox whose clock advances with each request: in one process, or in a new one after each wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import FailureReason, Pipeline
from airflow_provider_arroyo.evidence import gather_for_error
from airflow_provider_arroyo.monitoring.diagnosis import Diagnosis, diagnose
from airflow_provider_arroyo.monitoring.plan import PipelineRef, WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.pipelines.change_notes import ChangeNotes
from airflow_provider_arroyo.pipelines.choices import OnFailure, Strategy
from airflow_provider_arroyo.pipelines.deploy import Deploy
from airflow_provider_arroyo.pipelines.deploy_progress import DeployOptions, DeployProgress, Done, Waiting
from airflow_provider_arroyo.pipelines.ownership import Deployment, Namespace, Owner, OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.polling.poll import poll_until
from tests.pipelines.bench import Bench
from tests.support import ENDLESS

TASK = Owner(dag_id="shop", task_id="deploy", run_id="r1")
OTHER_TASK = Owner(dag_id="shop", task_id="deploy", run_id="r2")
SPEC = PipelineSpec(name="orders", query=ENDLESS, checkpoint_interval=timedelta(seconds=1))
SECOND = replace(SPEC, query=ENDLESS.replace("'10'", "'20'"))
BROKEN = replace(
    SPEC,
    query="""\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');
INSERT INTO sink SELECT n FROM input;""",
)


class BenchClock:
    """The sandbox's clock as the clock of a wait."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now()

    def to_monotonic(self, seconds: float) -> float:
        return seconds


class DeployBench(Bench):
    """Deploys pipelines, and reads the result."""

    known: list[PipelineRef]

    def deploy(
        self,
        spec: PipelineSpec = SPEC,
        *,
        task: Owner = TASK,
        is_deferred: bool = False,
        client: ArroyoClient | None = None,
        try_number: int = 1,
        namespace: str = "",
        is_explicit: bool = False,
        derived: str = "",
        group: str = "default",
        at_wait: Callable[[Waiting], object] | None = None,
        notes: Any = None,
        **options: Any,
    ) -> Done:
        """Deploy, and return the result.

        :param is_deferred: whether each wait ends in another process.
        :param at_wait: called at the start of each wait.
        :param notes: what Airflow 3.3 stores between the tries of a task.
        """
        given: dict[str, Any] = {
            "timeout": timedelta(minutes=1),
            "rollback_timeout": timedelta(seconds=30),
            "allow_state_loss": True,
            "is_retry": task.run_id.startswith("retry") or try_number > 1,
            **options,
        }
        given["strategy"] = Strategy(given.get("strategy", "stop_first"))
        given["on_failure"] = OnFailure(given.get("on_failure", "rollback"))
        client = client or self.client
        self.known = []

        def make() -> Deploy:
            task_in = replace(task, namespace=namespace)
            deployment = Deployment(group=group, name=spec.name, namespace=namespace)
            label = OwnershipLabel(
                task=task_in,
                try_number=try_number,
                package_version="1.2.3",
                deployment=deployment,
                generation=1,
            )
            where = Namespace(name=namespace, is_explicit=is_explicit, derived=derived)
            return Deploy(
                lambda deadline: client.with_limits(max_elapsed_seconds=10.0, deadline=deadline),
                label,
                where,
                DeployOptions(**given),
                known=self.known.append,
                examine=partial(self._examine, client),
                notes=ChangeNotes(notes),
                clock=self.now,
                log=self.log,
            )

        deploy = make()
        step = deploy.start(spec)
        while isinstance(step, Waiting):
            if at_wait is not None:
                at_wait(step)
            result = self._wait(step.wait, client)
            progress = step.progress
            if is_deferred and step.may_defer:
                deploy = make()
                progress = DeployProgress.from_dict(json.loads(json.dumps(progress.to_dict())))
                result = WaitResult.from_dict(json.loads(json.dumps(result.to_dict())))
            step = deploy.resume(progress, result)
        return step

    def _examine(
        self, client: ArroyoClient, result: WaitResult, pipeline: PipelineRef
    ) -> tuple[tuple[JobError, ...], Diagnosis | None, FailureReason | None]:
        if result.job is None:
            return (), None, None
        evidence = gather_for_error(client, pipeline, result.job)
        return evidence.errors, diagnose(evidence), evidence.jobs[-1].failure

    def _wait(self, plan: WaitPlan, client: ArroyoClient) -> WaitResult:
        clock: Any = BenchClock(self.now)
        return poll_until(
            client,
            PipelineWait(plan, now=self.now(), has_responded=True),
            clock=clock,
            interval_seconds=0.25,
            log=self.log,
            # The clock counts whole microseconds, and would not move by less.
            sleep=lambda seconds: self.sandbox.advance(max(seconds, 0.001)),
        )

    def deployed(self, **options: Any) -> Pipeline:
        """Deploy the first version, let it take checkpoints, and return its pipeline."""
        done = self.deploy(**options)
        assert done.pipeline is not None
        self.sandbox.advance(5)
        self.lines.lines.clear()
        return self.client.get_pipeline(done.pipeline.pipeline_id)

    def states(self) -> dict[str, str]:
        """Return the states of all pipelines by id, after each has had time to reach its state."""
        self.sandbox.advance(10)
        return {one.id: self.job(one.id).state for one in self.pipelines()}

    def changes_sent(self) -> list[str]:
        """Return method and path, without ids, of the requests that change something, except validations."""
        sent = []
        for request in self.sandbox.requests:
            if request.method == "GET" or request.path.endswith("/validate_query"):
                continue
            tail = "/restart" if request.path.endswith("/restart") else ""
            body = request.json or {}
            what = ",".join(sorted(body)) if request.method == "PATCH" else ""
            stop = f"={body['stop']}" if "stop" in body else ""
            sent.append(f"{request.method}{tail}{' ' + what if what else ''}{stop}")
        return sent


open_deploy_bench = partial(DeployBench.open, seconds_per_request=0.02)
