"""What really happened, as the sandbox knows it, and what was wanted at each moment."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, JobState
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.records import Job, Pipeline
from airflow_provider_arroyo.sandbox.request_log import Request


class Stood(NamedTuple):
    """A state that a job came to."""

    pipeline_id: str
    job_id: str
    state: str
    run_id: int


@dataclass
class Ledger:
    """When a stop of one pipeline was wanted: spans of the sandbox's time, in microseconds.

    A span is open until it is closed.
    """

    spans: list[list[int | None]] = field(default_factory=list)

    def open(self, now: int) -> None:
        """Note that a stop is wanted from now on."""
        self.spans.append([now, None])

    def close(self, now: int) -> None:
        """Note that no stop is wanted from now on."""
        if self.spans and self.spans[-1][1] is None:
            self.spans[-1][1] = now

    def covers(self, moment: int) -> bool:
        """Whether a stop was wanted at a moment."""
        return any(
            start is not None and start <= moment and (end is None or moment <= end)
            for start, end in self.spans
        )


class Truth:
    """Listens to a sandbox and remembers every state of every job, of deleted pipelines too.

    :param sandbox: the sandbox; nothing must have been made in it yet.
    """

    def __init__(self, sandbox: ArroyoSandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._stood: dict[str, list[Stood]] = defaultdict(list)
        self._names: dict[str, str] = {}
        self.ledgers: dict[str, Ledger] = defaultdict(Ledger)
        """By the pipelines' names."""
        sandbox.engine.on_change.append(self._changed)

    def _changed(self, job: Job, before: str) -> None:
        with self._lock:
            pipeline = job.pipeline
            self._names[pipeline.id] = pipeline.name
            self._stood[pipeline.id].append(Stood(pipeline.id, job.id, job.state, job.run_id))

    # -- now -------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the sandbox's time, in microseconds since the epoch."""
        return self._sandbox.clock.now_micros()

    def pipelines(self, name: str) -> list[Pipeline]:
        """Return the whole pipelines that have a name."""
        self._sandbox.state(name)
        there = tuple(self._sandbox.store.pipelines.values())
        return [pipeline for pipeline in there if pipeline.name == name and pipeline.job is not None]

    def job(self, pipeline_id: str) -> Job | None:
        """Return a pipeline's job as it is now."""
        self._sandbox.state(pipeline_id)
        pipeline = self._sandbox.store.pipelines.get(pipeline_id)
        return None if pipeline is None else pipeline.job

    # -- then ------------------------------------------------------------------------------------------------

    def stood(self, pipeline_id: str, job_id: str | None, state: str, run_id: int | None) -> bool:
        """Whether a job ever was in a state in a run."""
        with self._lock:
            return (
                Stood(pipeline_id, str(job_id), state, -1 if run_id is None else run_id)
                in (self._stood[pipeline_id])
            )

    def timeline(self, pipeline_id: str) -> str:
        """Return a pipeline's states as text."""
        with self._lock:
            return " > ".join(f"{one.state}({one.run_id})" for one in self._stood[pipeline_id])

    # -- what must not be ------------------------------------------------------------------------------------

    def is_false(self, result: dict[str, Any], wanted: frozenset[str], *, is_calm: bool) -> str | None:
        """Return why a task's success is none; None if it is one.

        :param result: what the task returned.
        :param wanted: the states that are a success.
        :param is_calm: whether nothing but the task moves the pipeline, so that it must still be so now.
        """
        pipeline_id, state, run_id = result["pipeline_id"], result["state"], result["run_id"]
        job = self.job(pipeline_id)
        if state not in wanted:
            return f"it says {state}, and one of {sorted(wanted)} was wanted"
        if not self.stood(pipeline_id, result["job_id"], state, run_id):
            return f"it says {state} in run {run_id}: {self.timeline(pipeline_id)}"
        if job is None:
            return "there is no such pipeline"
        if state == JobState.RUNNING and job.wanted.stop != "none":
            return f"it says Running, and a stop ({job.wanted.stop}) was asked for"
        if is_calm and not _goes_on(state, job.state):
            return f"it says {state} in run {run_id}, and it is {job.state} in run {job.run_id}"
        return None

    def is_unmade(self, result: dict[str, Any]) -> str | None:
        """Return why the checkpoint that a stop reports was never made; None if it was, or none is reported."""
        claimed = result.get("checkpoint")
        if claimed is None:
            return None
        job = self.job(result["pipeline_id"])
        if job is None:
            return "there is no such pipeline"
        last = job.checkpoints[-1] if job.checkpoints else None
        if last is None or last.epoch != claimed["epoch"] or not last.stopping or last.finish > self.now():
            return f"it claims {claimed}, and the last one is {last}"
        return None

    def stops_by_accident(self) -> list[str]:
        """Return the requests to stop a pipeline that nobody wanted stopped."""
        found = []
        for request in self._sandbox.requests.find("PATCH", "*/pipelines/*"):
            mode = (request.json or {}).get("stop", "none")
            if mode == "none":
                continue
            pipeline_id = request.path.rsplit("/", 1)[-1]
            name = self._names.get(pipeline_id)
            if name is None or self._was_extra(pipeline_id, name):
                continue
            if not self.ledgers[name].covers(request.time_micros):
                found.append(_told(request, mode, name))
        return found

    def _was_extra(self, pipeline_id: str, name: str) -> bool:
        """Whether this was made besides the one that is kept, and is gone: a double that was removed."""
        kept = {pipeline.id for pipeline in self.pipelines(name)}
        return bool(kept) and pipeline_id not in kept


def _goes_on(claimed: str, now: str) -> bool:
    """Whether what was claimed may have become what is now, without anybody's doing."""
    if claimed in TERMINAL_STATES:
        return now == claimed
    # A request of an earlier try that comes in late restarts what runs; that is not untrue to what was claimed.
    return now not in (JobState.STOPPED, JobState.FAILED, JobState.FAILING)


def _told(request: Request, mode: str, name: str) -> str:
    return f"{name}: {request.method} {request.path} (stop: {mode}) at {request.time_micros}"
