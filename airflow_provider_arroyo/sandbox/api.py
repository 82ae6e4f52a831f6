"""The calls of the API, free of HTTP: a call goes in, an answer comes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from airflow_provider_arroyo.arroyo.models import JobState

from . import answers, bodies, catalog, running
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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the API.

    :param ids: the parts of its path that name something, unescaped, in their order.
    """

    method: str
    ids: Sequence[str] = ()
    query: str = ""
    body: bytes = b""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API.

    :param content_type: None where it has no body.
    """

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """The answer to a call for a preview's output: a stream, for as long as the job runs."""

    job: Job


EMPTY = Answer(200, b"", None)


class RefusedError(Exception):
    """A call that the API refuses."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, answers.render({"error": text}))


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
        body = self._body(call, bodies.PIPELINE[self.version])
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
        body = self._body(call, bodies.PREVIEW)
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
        body = self._body(call, bodies.VALIDATE)
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
        page, more = self._page(call, self.store.listed(), lambda item: (item.id, item.created_at))
        return Answer(
            body=answers.collection((answers.pipeline(item, self.version) for item in page), has_more=more)
        )

    def get(self, call: Call) -> Answer:
        """``GET /pipelines/{id}``."""
        return Answer(body=answers.pipeline(self._pipeline(call), self.version))

    def patch(self, call: Call) -> Answer:
        """``PATCH /pipelines/{id}``."""
        body = self._body(call, bodies.PATCH[self.version])
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
        body = self._body(call, bodies.RESTART[self.version])
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
        page, more = self._page(call, newest_first, lambda entry: (entry["id"], entry["created_at"]))
        shown = [answers.error_entry(entry, self.version) for entry in page]
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

    # -- connections and UDFs -----------------------------------------------------------------------------

    def connectors(self, call: Call) -> Answer:
        """``GET /connectors``."""
        return Answer(body=answers.collection(map(answers.render, catalog.connectors())))

    def tables(self, call: Call) -> Answer:
        """``GET /connection_tables``."""
        newest_first = sorted(self.store.tables.values(), key=lambda item: -int(item["created_at"]))
        page, more = self._page(call, newest_first, lambda item: (item["id"], item["created_at"]))
        shown = (answers.render(item | {"consumers": self.store.consumers(item["id"])}) for item in page)
        return Answer(body=answers.collection(shown, has_more=more))

    def create_table(self, call: Call) -> Answer:
        """``POST /connection_tables``."""
        body = self._body(call, bodies.TABLE)
        table = self._checked_table(body)
        if any(item["name"] == table["name"] for item in self.store.tables.values()):
            raise RefusedError(400, "connection_table with that name already exists")
        self.store.tables[table["id"]] = table
        return Answer(body=answers.render(table))

    def _checked_table(self, body: Mapping[str, Any]) -> dict[str, Any]:
        connector, config = body["connector"], body.get("config")
        if connector not in catalog.NAMES:
            raise RefusedError(500, "Something went wrong")
        if problem := catalog.config_problem(connector, config):
            raise RefusedError(400, problem)
        if not body["name"]:
            raise RefusedError(400, "Field name must be set")
        profile = None
        if profile_id := body.get("connection_profile_id"):
            profile = self.store.profiles.get(profile_id)
            if profile is None:
                raise RefusedError(400, f"Could not find connection profile with id '{profile_id}'")
        return {
            "id": new_id(self.rng, "ct"),
            "name": body["name"],
            "created_at": self.store.dated(self.engine.now),
            "connector": connector,
            "connection_profile": profile,
            "table_type": catalog.table_type(connector, config or {}),
            "config": config,
            "schema": catalog.table_schema(connector, body.get("schema")),
            "consumers": 0,
        }

    def test_table(self, call: Call) -> Answer:
        """``POST /connection_tables/test``: server-sent events on real servers too."""
        self._checked_table(self._body(call, bodies.TABLE))
        message = {"error": False, "done": True, "message": "Successfully validated connection"}
        return Answer(body=b"data: " + answers.render(message) + b"\n\n", content_type="text/event-stream")

    def test_schema(self, call: Call) -> Answer:
        """``POST /connection_tables/schemas/test``."""
        return EMPTY

    def delete_table(self, call: Call) -> Answer:
        """``DELETE /connection_tables/{id}``: one in use goes as well."""
        if self.store.tables.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection table not found")
        return EMPTY

    def profiles(self, call: Call) -> Answer:
        """``GET /connection_profiles``."""
        return Answer(body=answers.collection(map(answers.render, self.store.profiles.values())))

    def create_profile(self, call: Call) -> Answer:
        """``POST /connection_profiles``."""
        body = self._body(call, bodies.PROFILE)
        if body["connector"] not in catalog.NAMES:
            raise RefusedError(400, f"Unknown connector '{body['connector']}'")
        if any(item["name"] == body["name"] for item in self.store.profiles.values()):
            raise RefusedError(400, "connection_profile with that name already exists")
        profile = {
            "id": new_id(self.rng, "cp"),
            "name": body["name"],
            "connector": body["connector"],
            "config": body.get("config"),
            "description": catalog.profile_description(body["connector"], body.get("config")),
        }
        self.store.profiles[profile["id"]] = profile
        return Answer(body=answers.render(profile))

    def test_profile(self, call: Call) -> Answer:
        """``POST /connection_profiles/test``."""
        self._body(call, bodies.PROFILE)
        message = {"error": False, "done": True, "message": "Successfully validated connection"}
        return Answer(body=answers.render(message))

    def autocomplete(self, call: Call) -> Answer:
        """``GET /connection_profiles/{id}/autocomplete``."""
        if call.ids[0] not in self.store.profiles:
            raise RefusedError(404, "Connection profile not found")
        return Answer(body=answers.render({"values": {}}))

    def delete_profile(self, call: Call) -> Answer:
        """``DELETE /connection_profiles/{id}``."""
        if self.store.profiles.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection profile not found")
        return EMPTY

    def udfs(self, call: Call) -> Answer:
        """``GET /udfs``."""
        return Answer(body=answers.collection(map(answers.render, self.store.udfs.values())))

    def create_udf(self, call: Call) -> Answer:
        """``POST /udfs``: at once, where a real server compiles Rust for half a minute."""
        body = self._body(call, bodies.UDF)
        language = body.get("language", "rust")
        if problem := catalog.udf_problem(body["definition"], language):
            raise RefusedError(400, f"Invalid UDF: {problem}")
        name = catalog.udf_name(body["definition"], language)
        if any(udf["name"] == name for udf in self.store.udfs.values()):
            raise RefusedError(400, "global_udf with that name already exists")
        now = self.store.dated(self.engine.now)
        udf = {
            "id": new_id(self.rng, "udf"),
            "prefix": body["prefix"],
            "name": name,
            "language": language,
            "created_at": now,
            "updated_at": now,
            "definition": body["definition"],
            "description": body.get("description"),
            "dylib_url": None,
        }
        self.store.udfs[udf["id"]] = udf
        return Answer(body=answers.render(udf))

    def validate_udf(self, call: Call) -> Answer:
        """``POST /udfs/validate``."""
        body = self._body(call, bodies.UDF_VALIDATE)
        language = body.get("language", "rust")
        problem = catalog.udf_problem(body["definition"], language)
        name = catalog.udf_name(body["definition"], language)
        return Answer(body=answers.render({"udf_name": name, "errors": [problem] if problem else []}))

    def delete_udf(self, call: Call) -> Answer:
        """``DELETE /udfs/{id}``."""
        if self.store.udfs.pop(call.ids[0], None) is None:
            raise RefusedError(404, "UDF not found")
        return EMPTY

    # -- common -------------------------------------------------------------------------------------------

    def _body(self, call: Call, shape: bodies.Shape) -> dict[str, Any]:
        try:
            return bodies.read(call.body, call.content_type, shape)
        except bodies.BodyRefusedError as refused:
            raise RefusedError(refused.status, refused.text) from refused

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

    def _page(
        self, call: Call, items: Sequence[T], key: Callable[[T], tuple[str, int]]
    ) -> tuple[Sequence[T], bool]:
        after, limit = None, 10
        for name, value in parse_qsl(call.query, keep_blank_values=True):
            if name == "starting_after":
                after = value
            elif name == "limit":
                limit = _number(value)
        if limit < 1:
            raise RefusedError(400, "Limit must be greater than 0")
        if after is not None and after != "":
            date = next((key(item)[1] for item in items if key(item)[0] == after), None)
            items = [item for item in items if date is not None and key(item)[1] < date]
        return items[:limit], len(items) > limit


class BadQueryError(Exception):
    """A parameter of the query string that does not parse: refused in plain text."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.answer = Answer(
            400, f"Failed to deserialize query string: {words}".encode(), "text/plain; charset=utf-8"
        )


def _number(text: str) -> int:
    digits = text[1:] if text.startswith("+") else text
    if not text:
        raise BadQueryError("cannot parse integer from empty string")
    if not (digits.isascii() and digits.isdecimal()):
        raise BadQueryError("invalid digit found in string")
    if int(digits) >= 2**32:
        raise BadQueryError("number too large to fit in target type")
    return int(digits)
