"""The calls about jobs: states, errors, checkpoints, metrics, and the output of previews."""

from __future__ import annotations

from airflow_provider_arroyo.client.models import JobState

from . import responses, runs
from .engine import Engine
from .messages import EMPTY, Call, Output, RefusedError, Response, Route, listing, page, render
from .records import Job


class JobCalls:
    """Responds to those calls as a real server of the version does."""

    def __init__(self, engine: Engine) -> None:
        self._version = engine.version
        self._engine = engine
        self._store = engine.store
        self._all_jobs: tuple[int, Response] = (-1, EMPTY)

    def routes(self) -> list[Route]:
        """Return the calls."""
        job = "pipelines/*/jobs/*"
        return [
            Route("GET", "jobs", self._list_jobs),
            Route("GET", "pipelines/*/jobs", self._jobs),
            Route("GET", f"{job}/errors", self._errors),
            Route("GET", f"{job}/checkpoints", self._checkpoints),
            Route("GET", f"{job}/checkpoints/*/operator_checkpoint_groups", self._checkpoint_groups),
            Route("GET", f"{job}/operator_metric_groups", self._metrics),
            Route("GET", f"{job}/output", self._output),
        ]

    def _list_jobs(self, call: Call) -> Response:
        if self._all_jobs[0] != self._engine.changes:
            newest_first = sorted(self._store.listed(), key=lambda job: -job.created_at)
            response = listing(responses.job(job, self._version) for job in newest_first)
            self._all_jobs = (self._engine.changes, response)
        return self._all_jobs[1]

    def _jobs(self, call: Call) -> Response:
        job = self._store.job_of(call.ids[0])
        if job is None:
            raise RefusedError(404, "Pipeline not found")
        return listing([responses.job(job, self._version)])

    def _errors(self, call: Call) -> Response:
        newest_first = sorted(self._job(call).errors, key=lambda entry: -int(entry["created_at"]))
        found, more = page(call, newest_first, lambda entry: (entry["id"], entry["created_at"]))
        dated = (entry | {"created_at": self._store.dated(entry["created_at"])} for entry in found)
        return listing((responses.record(entry, self._version) for entry in dated), has_more=more)

    def _checkpoints(self, call: Call) -> Response:
        job, engine = self._job(call), self._engine
        listed = engine.checkpoints(job)
        if engine.variant == "0.16-worker":
            # The leading worker has them in its memory, so there are those of its own run, while it runs.
            since = None if job.terminal or job.run_started is None else engine.server_time(job.run_started)
            listed = [one for one in listed if since is not None and one[0].start >= since]
        now = engine.server_now
        return listing(responses.checkpoint(item, now, self._version, done=done) for item, done in listed)

    def _checkpoint_groups(self, call: Call) -> Response:
        epoch = call.ids[2]
        if not (epoch.isascii() and epoch.isdecimal() and len(epoch) < 10):
            words = f"Invalid URL: Cannot parse `epoch` with value `{epoch}` to a `u32`"
            raise RefusedError(400, words, is_plain_text=True)
        job, engine = self._job(call), self._engine
        for found, done in engine.checkpoints(job):
            if found.epoch == int(epoch):
                is_empty = not done and engine.server_now < found.operators_done
                return listing(() if is_empty else responses.checkpoint_groups(job, found, engine.rng))
        raise RefusedError(404, f"Checkpoint with epoch {int(epoch)} for job '{job.id}' not found")

    def _metrics(self, call: Call) -> Response:
        engine = self._engine
        groups = runs.metric_groups(self._job(call), engine.now, engine.rng, engine.server_time)
        return listing(map(render, groups))

    def _output(self, call: Call) -> Output:
        job = self._job(call)
        if not any("preview" in node["operator"] for node in job.pipeline.graph["nodes"]):
            raise RefusedError(400, "Job does not have a preview sink")
        if job.run_id == 0:
            raise RefusedError(400, f"Job {job.id} does not exist")
        if job.state != JobState.RUNNING:
            raise RefusedError(400, "Job must be running to read output")
        return Output(job)

    def _job(self, call: Call) -> Job:
        job = self._store.job_of(call.ids[0])
        if job is None or job.id != call.ids[1]:
            raise RefusedError(404, "Job not found")
        return job
