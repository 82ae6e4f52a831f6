"""The calls about pipelines and their jobs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_arroyo.client.models import JobState

from . import answers, bodies, running
from .calls import EMPTY, Answer, Call, Output, RefusedError, page, read_body
from .connections import Connections
from .engine import Engine, new_id
from .planning import Plan, plan
from .records import (
    DEFAULT_INTERVAL_MICROS,
    INTERVAL_RANGE_MICROS,
    PREVIEW_INTERVAL_MICROS,
    Job,
    Pipeline,
    Wanted,
)
from .store import Store


class Api:
    """Answers calls as a real server of the version does.

    :param worker_mode: 0.16 with ``job-controller: worker``.
    :param strict: refuse SQL of which the sandbox cannot say whether Arroyo would take it.
    """

    def __init__(
        self,
        *,
        version: answers.Version,
        engine: Engine,
        store: Store,
        rng: random.Random,
        worker_mode: bool = False,
        strict: bool = False,
    ) -> None:
        self.version = version
        self.engine = engine
        self.store = store
        self.rng = rng
        self.worker_mode = worker_mode
        self.strict = strict
        self.connections = Connections(engine=engine, store=store, rng=rng)
        self.on_create: list[Callable[[Pipeline], None]] = []
        self._all_jobs: tuple[int, bytes] = (-1, b"")

    # -- pipelines ----------------------------------------------------------------------------------------

    def ping(self, call: Call) -> Answer:
        """``GET /ping``."""
        return Answer(body=b'"Pong"')

    def create(self, call: Call) -> Answer:
        """``POST /pipelines``."""
        return self._create(call, None)

    def put(self, call: Call) -> Answer:
        """``PUT /pipelines/{id}``, 0.16 only."""
        return self._create(call, call.ids[0])

    def _create(self, call: Call, own_id: str | None) -> Answer:
        body = read_body(call, bodies.PIPELINE[self.version])
        planned = self._plan(body, parallelism=body["parallelism"])
        if not body["name"]:
            raise RefusedError(400, "Field name must be set")
        if own_id is not None and own_id in self.store.pipelines:
            raise RefusedError(400, "A record already exists with that name or id")
        pipeline = Pipeline(
            id=own_id or new_id(self.rng, "pl"),
            name=body["name"],
            query=body["query"],
            created_at=self.store.dated(self.engine.now),
            sequence=self.store.next_sequence(),
            graph=planned.graph or {},
            sources=planned.sources,
            sinks=planned.sinks,
            columns=planned.columns,
            tables=planned.tables,
            udfs=self._udfs(body),
            tags=body.get("tags", {}),
            state_url=body.get("state_url"),
        )
        # Real servers create pipeline and job in two steps: what fails in the second leaves the first.
        self.store.add(pipeline)
        interval = body.get("checkpoint_interval_micros", DEFAULT_INTERVAL_MICROS)
        if not INTERVAL_RANGE_MICROS[0] <= interval <= INTERVAL_RANGE_MICROS[1]:
            raise RefusedError(400, "Checkpoint_interval_micros must be between 1 second and 1 day.")
        wanted = Wanted(
            parallelism=body["parallelism"],
            interval_micros=interval,
            env_vars=body.get("env_vars", {}),
            scheduler_config=body.get("scheduler_config") or {},
        )
        self._start(pipeline, wanted)
        return Answer(body=answers.pipeline(pipeline, self.version))

    def preview(self, call: Call) -> Answer:
        """``POST /pipelines/preview``."""
        body = read_body(call, bodies.PREVIEW)
        planned = self._plan(body, parallelism=1, preview=not body.get("enable_sinks", False))
        pipeline = Pipeline(
            id=new_id(self.rng, "pl"),
            name=f"preview_{self.engine.now // 1000}",
            query=body["query"],
            created_at=self.store.dated(self.engine.now),
            sequence=self.store.next_sequence(),
            graph=planned.graph or {},
            sources=planned.sources,
            sinks=planned.sinks,
            columns=planned.columns,
            udfs=self._udfs(body),
            preview=True,
        )
        self.store.add(pipeline)
        self._start(pipeline, Wanted(parallelism=1, interval_micros=PREVIEW_INTERVAL_MICROS))
        return Answer(body=answers.pipeline(pipeline, self.version))

    def _start(self, pipeline: Pipeline, wanted: Wanted) -> None:
        pipeline.job = Job(
            id=new_id(self.rng, "job"),
            pipeline=pipeline,
            created_at=self.store.dated(self.engine.now),
            sequence=self.store.next_sequence(),
            wanted=wanted,
        )
        self.store.forget_order()
        self.engine.want(pipeline.job)
        for listener in self.on_create:
            listener(pipeline)

    def validate(self, call: Call) -> Answer:
        """``POST /pipelines/validate_query``."""
        body = read_body(call, bodies.VALIDATE)
        planned = self._judge(body, parallelism=1)
        if planned.udf_refusal is not None:
            raise RefusedError(400, planned.udf_refusal)
        errors: list[Any] = [dict(error) for error in planned.errors]
        if self.version == "0.15":
            errors = [error["message"] for error in errors]
        else:
            errors = [{key: value for key, value in error.items() if value is not None} for error in errors]
        return Answer(body=answers.render({"graph": planned.graph, "errors": errors}))

    def pipelines(self, call: Call) -> Answer:
        """``GET /pipelines``."""
        found, more = page(call, self.store.listed(), lambda item: (item.id, item.created_at))
        return Answer(
            body=answers.collection((answers.pipeline(item, self.version) for item in found), has_more=more)
        )

    def get(self, call: Call) -> Answer:
        """``GET /pipelines/{id}``."""
        return Answer(body=answers.pipeline(self._pipeline(call), self.version))

    def patch(self, call: Call) -> Answer:
        """``PATCH /pipelines/{id}``."""
        body = read_body(call, bodies.PATCH[self.version])
        interval = body.get("checkpoint_interval_micros")
        if interval is not None and not INTERVAL_RANGE_MICROS[0] <= interval <= INTERVAL_RANGE_MICROS[1]:
            raise RefusedError(400, "checkpoint_interval_micros must be between 1 second and 1 day")
        pipeline = self.store.whole(call.ids[0])
        if pipeline is None or pipeline.job is None:
            if self.version == "0.15":
                raise RefusedError(400, "There are no jobs for the pipeline")
            raise RefusedError(404, "Job for pipeline not found")
        wanted = pipeline.job.wanted
        if interval is not None:
            wanted.interval_micros = interval
        if "stop" in body:
            wanted.stop = body["stop"]
        if "parallelism" in body:
            wanted.parallelism = body["parallelism"]
        if "env_vars" in body:
            wanted.env_vars = body["env_vars"]
        if "scheduler_config" in body:
            wanted.scheduler_config = body["scheduler_config"]
        if body:
            self.engine.want(pipeline.job)
        return Answer(body=answers.pipeline(pipeline, self.version))

    def restart(self, call: Call) -> Answer:
        """``POST /pipelines/{id}/restart``."""
        body = read_body(call, bodies.RESTART[self.version])
        pipeline = self.store.whole(call.ids[0])
        if pipeline is None or (job := pipeline.job) is None:
            raise RefusedError(400, "No jobs for pipeline")
        without_state = body.get("ignore_state", False)
        if without_state and self.worker_mode:
            self._replace(pipeline, job)
        else:
            job.wanted.restarts += 1
            job.wanted.restart_force = body.get("force", False)
            job.wanted.ignore_state = without_state
            self.engine.want(job)
        return Answer(body=answers.pipeline(pipeline, self.version))

    def _replace(self, pipeline: Pipeline, job: Job) -> None:
        if job.state not in (JobState.STOPPED, JobState.FAILED):
            raise RefusedError(
                409,
                f"cannot restart job {job.id} without state while it is in state {job.state}; "
                "stop the job first",
            )
        job.wanted.stop = "none"
        pipeline.rendered = None
        self._start(pipeline, job.wanted)

    def delete(self, call: Call) -> Answer:
        """``DELETE /pipelines/{id}``: takes half-made records too."""
        pipeline = self.store.pipelines.get(call.ids[0])
        if pipeline is None:
            raise RefusedError(404, "Pipeline not found")
        if pipeline.job is not None and not pipeline.job.terminal:
            raise RefusedError(
                400,
                "Pipeline's jobs must be in a terminal state (stopped, finished, or failed) "
                "before it can be deleted",
            )
        self.remove(pipeline)
        return EMPTY

    def remove(self, pipeline: Pipeline) -> None:
        """Take a pipeline away, whatever its state."""
        if pipeline.job is not None:
            pipeline.job.turn += 1
            self.engine.touch(pipeline.job)
        self.store.remove(pipeline)

    # -- jobs ---------------------------------------------------------------------------------------------

    def all_jobs(self, call: Call) -> Answer:
        """``GET /jobs``."""
        made_at, body = self._all_jobs
        if made_at != self.engine.changes:
            body = answers.collection(answers.job(job, self.version) for job in self.store.listed_jobs())
            self._all_jobs = (self.engine.changes, body)
        return Answer(body=body)

    def jobs(self, call: Call) -> Answer:
        """``GET /pipelines/{id}/jobs``."""
        job = self._pipeline(call).job
        return Answer(body=answers.collection([answers.job(job, self.version)] if job else []))

    def errors(self, call: Call) -> Answer:
        """``GET …/errors``."""
        job = self._job(call)
        newest_first = sorted(job.errors, key=lambda entry: -int(entry["created_at"]))
        found, more = page(call, newest_first, lambda entry: (entry["id"], entry["created_at"]))
        shown = [answers.error_entry(entry, self.version) for entry in found]
        for entry in shown:
            entry["created_at"] = self.store.dated(entry["created_at"])
        return Answer(body=answers.collection(map(answers.render, shown), has_more=more))

    def checkpoints(self, call: Call) -> Answer:
        """``GET …/checkpoints``."""
        job = self._job(call)
        now = self.engine.now
        running.catch_up(job, now, self.rng)
        return Answer(
            body=answers.collection(
                answers.render(answers.checkpoint(item, now, self.version)) for item in job.checkpoints
            )
        )

    def checkpoint_groups(self, call: Call) -> Answer:
        """``GET …/checkpoints/{epoch}/operator_checkpoint_groups``."""
        if not call.ids[2].isdecimal():
            return Answer(
                400,
                f"Invalid URL: Cannot parse `epoch` with value `{call.ids[2]}` to a `u32`".encode(),
                "text/plain; charset=utf-8",
            )
        job = self._job(call)
        now = self.engine.now
        running.catch_up(job, now, self.rng)
        epoch = int(call.ids[2])
        found = next((item for item in job.checkpoints if item.epoch == epoch), None)
        if found is None:
            raise RefusedError(404, f"Checkpoint with epoch {epoch} for job '{job.id}' not found")
        groups = answers.checkpoint_groups(job, found, now, self.rng)
        return Answer(body=answers.collection(map(answers.render, groups)))

    def metrics(self, call: Call) -> Answer:
        """``GET …/operator_metric_groups``."""
        return Answer(body=answers.metrics(self._job(call), self.engine.now, self.rng))

    def output(self, call: Call) -> Answer | Output:
        """``GET …/output``."""
        job = self._job(call)
        if not any("preview" in node["operator"] for node in job.pipeline.graph["nodes"]):
            raise RefusedError(400, "Job does not have a preview sink")
        if job.run_id == 0:
            raise RefusedError(400, f"Job {job.id} does not exist")
        if job.state != JobState.RUNNING:
            raise RefusedError(400, "Job must be running to read output")
        return Output(job)

    # -- common -------------------------------------------------------------------------------------------

    def _pipeline(self, call: Call) -> Pipeline:
        pipeline = self.store.whole(call.ids[0])
        if pipeline is None:
            raise RefusedError(404, "Pipeline not found")
        return pipeline

    def _job(self, call: Call) -> Job:
        pipeline = self.store.whole(call.ids[0])
        if pipeline is None or pipeline.job is None or pipeline.job.id != call.ids[1]:
            raise RefusedError(404, "Job not found")
        return pipeline.job

    def _plan(self, body: Mapping[str, Any], *, parallelism: int, preview: bool = False) -> Plan:
        planned = self._judge(body, parallelism=parallelism, preview=preview)
        if planned.udf_refusal is not None:
            raise RefusedError(400, planned.udf_refusal)
        if planned.refusal is not None:
            raise RefusedError(400, planned.refusal)
        return planned

    def _judge(self, body: Mapping[str, Any], *, parallelism: int, preview: bool = False) -> Plan:
        return plan(
            body["query"],
            version=self.version,
            tables=list(self.store.tables.values()),
            udfs=[*self.store.udfs.values(), *body.get("udfs", ())],
            parallelism=parallelism,
            preview=preview,
            strict=self.strict,
        )

    def _udfs(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"definition": udf["definition"], "language": udf.get("language", "rust")}
            for udf in body.get("udfs", ())
        ]
