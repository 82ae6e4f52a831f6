"""What was last read about one pipeline besides the list: its metrics, checkpoints and errors, and which are due.

No I/O. These parts are independent: one that cannot be read does not affect the others, and is requested less and
less often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.details import Checkpoint, JobError
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.models import Job, PipelineGraph
from airflow_provider_arroyo.plugin.facts import Facts, seconds
from airflow_provider_arroyo.plugin.metrics import Measured

LIST_SECONDS = 5.0
"""How long a part is kept for the list before it is read again, in seconds."""

MAX_IN_ROUND = 2
"""How many parts are read for a pipeline's own page after each fetch of the list."""

MAX_CHECKPOINTS = 60
MAX_ERRORS = 20
_MAX_TEXT = 1000
_MAX_DETAILS = 2000
_MAX_WORD = 100
_MAX_REST_SECONDS = 60.0
_STATES_WITH_ERRORS = frozenset({JobState.FAILED, JobState.FAILING, JobState.RECOVERING, JobState.RESTARTING})


class Part(StrEnum):
    """A part, which one request reads."""

    METRICS = "metrics"
    CHECKPOINTS = "checkpoints"
    ERRORS = "errors"


_PAGE_SECONDS = {Part.METRICS: 0.0, Part.CHECKPOINTS: 5.0, Part.ERRORS: 8.0}
"""How long a part is kept for a pipeline's own page, in seconds. The metrics are read in every round."""


class _Of(NamedTuple):
    """The job and run that a part was read for."""

    job_id: str
    state: str
    run_id: int

    @classmethod
    def job(cls, job: Job) -> _Of:
        return cls(job.id, job.state, job.run_id)


@dataclass(slots=True)
class Reading:
    """When a part was read, and with what result.

    :param of: the job and run that it was last read for; None before that.
    :param tried_at: when it was last requested, by a monotonic clock.
    :param rest_seconds: how much longer than usual to pause, because it failed or takes long.
    :param failures: how often it has failed since it was last read.
    :param problem: why it could not be read the last time; None if it could.
    """

    of: _Of | None = None
    tried_at: float = float("-inf")
    rest_seconds: float = 0.0
    failures: int = 0
    problem: str | None = None


@dataclass(slots=True)
class Readings:
    """What was read about a pipeline.

    :param job_id: the job.
    :param parts: when each part was read, and with what result.
    :param measured: its metrics.
    :param checkpoints: its last checkpoints, oldest first; None before they were read.
    :param errors: its last errors without secrets, newest first.
    :param checkpoints_at: when its checkpoints were read, by the server's clock, seconds since the epoch.
    :param sizes: the bytes of its checkpoints by epoch; None if the server does not tell.
    :param graph: the nodes of its graph with their shown names; None before its own page asked for its definition.
    :param described_run: the run in which it was described; None before that.
    """

    job_id: str
    parts: dict[Part, Reading] = field(default_factory=lambda: {part: Reading() for part in Part})
    measured: Measured | None = None
    checkpoints: tuple[Checkpoint, ...] | None = None
    errors: tuple[JobError, ...] = ()
    checkpoints_at: float = 0.0
    sizes: dict[int, int | None] = field(default_factory=dict)
    graph: PipelineGraph | None = None
    described_run: int | None = None

    def due_for_list(self, job: Job, restarts: int, now: float) -> list[Part]:
        """Return the parts to read for the list.

        :param job: the pipeline's job.
        :param restarts: how many of its restarts were seen.
        :param now: by the monotonic clock.
        """
        wanted = [Part.CHECKPOINTS]
        if not job.is_terminal:
            wanted.append(Part.METRICS)
        if may_have_errors(job, restarts):
            wanted.append(Part.ERRORS)
        return [part for part in wanted if self._overdue(part, LIST_SECONDS, job, now) is not None]

    def due_for_page(self, job: Job, now: float) -> list[Part]:
        """Return the parts to read for the pipeline's own page: all at first, then a few in each round.

        :param job, now: see :meth:`due_for_list`.
        """
        overdue = {part: self._overdue(part, _PAGE_SECONDS[part], job, now) for part in Part}
        due = [part for part in Part if overdue[part] is not None]
        if all(reading.tried_at == float("-inf") for reading in self.parts.values()):
            return due
        # The metrics are due in every round; the other parts take turns.
        due.sort(key=lambda part: (part is not Part.METRICS, -(overdue[part] or 0.0)))
        return due[:MAX_IN_ROUND]

    def _overdue(self, part: Part, period: float, job: Job, now: float) -> float | None:
        """Return for how long a part has been due; None if it is not."""
        reading = self.parts[part]
        # A job that has ended does not change any more.
        if job.is_terminal and reading.of == _Of.job(job) and reading.problem is None:
            return None
        overdue = now - reading.tried_at - period - reading.rest_seconds
        return overdue if overdue >= 0 else None

    def next_size(self) -> int | None:
        """Return the epoch of the newest finished checkpoint whose size is unknown; None if all are known."""
        listed = reversed(self.checkpoints or ())
        return next((one.epoch for one in listed if one.is_finished and one.epoch not in self.sizes), None)

    def succeeded(self, part: Part, job: Job, took_seconds: float) -> None:
        """Record that a part was read. A part that takes long, such as a large graph, is read less often."""
        reading = self.parts[part]
        reading.of, reading.problem, reading.failures = _Of.job(job), None, 0
        reading.rest_seconds = min(20 * max(0.0, took_seconds - 0.5), _MAX_REST_SECONDS)

    def failed(self, part: Part, problem: str) -> None:
        """Record why a part could not be read."""
        reading = self.parts[part]
        reading.problem = problem
        reading.failures += 1
        reading.rest_seconds = min(2.0 ** min(reading.failures, 6), _MAX_REST_SECONDS)

    def take_size(self, epoch: int, size_bytes: int | None) -> None:
        """Record the size of a checkpoint; the sizes of checkpoints that are no longer listed are dropped."""
        self.sizes[epoch] = size_bytes
        listed = {one.epoch for one in self.checkpoints or ()}
        self.sizes = {epoch: size for epoch, size in self.sizes.items() if epoch in listed}

    @property
    def problems(self) -> list[tuple[Part, str]]:
        """The parts that could not be read the last time, with the reasons."""
        return [
            (part, reading.problem) for part, reading in self.parts.items() if reading.problem is not None
        ]

    def summary(self, job: Job, restarts: int) -> dict[str, Any]:
        """Return what the list shows of it.

        :param job, restarts: see :meth:`due_for_list`.
        """
        error = self.errors[0] if self.errors and may_have_errors(job, restarts) else None
        return {
            "checkpoint": last_checkpoint(self.checkpoints or ()),
            "rates": self.measured.latest() if self.measured and not job.is_terminal else None,
            "error": error_to_json(error) if error else None,
            "unread": {
                part: reading.problem or "" for part, reading in self.parts.items() if reading.of is None
            },
        }


def may_have_errors(job: Job, restarts: int) -> bool:
    """Return whether the last error of a job is related to its current state."""
    return job.state in _STATES_WITH_ERRORS or restarts > 0


def kept_checkpoints(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Return the part of a job's checkpoints that is kept: the last ones, without their events.

    :param checkpoints: oldest first.
    """
    return tuple(replace(one, events=(), backend="") for one in checkpoints[-MAX_CHECKPOINTS:])


def last_checkpoint(checkpoints: Sequence[Checkpoint]) -> dict[str, Any] | None:
    """Return the last finished checkpoint, and since when another one is in progress; None if there is none.

    :param checkpoints: oldest first.
    """
    finished = next((one for one in reversed(checkpoints) if one.finish_time_micros is not None), None)
    last = checkpoints[-1] if checkpoints else None
    under_way = seconds(last.start_time_micros) if last is not None and not last.is_finished else None
    if finished is None or finished.finish_time_micros is None:
        return {"epoch": None, "at": None, "seconds": None, "under_way_since": under_way} if last else None
    took = seconds(finished.finish_time_micros) - seconds(finished.start_time_micros)
    return {
        "epoch": finished.epoch,
        "at": seconds(finished.finish_time_micros),
        "seconds": round(max(0.0, took), 3),
        "under_way_since": under_way,
    }


def checkpoint_to_json(checkpoint: Checkpoint, size_bytes: int | None) -> dict[str, Any]:
    """Return a checkpoint as the pages show it.

    :param checkpoint: the checkpoint.
    :param size_bytes: what all operators wrote to it; None if unknown.
    """
    finished = checkpoint.finish_time_micros
    return {
        "epoch": checkpoint.epoch,
        "type": checkpoint.checkpoint_type and checkpoint.checkpoint_type[:_MAX_WORD],
        "began": seconds(checkpoint.start_time_micros),
        "finished": None if finished is None else seconds(finished),
        "bytes": size_bytes,
    }


def shown_errors(errors: Sequence[JobError], facts: Facts) -> tuple[JobError, ...]:
    """Return the errors of a job without secrets.

    :param errors: newest first.
    :param facts: the pipeline's facts.
    """
    return tuple(
        replace(
            error,
            operator_id=error.operator_id[:_MAX_TEXT],
            error_domain=error.error_domain and error.error_domain[:_MAX_WORD],
            message=facts.shown(error.message, _MAX_TEXT),
            details=facts.shown(error.details, _MAX_DETAILS),
        )
        for error in errors[:MAX_ERRORS]
    )


def error_to_json(error: JobError) -> dict[str, Any]:
    """Return an error as the pages show it."""
    return {
        "at": seconds(error.created_at_micros),
        "operator": error.operator_id,
        "message": error.message,
        "details": error.details,
        "domain": error.error_domain,
        "task": error.task_index,
    }
