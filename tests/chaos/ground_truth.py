"""What really happened according to the sandbox, and when a stop was wanted."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState
from airflow_provider_arroyo.client.models import Pipeline as ApiPipeline
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.records import Job, Pipeline
from airflow_provider_arroyo.sandbox.request_log import Request


class Reached(NamedTuple):
    """A state that a job reached."""

    pipeline_id: str
    job_id: str
    state: str
    run_id: int


@dataclass
class WantedStops:
    """When a stop of one pipeline was wanted: periods of the sandbox's time, in microseconds.

    A period is open until it is closed.
    """

    periods: list[list[int | None]] = field(default_factory=list)

    def open(self, now: int) -> None:
        """Record that a stop is wanted from now on."""
        self.periods.append([now, None])

    def close(self, now: int) -> None:
        """Record that no stop is wanted from now on."""
        if self.periods and self.periods[-1][1] is None:
            self.periods[-1][1] = now

    def include(self, moment: int) -> bool:
        """Whether a stop was wanted at a moment."""
        return any(
            start is not None and start <= moment and (end is None or moment <= end)
            for start, end in self.periods
        )


class GroundTruth:
    """Records every state of every job of a sandbox, including those of deleted pipelines.

    :param sandbox: the sandbox, still empty.
    """

    def __init__(self, sandbox: ArroyoSandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._reached: dict[str, list[Reached]] = defaultdict(list)
        self._keys: dict[str, str] = {}
        self.wanted_stops: dict[str, WantedStops] = defaultdict(WantedStops)
        """By keys of pipelines."""
        sandbox.engine.on_change.append(self._changed)

    def _changed(self, job: Job, before: str) -> None:
        with self._lock:
            pipeline = job.pipeline
            self._keys[pipeline.id] = key_of(pipeline)
            self._reached[pipeline.id].append(Reached(pipeline.id, job.id, job.state, job.run_id))

    # -- now -------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the sandbox's time, in microseconds since the epoch."""
        return self._sandbox.clock.now_micros()

    def pipelines(self, key: str) -> list[Pipeline]:
        """Return the complete pipelines with a key."""
        self._sandbox.state(key)
        stored = tuple(self._sandbox.store.pipelines.values())
        return [pipeline for pipeline in stored if key_of(pipeline) == key and pipeline.job is not None]

    def job(self, pipeline_id: str) -> Job | None:
        """Return a pipeline's job as it is now."""
        self._sandbox.state(pipeline_id)
        pipeline = self._sandbox.store.pipelines.get(pipeline_id)
        return None if pipeline is None else pipeline.job

    # -- before ------------------------------------------------------------------------------------------------

    def has_reached(self, pipeline_id: str, job_id: str | None, state: str, run_id: int | None) -> bool:
        """Return whether a job ever was in a state in a run."""
        with self._lock:
            return (
                Reached(pipeline_id, str(job_id), state, -1 if run_id is None else run_id)
                in (self._reached[pipeline_id])
            )

    def timeline(self, pipeline_id: str) -> str:
        """Return the states of a pipeline as text."""
        with self._lock:
            return " > ".join(f"{one.state}({one.run_id})" for one in self._reached[pipeline_id])

    # -- violations --------------------------------------------------------------------------------------

    def why_false(self, result: dict[str, Any], wanted: frozenset[str]) -> str | None:
        """Return why a task should not have succeeded; None if it was right to.

        :param result: what the task returned.
        :param wanted: the states that are a success.
        """
        pipeline_id, state, run_id = result["pipeline_id"], result["state"], result["run_id"]
        job = self.job(pipeline_id)
        if state not in wanted:
            return f"its result is {state}; one of {sorted(wanted)} was wanted"
        if not self.has_reached(pipeline_id, result["job_id"], state, run_id):
            return f"its result is {state} in run {run_id}; its states were {self.timeline(pipeline_id)}"
        if job is None:
            return "the pipeline does not exist"
        if state == JobState.RUNNING and job.wanted.stop != "none":
            return f"its result is Running, and a stop ({job.wanted.stop}) had been requested"
        if not _may_become(state, job.state):
            return f"its result is {state} in run {run_id}, and it is {job.state} in run {job.run_id}"
        return None

    def why_unproven(self, result: dict[str, Any]) -> str | None:
        """Return why the checkpoint that a stop reports was not taken; None if it was, or none is reported."""
        reported = result.get("checkpoint")
        if reported is None:
            return None
        job = self.job(result["pipeline_id"])
        if job is None:
            return "the pipeline does not exist"
        last = job.checkpoints[-1] if job.checkpoints else None
        if last is None or last.epoch != reported["epoch"] or not last.stopping or last.finish > self.now():
            return f"its result is {reported}; the last one is {last}"
        return None

    def why_not_taken(self, result: dict[str, Any], since: int) -> str | None:
        """Return why a sensor should not have accepted the checkpoint that it reports; None if it was right to.

        :param since: when it must have finished at the earliest, by the sandbox's clock.
        """
        reported, job = result["checkpoint"], self.job(result["pipeline_id"])
        found = [one for one in (job.checkpoints if job else ()) if one.epoch == reported["epoch"]]
        if not found or not since <= found[0].finish <= self.now():
            return f"its result is {reported}; the sandbox has {found}, and it is {self.now()}"
        return None

    def why_not_measured(self, result: dict[str, Any], stable_for: float) -> str | None:
        """Return why a sensor should not have accepted the metric that it reports; None if it was right to.

        :param stable_for: for how many seconds the metric had to be beyond its bound.
        """
        reported, job = result["metric"], self.job(result["pipeline_id"])
        if job is None or (job.id, job.run_id) != (result["job_id"], result["run_id"]):
            return None  # Arroyo dropped the values when a new run began
        began, at = job.run_started or 0, reported["time_micros"]
        held_seconds = reported["held_seconds"]
        if not began + held_seconds * 1e6 < at <= self.now() or held_seconds < stable_for:
            return f"its result is {reported}; its run began at {began}, and it is {self.now()}"
        return None

    def unwanted_stops(self) -> list[str]:
        """Return the requests to stop a pipeline that should not have been stopped."""
        found = []
        for request in self._sandbox.requests.find("PATCH", "*/pipelines/*"):
            mode = (request.json or {}).get("stop", "none")
            if mode == "none":
                continue
            pipeline_id = request.path.rsplit("/", 1)[-1]
            key = self._keys.get(pipeline_id)
            if key is None or self._was_duplicate(pipeline_id, key):
                continue
            if not self.wanted_stops[key].include(request.time_micros):
                found.append(_described(request, mode, key))
        return found

    def _was_duplicate(self, pipeline_id: str, key: str) -> bool:
        """Return whether this was a duplicate of the one that was kept, and was deleted."""
        kept = {pipeline.id for pipeline in self.pipelines(key)}
        return bool(kept) and pipeline_id not in kept


def _may_become(reported: str, now: str) -> bool:
    """Return whether one state may become another without a request."""
    if reported in TERMINAL_STATES:
        return now == reported
    # A late request of an earlier try may restart the pipeline, so it may be starting again.
    return now not in (JobState.STOPPED, JobState.FAILED, JobState.FAILING)


def key_of(pipeline: Pipeline) -> str:
    """Return the key that a pipeline is counted by: its name, and the namespace of its owner if it has one."""
    stored = ApiPipeline(id=pipeline.id, name=pipeline.name, query=pipeline.query, tags=pipeline.tags)
    label = OwnershipLabel.of(stored)
    return named_in(pipeline.name, label.task.namespace if label else "")


def named_in(name: str, namespace: str) -> str:
    """Return the key of the pipelines of that name in a namespace."""
    return f"{name} in {namespace}" if namespace else name


def _described(request: Request, mode: str, key: str) -> str:
    return f"{key}: {request.method} {request.path} (stop: {mode}) at {request.time_micros}"
