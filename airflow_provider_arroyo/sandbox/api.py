"""The calls about pipelines and their jobs, and the way of a call to what answers it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_arroyo.client.enums import JobState

from . import bodies, responses, runs
from .connections import Connections
from .engine import Engine
from .http_server import ConnectionGoneError, HttpRequest
from .messages import EMPTY, Call, RefusedError, Response, Route, Routes, json_response, listing, page, render
from .records import (
    DEFAULT_INTERVAL_MICROS,
    INTERVAL_RANGE_MICROS,
    PREVIEW_INTERVAL_MICROS,
    Job,
    NotJudged,
    Pipeline,
    Wanted,
    new_id,
)
from .sql import Evaluation, evaluate

_PREFIX = "/api/v1/"
_ORGANIZATION = "(?:admin/organizations/[^/]+/)?"
_KEPT_NOT_JUDGED = 1000
_log = logging.getLogger(__name__)


class Api:
    """Responds to calls as a real server of the version does.

    :param created: called with each new job.
    """

    def __init__(self, engine: Engine, *, created: Callable[[Job], None]) -> None:
        self.version = engine.version
        self.engine = engine
        self.store = engine.store
        self.not_judged: deque[NotJudged] = deque(maxlen=_KEPT_NOT_JUDGED)
        self._created = created
        self._all_jobs: tuple[int, Response] = (-1, EMPTY)
        prefix = _PREFIX if self.version == "0.15" else _PREFIX + _ORGANIZATION
        self._routes = Routes(self._listed_routes(), prefix=prefix)

    def _listed_routes(self) -> list[Route]:
        new = self.version == "0.16"
        pipeline, job = bodies.PIPELINE[self.version], "pipelines/*/jobs/*"
        return [
            Route("GET", "ping", lambda call: Response(body=b'"Pong"')),
            *Connections(self.engine).routes(),
            Route("POST", "pipelines", self._create, pipeline),
            Route("GET", "pipelines", self._pipelines),
            Route("POST", "pipelines/preview", self._preview, bodies.PREVIEW),
            Route("POST", "pipelines/validate_query", self._validate, bodies.VALIDATE),
            Route("PATCH", "pipelines/*", self._patch, bodies.PATCH[self.version]),
            Route("GET", "pipelines/*", self._get),
            Route("DELETE", "pipelines/*", self._delete),
            Route("POST", "pipelines/*/restart", self._restart, bodies.RESTART[self.version]),
            Route("GET", "jobs", self._list_jobs),
            Route("GET", "pipelines/*/jobs", self._jobs),
            Route("GET", f"{job}/errors", self._errors),
            Route("GET", f"{job}/checkpoints", self._checkpoints),
            Route("GET", f"{job}/checkpoints/*/operator_checkpoint_groups", self._checkpoint_groups),
            Route("GET", f"{job}/operator_metric_groups", self._metrics),
            Route("GET", f"{job}/output", self._output),
            *([Route("PUT", "pipelines/*", self._create, pipeline)] if new else []),
        ]

    def respond(self, request: HttpRequest) -> Response:
        """Respond to a request.

        :raises ConnectionGoneError: if a real server closes the connection without a response.
        """
        try:
            if request.body is None:
                raise RefusedError(413, "Failed to buffer the request body: length limit exceeded")
            if request.method == "OPTIONS":
                return _PREFLIGHT
            route, ids, allowed = self._routes.find(request.method, request.path)
            if not allowed:
                raise RefusedError(404, "Route not found")
            if route is None:
                return Response(405, b"", None, {"allow": allowed})
            call = Call(ids, request.query)
            if route.shape is not None:
                content_type = request.headers.get("content-type", "")
                call.fields = bodies.read(request.body, content_type, route.shape)
            if "query" in call.fields:
                # Outside the lock: a megabyte of SQL takes seconds, and the jobs go on.
                call.plan = self.plan(call.fields, is_preview=route.shape is bodies.PREVIEW)
                if call.plan.refusal is not None and route.shape is not bodies.VALIDATE:
                    raise RefusedError(400, call.plan.refusal)
            with self.store.lock:
                self.engine.advance()
                return route.handler(call)
        except RefusedError as refused:
            return refused.response

    def plan(self, fields: Mapping[str, Any], *, is_preview: bool = False) -> Evaluation:
        """Plan the SQL of a body.

        :raises ConnectionGoneError: if Arroyo's planner would panic.
        :raises RefusedError: if a UDF does not parse.
        """
        with self.store.lock:
            tables, udfs = list(self.store.tables.values()), list(self.store.udfs.values())
        planned = evaluate(
            fields["query"],
            arroyo_version=self.version,
            tables=tables,
            udfs=[*udfs, *fields.get("udfs", ())],
            parallelism=fields.get("parallelism", 1),
            preview=is_preview and not fields.get("enable_sinks", False),
        )
        if planned.panic is not None:
            raise ConnectionGoneError
        if planned.udf_refusal is not None:
            raise RefusedError(400, planned.udf_refusal)
        found = NotJudged(fields.get("name", ""), fields["query"], planned.not_judged)
        with self.store.lock:
            if found.what and planned.graph is not None and found not in self.not_judged:
                self.not_judged.append(found)
                name = found.name or "a validation or preview"
                _log.info("Not judged in the SQL of %s: %s", name, ", ".join(found.what))
        return planned

    # -- pipelines ----------------------------------------------------------------------------------------

    def _create(self, call: Call) -> Response:
        return self._shown(self.create(call))

    def create(self, call: Call) -> Job:
        """Create a pipeline and its job; the call has fields and a plan.

        :raises RefusedError: as a real server.
        """
        fields = call.fields
        if not fields["name"]:
            raise RefusedError(400, "Field name must be set")
        if call.ids and call.ids[0] in self.store.pipelines:
            raise RefusedError(400, "A record already exists with that name or id")
        pipeline = self._new_pipeline(call, fields["name"])
        # Real servers create pipeline and job in two steps: what fails in the second leaves the first.
        interval = fields.get("checkpoint_interval_micros", DEFAULT_INTERVAL_MICROS)
        _check_interval(interval, "Checkpoint_interval_micros must be between 1 second and 1 day.")
        wanted = Wanted(
            parallelism=fields["parallelism"],
            interval_micros=interval,
            env_vars=fields.get("env_vars", {}),
            scheduler_config=fields.get("scheduler_config") or {},
        )
        return self._start(pipeline, wanted)

    def _preview(self, call: Call) -> Response:
        pipeline = self._new_pipeline(call, f"preview_{self.engine.server_now // 1000}", is_preview=True)
        wanted = Wanted(parallelism=1, interval_micros=PREVIEW_INTERVAL_MICROS)
        return self._shown(self._start(pipeline, wanted))

    def _new_pipeline(self, call: Call, name: str, *, is_preview: bool = False) -> Pipeline:
        fields, planned = call.fields, call.plan
        used = {source.name for source in planned.sources} | {sink.name for sink in planned.sinks}
        pipeline = Pipeline(
            id=call.ids[0] if call.ids else new_id(self.engine.rng, "pl"),
            name=name,
            query=fields["query"],
            created_at=self.store.dated(self.engine.server_now),
            graph=planned.graph or {},
            sources=planned.sources,
            sinks=planned.sinks,
            udfs=[
                {"definition": udf["definition"], "language": udf.get("language") or "rust"}
                for udf in fields.get("udfs", ())
            ],
            tags=fields.get("tags", {}),
            state_url=fields.get("state_url"),
            preview=is_preview,
            tables=[table["id"] for table in self.store.tables.values() if table["name"] in used],
        )
        self.store.pipelines[pipeline.id] = pipeline
        return pipeline

    def _start(self, pipeline: Pipeline, wanted: Wanted) -> Job:
        job = pipeline.job = Job(
            id=new_id(self.engine.rng, "job"),
            pipeline=pipeline,
            created_at=self.store.dated(self.engine.server_now),
            wanted=wanted,
        )
        self.engine.want(job)
        self._created(job)
        return job

    def _validate(self, call: Call) -> Response:
        found = call.plan.errors
        errors: list[Any] = [{key: one[key] for key in one if one[key] is not None} for one in found]
        if self.version == "0.15":
            errors = [error["message"] for error in found]
        return json_response({"graph": call.plan.graph, "errors": errors})

    def _pipelines(self, call: Call) -> Response:
        found, more = page(call, self.store.listed(), lambda job: (job.pipeline.id, job.pipeline.created_at))
        return listing((responses.pipeline(job, self.version) for job in found), has_more=more)

    def _get(self, call: Call) -> Response:
        return self._shown(self._job(call, "Pipeline not found"))

    def _patch(self, call: Call) -> Response:
        fields = call.fields
        if (interval := fields.get("checkpoint_interval_micros")) is not None:
            _check_interval(interval, "checkpoint_interval_micros must be between 1 second and 1 day")
        if self.version == "0.15":
            job = self._job(call, "There are no jobs for the pipeline", 400)
        else:
            job = self._job(call, "Job for pipeline not found")
        # Other fields of the body, labels included, are ignored.
        for name, value in fields.items():
            attribute = "interval_micros" if name == "checkpoint_interval_micros" else name
            setattr(job.wanted, attribute, value)
        if fields:
            self.engine.want(job)
        return self._shown(job)

    def _restart(self, call: Call) -> Response:
        job = self._job(call, "No jobs for pipeline", 400)
        without_state = call.fields.get("ignore_state", False)
        if without_state and self.engine.variant == "0.16-worker":
            if job.state not in (JobState.STOPPED, JobState.FAILED):
                raise RefusedError(
                    409,
                    f"cannot restart job {job.id} without state while it is in state {job.state}; "
                    "stop the job first",
                )
            job.wanted.stop = "none"
            return self._shown(self._start(job.pipeline, job.wanted))
        job.wanted.restarts += 1
        job.wanted.restart_force = call.fields.get("force", False)
        job.wanted.ignore_state = without_state
        self.engine.want(job)
        return self._shown(job)

    def _delete(self, call: Call) -> Response:
        pipeline = self.store.pipelines.get(call.ids[0])
        if pipeline is None:
            raise RefusedError(404, "Pipeline not found")
        # A half-made record has no job.
        if pipeline.job is not None and not pipeline.job.terminal:
            allowed = "a terminal state (stopped, finished, or failed) before it can be deleted"
            raise RefusedError(400, f"Pipeline's jobs must be in {allowed}")
        self.engine.delete(pipeline)
        return EMPTY

    # -- jobs ---------------------------------------------------------------------------------------------

    def _list_jobs(self, call: Call) -> Response:
        if self._all_jobs[0] != self.engine.changes:
            newest_first = sorted(self.store.listed(), key=lambda job: -job.created_at)
            response = listing(responses.job(job, self.version) for job in newest_first)
            self._all_jobs = (self.engine.changes, response)
        return self._all_jobs[1]

    def _jobs(self, call: Call) -> Response:
        job = self._job(call, "Pipeline not found")
        return listing([responses.job(job, self.version)])

    def _errors(self, call: Call) -> Response:
        newest_first = sorted(self._job(call).errors, key=lambda entry: -int(entry["created_at"]))
        found, more = page(call, newest_first, lambda entry: (entry["id"], entry["created_at"]))
        dated = (entry | {"created_at": self.store.dated(entry["created_at"])} for entry in found)
        return listing((responses.record(entry, self.version) for entry in dated), has_more=more)

    def _checkpoints(self, call: Call) -> Response:
        job, engine = self._job(call), self.engine
        listed = engine.checkpoints(job)
        if engine.variant == "0.16-worker":
            # The leading worker has them in its memory, so there are those of its own run, while it runs.
            since = None if job.terminal or job.run_started is None else engine.server_time(job.run_started)
            listed = [one for one in listed if since is not None and one[0].start >= since]
        now = engine.server_now
        return listing(responses.checkpoint(item, now, self.version, done=done) for item, done in listed)

    def _checkpoint_groups(self, call: Call) -> Response:
        epoch = call.ids[2]
        if not (epoch.isascii() and epoch.isdecimal() and len(epoch) < 10):
            words = f"Invalid URL: Cannot parse `epoch` with value `{epoch}` to a `u32`"
            raise RefusedError(400, words, is_plain_text=True)
        job, engine = self._job(call), self.engine
        for found, done in engine.checkpoints(job):
            if found.epoch == int(epoch):
                is_empty = not done and engine.server_now < found.operators_done
                return listing(() if is_empty else responses.checkpoint_groups(job, found, engine.rng))
        raise RefusedError(404, f"Checkpoint with epoch {int(epoch)} for job '{job.id}' not found")

    def _metrics(self, call: Call) -> Response:
        engine = self.engine
        groups = runs.metric_groups(self._job(call), engine.now, engine.rng, engine.server_time)
        return listing(map(render, groups))

    def _output(self, call: Call) -> Response:
        job = self._job(call)
        if not any("preview" in node["operator"] for node in job.pipeline.graph["nodes"]):
            raise RefusedError(400, "Job does not have a preview sink")
        if job.run_id == 0:
            raise RefusedError(400, f"Job {job.id} does not exist")
        if job.state != JobState.RUNNING:
            raise RefusedError(400, "Job must be running to read output")
        return Response(output_of=job)

    # -- common ----------------------------------------------------------------------------------------------

    def _shown(self, job: Job) -> Response:
        return Response(body=responses.pipeline(job, self.version))

    def _job(self, call: Call, words: str = "Job not found", status: int = 404) -> Job:
        """Return the job of a call's pipeline; if the path names a job, it must be that one.

        :raises RefusedError: with these words, if there is none.
        """
        job = self.store.job_of(call.ids[0])
        if job is None or call.ids[1:2] not in ((), (job.id,)):
            raise RefusedError(status, words)
        return job


_PREFLIGHT = Response(
    200, b"", None, {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}
)


def _check_interval(micros: int, words: str) -> None:
    if not INTERVAL_RANGE_MICROS[0] <= micros <= INTERVAL_RANGE_MICROS[1]:
        raise RefusedError(400, words)
