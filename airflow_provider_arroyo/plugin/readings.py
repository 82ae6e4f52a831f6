"""What was last read about one pipeline besides the list, part by part, and which parts are due. No I/O.

Parts are independent: one that cannot be read does not affect the others, and is requested less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import Job, JobState, PipelineGraph
from airflow_provider_arroyo.plugin import details
from airflow_provider_arroyo.plugin.details import Checkpoints
from airflow_provider_arroyo.plugin.series import Measured

LIST_SECONDS = 5.0
"""How long a part is kept for the list before it is read again, in seconds."""

MAX_IN_ROUND = 2
"""How many parts are read for a pipeline's own page after each fetch of the list."""

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
    :param checkpoints: its last checkpoints; None before they were read.
    :param errors: its last errors without secrets, newest first.
    :param checkpoints_at: when its checkpoints were read, by the server's clock, seconds since the epoch.
    :param sizes: the bytes of its checkpoints by epoch; None if the server does not tell.
    :param graph: the nodes of its graph with their shown names; None before its own page asked for its definition.
    :param described_run: the run in which it was described; None before that.
    """

    job_id: str
    parts: dict[Part, Reading] = field(default_factory=lambda: {part: Reading() for part in Part})
    measured: Measured | None = None
    checkpoints: Checkpoints | None = None
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
        listed = self.checkpoints.newest if self.checkpoints else ()
        return next(
            (one.epoch for one in reversed(listed) if one.is_finished and one.epoch not in self.sizes), None
        )

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
        listed = {one.epoch for one in self.checkpoints.newest} if self.checkpoints else set()
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
            "checkpoint": self.checkpoints.last if self.checkpoints else None,
            "rates": details.rates(self.measured) if self.measured and not job.is_terminal else None,
            "error": details.error_to_json(error) if error else None,
        }


def may_have_errors(job: Job, restarts: int) -> bool:
    """Return whether the last error of a job is related to its current state."""
    return job.state in _STATES_WITH_ERRORS or restarts > 0
