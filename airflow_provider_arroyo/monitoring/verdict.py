"""What a wait came to: a value that a worker, a triggerer and a sensor hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from airflow_provider_arroyo.arroyo.models import FailureReason, Job
from airflow_provider_arroyo.exceptions import ArroyoError, error_from_dict


class Outcome(StrEnum):
    """How a wait stands, or ended."""

    WAITING = "waiting"
    REACHED = "reached"
    FAILED = "failed"
    """The pipeline is ``Failing`` or ``Failed``, and that was not wanted."""
    FINISHED = "finished"
    """The pipeline is ``Finished``, which never leaves, and another state was wanted."""
    STOPPED = "stopped"
    """Somebody stopped the pipeline that was to run."""
    DELETED = "deleted"
    """The pipeline was seen before and is gone."""
    MISSING = "missing"
    """There is no such pipeline, and this wait never saw one."""
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No look succeeded for longer than is tolerated; says nothing about the pipeline."""
    ERROR = "error"
    """A look failed in a way that no waiting mends."""


def job_to_dict(job: Job) -> dict[str, Any]:
    """Return what a wait needs of a job as JSON values."""
    return {
        "id": job.id,
        "state": job.state,
        "run_id": job.run_id,
        "running_desired": job.running_desired,
        "start_time_micros": job.start_time_micros,
        "finish_time_micros": job.finish_time_micros,
        "failure": {"error": job.failure.error, "domain": job.failure.domain} if job.failure else None,
    }


def job_from_dict(data: Mapping[str, Any]) -> Job:
    """Read what :func:`job_to_dict` wrote."""
    failure = data.get("failure")
    return Job(
        id=str(data["id"]),
        state=str(data["state"]),
        run_id=int(data["run_id"]),
        running_desired=bool(data.get("running_desired", True)),
        start_time_micros=data.get("start_time_micros"),
        finish_time_micros=data.get("finish_time_micros"),
        failure=FailureReason(str(failure.get("error", "")), failure.get("domain")) if failure else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a wait stands.

    :param outcome: the verdict itself.
    :param wanted: the states that were wanted.
    :param job: the job as it was last seen; None if it never was.
    :param waited_seconds: how long the wait has lasted.
    :param stood_seconds: for how long the last state has been seen.
    :param restarts: how many new runs the wait saw begin after the first.
    :param unreachable_seconds: how long ago the last look succeeded, while none does; else None.
    :param unreachable_since: when the last look succeeded, seconds since the epoch, while none does.
    :param error: the failure of the last look, if it failed.
    :param limit: name of the argument that the wait's deadline came from.
    :param unchanged: whether the job still shows what stood before the change that was waited for.
    """

    outcome: Outcome
    wanted: tuple[str, ...] = ()
    job: Job | None = None
    waited_seconds: float = 0.0
    stood_seconds: float = 0.0
    restarts: int = 0
    unreachable_seconds: float | None = None
    unreachable_since: float | None = None
    error: ArroyoError | None = None
    limit: str = "timeout"
    unchanged: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the wait has ended."""
        return self.outcome is not Outcome.WAITING

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, to be an event's payload."""
        return {
            "outcome": self.outcome.value,
            "wanted": list(self.wanted),
            "job": job_to_dict(self.job) if self.job else None,
            "waited_seconds": self.waited_seconds,
            "stood_seconds": self.stood_seconds,
            "restarts": self.restarts,
            "unreachable_seconds": self.unreachable_seconds,
            "unreachable_since": self.unreachable_since,
            "error": self.error.to_dict() if self.error else None,
            "limit": self.limit,
            "unchanged": self.unchanged,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote, in this version or another one; unknown fields are ignored.

        :raises ValueError: on anything else, on an outcome that this version does not know, and on a goal that
            was reached by no job.
        """
        try:
            job, error = data.get("job"), data.get("error")
            wanted = data.get("wanted") or ()
            if isinstance(wanted, str):
                wanted = (wanted,)
            verdict = cls(
                outcome=Outcome(data["outcome"]),
                wanted=tuple(str(name) for name in wanted),
                job=job_from_dict(job) if job else None,
                waited_seconds=float(data.get("waited_seconds", 0)),
                stood_seconds=float(data.get("stood_seconds", 0)),
                restarts=int(data.get("restarts", 0)),
                unreachable_seconds=_seconds(data.get("unreachable_seconds")),
                unreachable_since=_seconds(data.get("unreachable_since")),
                error=error_from_dict(error) if error else None,
                limit=str(data.get("limit", "timeout")),
                unchanged=bool(data.get("unchanged", False)),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as err:
            raise ValueError(f"this does not say how a wait stands: {err!r}") from err
        if verdict.outcome is Outcome.REACHED and verdict.job is None:
            raise ValueError("this does not say how a wait stands: its goal was reached by no job")
        return verdict


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
