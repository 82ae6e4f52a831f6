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
from .job_calls import JobCalls
from .messages import (
    EMPTY,
    Call,
    HangUpError,
    Output,
    RefusedError,
    Response,
    json_response,
    listing,
    page,
)
from .planning import Plan, plan
from .records import (
    DEFAULT_INTERVAL_MICROS,
    INTERVAL_RANGE_MICROS,
    PREVIEW_INTERVAL_MICROS,
    Job,
    Pipeline,
    Wanted,
    new_id,
)
from .routes import Route, Routes
from .store import Store

PREFIX = "/api/v1/"
_KEPT_NOT_JUDGED = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NotJudged:
    """Some SQL that was evaluated in part: whether Arroyo would accept the rest, the sandbox cannot say.

    :param name: of the pipeline; ``""`` where the SQL was only validated or previewed.
    :param query: the SQL.
    :param what: the parts that were not judged, each in a few words.
    """

    name: str
    query: str
    what: tuple[str, ...]


class Api:
    """Responds to calls as a real server of the version does.

    :param worker_mode: 0.16 with ``job-controller: worker``.
    :param created: called with each new pipeline.
    """

    def __init__(
        self,
        *,
        version: responses.Version,
        engine: Engine,
        store: Store,
        worker_mode: bool,
        created: Callable[[Pipeline], None],
    ) -> None:
        self.version = version
        self.engine = engine
        self.store = store
        self.not_judged: deque[NotJudged] = deque(maxlen=_KEPT_NOT_JUDGED)
        self._worker_mode = worker_mode
        self._created = created
        self._routes = Routes(self._listed_routes(), has_organizations=version == "0.16")

    def _listed_routes(self) -> list[Route]:
        new = self.version == "0.16"
        pipeline = bodies.PIPELINE[self.version]
        return [
            Route("GET", "ping", lambda call: Response(body=b'"Pong"')),
            *Connections(self.engine, self.store).routes(),
            Route("POST", "pipelines", self._post, pipeline, plans=True),
            Route("GET", "pipelines", self._pipelines),
            Route("POST", "pipelines/preview", self._preview, bodies.PREVIEW, plans=True),
            Route("POST", "pipelines/validate_query", self._validate, bodies.VALIDATE, plans=True),
            Route("PATCH", "pipelines/*", self._patch, bodies.PATCH[self.version]),
            Route("GET", "pipelines/*", self._get),
            Route("DELETE", "pipelines/*", self._delete),
            Route("POST", "pipelines/*/restart", self._restart, bodies.RESTART[self.version]),
            *JobCalls(self.version, self.engine, self.store).routes(),
            *([Route("PUT", "pipelines/*", self._put, pipeline, plans=True)] if new else []),
        ]

    def respond(
        self, method: str, path: str, query: str, body: bytes | None, content_type: str
    ) -> Response | Output:
        """Respond to a request.

        :param body: None where it is larger than a real server takes.
        :raises HangUpError: where a real server closes the connection without a response.
        """
        try:
            if body is None:
                raise RefusedError(413, "Failed to buffer the request body: length limit exceeded")
            if method == "OPTIONS":
                return _PREFLIGHT
            route, ids, allowed = self._routes.find(method, path.removeprefix(PREFIX))
            if not path.startswith(PREFIX) or not allowed:
                raise RefusedError(404, "Route not found")
            if route is None:
                return Response(405, b"", None, {"allow": allowed})
            call = Call(ids, query)
            if route.shape is not None:
                call.fields = bodies.read(body, content_type, route.shape)
            if route.plans:
                # Outside the lock: a megabyte of SQL takes seconds, and the jobs go on.
                call.plan = self._planned(call.fields, is_preview=route.shape is bodies.PREVIEW)
            with self.store.lock:
                self.engine.advance()
                return route.handler(call)
        except RefusedError as refused:
            return refused.response

    def _planned(self, fields: Mapping[str, Any], *, is_preview: bool) -> Plan:
        with self.store.lock:
            tables, udfs = list(self.store.tables.values()), list(self.store.udfs.values())
        planned = plan(
            fields["query"],
            version=self.version,
            tables=tables,
            udfs=[*udfs, *fields.get("udfs", ())],
            parallelism=fields.get("parallelism", 1),
            preview=is_preview and not fields.get("enable_sinks", False),
        )
        if planned.panic is not None:
            raise HangUpError
        if planned.udf_refusal is not None:
            raise RefusedError(400, planned.udf_refusal)
        found = NotJudged(fields.get("name", ""), fields["query"], planned.not_judged)
        with self.store.lock:
            is_new = bool(found.what) and found not in self.not_judged
            if is_new:
                self.not_judged.append(found)
        if is_new:
            _log.info("Not judged in the SQL of %s: %s", found.name or "no name", ", ".join(found.what))
        return planned

    # -- pipelines ----------------------------------------------------------------------------------------

    def _post(self, call: Call) -> Response:
        return self._create(call, None)

    def _put(self, call: Call) -> Response:
        return self._create(call, call.ids[0])

    def _create(self, call: Call, own_id: str | None) -> Response:
        fields = call.fields
        planned = _accepted(call)
        if not fields["name"]:
            raise RefusedError(400, "Field name must be set")
        if own_id is not None and own_id in self.store.pipelines:
            raise RefusedError(400, "A record already exists with that name or id")
        pipeline = self._new_pipeline(fields, planned, name=fields["name"], own_id=own_id)
        pipeline.tags = fields.get("tags", {})
        pipeline.state_url = fields.get("state_url")
        # Real servers create pipeline and job in two steps: what fails in the second leaves the first.
        interval = fields.get("checkpoint_interval_micros", DEFAULT_INTERVAL_MICROS)
        if not INTERVAL_RANGE_MICROS[0] <= interval <= INTERVAL_RANGE_MICROS[1]:
            raise RefusedError(400, "Checkpoint_interval_micros must be between 1 second and 1 day.")
        wanted = Wanted(
            parallelism=fields["parallelism"],
            interval_micros=interval,
            env_vars=fields.get("env_vars", {}),
            scheduler_config=fields.get("scheduler_config") or {},
        )
        self._start(pipeline, wanted)
        return self._shown(pipeline)

    def _preview(self, call: Call) -> Response:
        name = f"preview_{self.engine.now // 1000}"
        pipeline = self._new_pipeline(call.fields, _accepted(call), name=name, is_preview=True)
        self._start(pipeline, Wanted(parallelism=1, interval_micros=PREVIEW_INTERVAL_MICROS))
        return self._shown(pipeline)

    def _new_pipeline(
        self,
        fields: Mapping[str, Any],
        planned: Plan,
        *,
        name: str,
        own_id: str | None = None,
        is_preview: bool = False,
    ) -> Pipeline:
        pipeline = Pipeline(
            id=own_id or new_id(self.engine.rng, "pl"),
            name=name,
            query=fields["query"],
            created_at=self.store.dated(self.engine.now),
            sequence=self.store.next_sequence(),
            graph=planned.graph or {},
            sources=planned.sources,
            sinks=planned.sinks,
            columns=planned.columns,
            udfs=[
                {"definition": udf["definition"], "language": udf.get("language") or "rust"}
                for udf in fields.get("udfs", ())
            ],
            preview=is_preview,
            tables=planned.tables,
        )
        self.store.add(pipeline)
        return pipeline

    def _start(self, pipeline: Pipeline, wanted: Wanted) -> None:
        pipeline.job = Job(
            id=new_id(self.engine.rng, "job"),
            pipeline=pipeline,
            created_at=self.store.dated(self.engine.now),
            sequence=self.store.next_sequence(),
            wanted=wanted,
        )
        self.store.add(pipeline)
        self.engine.want(pipeline.job)
        self._created(pipeline)

    def _validate(self, call: Call) -> Response:
        planned = call.plan
        errors: list[Any] = [] if planned is None else [dict(error) for error in planned.errors]
        if self.version == "0.15":
            errors = [error["message"] for error in errors]
        else:
            errors = [{key: value for key, value in error.items() if value is not None} for error in errors]
        return json_response({"graph": planned and planned.graph, "errors": errors})

    def _pipelines(self, call: Call) -> Response:
        found, more = page(call, self.store.listed(), lambda item: (item.id, item.created_at))
        return listing((responses.pipeline(item, self.version) for item in found), has_more=more)

    def _get(self, call: Call) -> Response:
        return self._shown(self._pipeline(call, RefusedError(404, "Pipeline not found"))[0])

    def _patch(self, call: Call) -> Response:
        fields = call.fields
        interval = fields.get("checkpoint_interval_micros")
        if interval is not None and not INTERVAL_RANGE_MICROS[0] <= interval <= INTERVAL_RANGE_MICROS[1]:
            raise RefusedError(400, "checkpoint_interval_micros must be between 1 second and 1 day")
        missing = RefusedError(404, "Job for pipeline not found")
        if self.version == "0.15":
            missing = RefusedError(400, "There are no jobs for the pipeline")
        pipeline, job = self._pipeline(call, missing)
        # What the body says beside these, labels included, is ignored.
        for name, value in fields.items():
            attribute = "interval_micros" if name == "checkpoint_interval_micros" else name
            setattr(job.wanted, attribute, value)
        if fields:
            self.engine.want(job)
        return self._shown(pipeline)

    def _restart(self, call: Call) -> Response:
        pipeline, job = self._pipeline(call, RefusedError(400, "No jobs for pipeline"))
        without_state = call.fields.get("ignore_state", False)
        if without_state and self._worker_mode:
            if job.state not in (JobState.STOPPED, JobState.FAILED):
                raise RefusedError(
                    409,
                    f"cannot restart job {job.id} without state while it is in state {job.state}; "
                    "stop the job first",
                )
            job.wanted.stop = "none"
            pipeline.rendered = None
            self._start(pipeline, job.wanted)
        else:
            job.wanted.restarts += 1
            job.wanted.restart_force = call.fields.get("force", False)
            job.wanted.ignore_state = without_state
            self.engine.want(job)
        return self._shown(pipeline)

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
        # Half-made records go as well.
        self.store.remove(pipeline)
        return EMPTY

    # -- common ----------------------------------------------------------------------------------------------

    def _shown(self, pipeline: Pipeline) -> Response:
        return Response(body=responses.pipeline(pipeline, self.version))

    def _pipeline(self, call: Call, missing: RefusedError) -> tuple[Pipeline, Job]:
        pipeline = self.store.whole(call.ids[0])
        if pipeline is None or pipeline.job is None:
            raise missing
        return pipeline, pipeline.job


_PREFLIGHT = Response(
    200, b"", None, {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}
)


def _accepted(call: Call) -> Plan:
    planned = call.plan
    if planned is None or planned.refusal is not None:
        raise RefusedError(400, str(planned and planned.refusal))
    return planned
