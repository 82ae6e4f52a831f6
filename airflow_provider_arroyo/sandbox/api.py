"""The calls about pipelines and their jobs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.models import JobState

from . import bodies, responses
from .connections import Connections
from .engine import Engine
from .http_server import ConnectionGoneError, HttpRequest
from .job_calls import JobCalls
from .messages import EMPTY, Call, Output, RefusedError, Response, Route, Routes, json_response, listing, page
from .records import (
    DEFAULT_INTERVAL_MICROS,
    INTERVAL_RANGE_MICROS,
    PREVIEW_INTERVAL_MICROS,
    Job,
    Pipeline,
    Wanted,
    new_id,
)
from .sql import Evaluation, evaluate

PREFIX = "/api/v1/"
_KEPT_NOT_JUDGED = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotJudged:
    """SQL of which parts were not checked: Arroyo may refuse it.

    :param name: of the pipeline; ``""`` if the SQL was only validated or previewed.
    :param query: the SQL.
    :param what: the parts that were not checked, each in a few words.
    """

    name: str
    query: str
    what: tuple[str, ...]


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
        self._routes = Routes(self._listed_routes(), has_organizations=self.version == "0.16")

    def _listed_routes(self) -> list[Route]:
        new = self.version == "0.16"
        pipeline = bodies.PIPELINE[self.version]
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
            *JobCalls(self.engine).routes(),
            *([Route("PUT", "pipelines/*", self._create, pipeline)] if new else []),
        ]

    def respond(self, request: HttpRequest) -> Response | Output:
        """Respond to a request.

        :raises ConnectionGoneError: if a real server closes the connection without a response.
        """
        try:
            if request.body is None:
                raise RefusedError(413, "Failed to buffer the request body: length limit exceeded")
            if request.method == "OPTIONS":
                return _PREFLIGHT
            route, ids, allowed = self._routes.find(request.method, request.path.removeprefix(PREFIX))
            if not request.path.startswith(PREFIX) or not allowed:
                raise RefusedError(404, "Route not found")
            if route is None:
                return Response(405, b"", None, {"allow": allowed})
            call = Call(ids, request.query)
            if route.shape is not None:
                content_type = request.headers.get("content-type", "")
                call.fields = bodies.read(request.body, content_type, route.shape)
            if "query" in call.fields:
                # Outside the lock: a megabyte of SQL takes seconds, and the jobs go on.
                call.plan = self._planned(call.fields, is_preview=route.shape is bodies.PREVIEW)
                if call.plan.refusal is not None and route.shape is not bodies.VALIDATE:
                    raise RefusedError(400, call.plan.refusal)
            with self.store.lock:
                self.engine.advance()
                return route.handler(call)
        except RefusedError as refused:
            return refused.response

    def _planned(self, fields: Mapping[str, Any], *, is_preview: bool) -> Evaluation:
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
            if found.what and found not in self.not_judged:
                self.not_judged.append(found)
                name = found.name or "a validation or preview"
                _log.info("Not judged in the SQL of %s: %s", name, ", ".join(found.what))
        return planned

    # -- pipelines ----------------------------------------------------------------------------------------

    def _create(self, call: Call) -> Response:
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
        return self._start(pipeline, Wanted(parallelism=1, interval_micros=PREVIEW_INTERVAL_MICROS))

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
            tables=frozenset(table["id"] for table in self.store.tables.values() if table["name"] in used),
        )
        self.store.add(pipeline)
        return pipeline

    def _start(self, pipeline: Pipeline, wanted: Wanted) -> Response:
        job = pipeline.job = Job(
            id=new_id(self.engine.rng, "job"),
            pipeline=pipeline,
            created_at=self.store.dated(self.engine.server_now),
            wanted=wanted,
        )
        self.store.add(pipeline)
        self.engine.want(job)
        self._created(job)
        return self._shown(job)

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
        return self._shown(self._job(call, RefusedError(404, "Pipeline not found")))

    def _patch(self, call: Call) -> Response:
        fields = call.fields
        if (interval := fields.get("checkpoint_interval_micros")) is not None:
            _check_interval(interval, "checkpoint_interval_micros must be between 1 second and 1 day")
        missing = RefusedError(404, "Job for pipeline not found")
        if self.version == "0.15":
            missing = RefusedError(400, "There are no jobs for the pipeline")
        job = self._job(call, missing)
        # Other fields of the body, labels included, are ignored.
        for name, value in fields.items():
            attribute = "interval_micros" if name == "checkpoint_interval_micros" else name
            setattr(job.wanted, attribute, value)
        if fields:
            self.engine.want(job)
        return self._shown(job)

    def _restart(self, call: Call) -> Response:
        job = self._job(call, RefusedError(400, "No jobs for pipeline"))
        without_state = call.fields.get("ignore_state", False)
        if without_state and self.engine.variant == "0.16-worker":
            if job.state not in (JobState.STOPPED, JobState.FAILED):
                raise RefusedError(
                    409,
                    f"cannot restart job {job.id} without state while it is in state {job.state}; "
                    "stop the job first",
                )
            job.wanted.stop = "none"
            return self._start(job.pipeline, job.wanted)
        job.wanted.restarts += 1
        job.wanted.restart_force = call.fields.get("force", False)
        job.wanted.ignore_state = without_state
        self.engine.want(job)
        return self._shown(job)

    def _delete(self, call: Call) -> Response:
        pipeline = self.store.pipelines.get(call.ids[0])
        if pipeline is None:
            raise RefusedError(404, "Pipeline not found")
        if (job := pipeline.job) is not None:
            if not job.terminal:
                raise RefusedError(
                    400,
                    "Pipeline's jobs must be in a terminal state (stopped, finished, or failed) "
                    "before it can be deleted",
                )
            self.engine.delete(job)
        # A half-made record has no job.
        self.store.remove(pipeline)
        return EMPTY

    # -- common ----------------------------------------------------------------------------------------------

    def _shown(self, job: Job) -> Response:
        return Response(body=responses.pipeline(job, self.version))

    def _job(self, call: Call, missing: RefusedError) -> Job:
        job = self.store.job_of(call.ids[0])
        if job is None:
            raise missing
        return job


_PREFLIGHT = Response(
    200, b"", None, {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}
)


def _check_interval(micros: int, words: str) -> None:
    if not INTERVAL_RANGE_MICROS[0] <= micros <= INTERVAL_RANGE_MICROS[1]:
        raise RefusedError(400, words)
