"""What a wait is for: the goal, what stood before it, and its limits. Plain values that cross processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from airflow_provider_arroyo.arroyo.models import Job, JobState

PLAN_VERSION = 1
"""Raised when an older reader would misunderstand a plan; new optional fields do not raise it."""

FIRST_LOOK_SECONDS = 2.0
"""What the first look may take even when its wait's time is up: a wait always looks once."""

LOOK_SECONDS = 60.0
"""What a look may take at most, with all its retries, where the server takes connections and does not answer."""

TROUBLE_SECONDS = 1.0
"""A look that was tried again for so long may have met a server that was started again meanwhile; a hiccup of a
gateway is shorter, and on a bad network so frequent that nothing would ever be believed."""

_STATES = {state.value for state in JobState}


def was_troubled(retries: int, seconds: float) -> bool:
    """Return whether a look that succeeded may have met a server that was started again meanwhile.

    :param retries: how often it was tried again.
    :param seconds: how long it took.
    """
    return retries > 0 and seconds >= TROUBLE_SECONDS


class UnreadablePlanError(ValueError):
    """A wait's arguments come from another version of this package and cannot be read."""


def check_states(names: Iterable[str], argument: str) -> frozenset[str]:
    """Return the names as a set of Arroyo's state names.

    :param names: wire strings or :class:`JobState`; at least one.
    :param argument: what to call them in the error.
    :raises ValueError: on no name, or one that Arroyo does not have.
    """
    if isinstance(names, str):
        names = [names]
    wanted = frozenset(str(name) for name in names)
    unknown = sorted(wanted - _STATES)
    if unknown or not wanted:
        allowed = ", ".join(JobState)
        what = f"{', '.join(map(repr, unknown))} is not a state of Arroyo" if unknown else "needs a state"
        raise ValueError(f"{argument}: {what}; allowed: {allowed}")
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What stood when a change was asked for, so that the old state is not taken for its effect.

    :param job_id, run_id, state: the job as it was seen before the call.
    :param asked_at: when the call was made, seconds since the epoch by the waiter's clock.
    """

    job_id: str
    run_id: int
    state: str
    asked_at: float

    def __post_init__(self) -> None:
        """Refuse a moment that no clock shows.

        :raises ValueError: if ``asked_at`` is not finite.
        """
        if not math.isfinite(self.asked_at):
            raise ValueError(f"asked_at: {self.asked_at} is no moment")

    @classmethod
    def of(cls, job: Job, *, asked_at: float) -> Self:
        """Take the baseline from the job as it was seen before the call."""
        return cls(job_id=job.id, run_id=job.run_id, state=job.state, asked_at=asked_at)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "job_id": self.job_id,
            "run_id": self.run_id,
            "state": self.state,
            "asked_at": self.asked_at,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            job_id=_text(data, "job_id"),
            run_id=int(data["run_id"]),
            state=_text(data, "state"),
            asked_at=float(data["asked_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPlan:
    """The goal and the limits of one wait.

    :param pipeline_id: the pipeline.
    :param targets: names of the wanted states; any of them ends the wait.
    :param deadline: when the wait ends at the latest, seconds since the epoch.
    :param limit: name of the argument that the deadline comes from, default ``timeout``.
    :param stable_for: how long a wanted state that is not terminal must have lasted in one run, default 0.
    :param finished_is_success: whether ``Finished`` ends a wait for another state well; default it is an
        error, since ``Finished`` never leaves.
    :param stopped_is_final: whether ``Stopped`` ends a wait for another state as an error; default it goes
        on, since somebody may resume the pipeline.
    :param baseline: what stood before the change whose effect is waited for; None where nothing was changed.
    :param outage_tolerance: for how long no look may succeed before the wait fails, default 10 minutes.
    :param stale_grace: how long the baseline's own terminal state must have stood unchanged before it is
        believed, default 5 seconds (ten of the controller's glances).
    :param heartbeat: how often a wait without changes says that it goes on, default 5 minutes.
    """

    pipeline_id: str
    targets: frozenset[str]
    deadline: float
    limit: str = "timeout"
    stable_for: timedelta = timedelta(0)
    finished_is_success: bool = False
    stopped_is_final: bool = False
    baseline: Baseline | None = None
    outage_tolerance: timedelta = timedelta(minutes=10)
    stale_grace: timedelta = timedelta(seconds=5)
    heartbeat: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        """Refuse a plan whose wait could not end, or could not end well.

        :raises ValueError: naming the argument.
        """
        if not self.pipeline_id:
            raise ValueError("pipeline_id: needs the pipeline's id")
        if not self.targets:
            raise ValueError("targets: needs a state")
        if not math.isfinite(self.deadline):
            raise ValueError(f"deadline: {self.deadline} is no moment; every wait ends")
        for name in ("stable_for", "outage_tolerance", "stale_grace", "heartbeat"):
            if getattr(self, name) < timedelta(0):
                raise ValueError(f"{name}: {getattr(self, name)} is negative; allowed: 0 and more")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, to be a trigger's argument."""
        return {
            "version": PLAN_VERSION,
            "pipeline_id": self.pipeline_id,
            "targets": sorted(self.targets),
            "deadline": self.deadline,
            "limit": self.limit,
            "stable_for_seconds": self.stable_for.total_seconds(),
            "finished_is_success": self.finished_is_success,
            "stopped_is_final": self.stopped_is_final,
            "baseline": self.baseline.to_dict() if self.baseline else None,
            "outage_tolerance_seconds": self.outage_tolerance.total_seconds(),
            "stale_grace_seconds": self.stale_grace.total_seconds(),
            "heartbeat_seconds": self.heartbeat.total_seconds(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Self:
        """Read what :meth:`to_dict` wrote, in this version or an older one; unknown fields are ignored.

        :raises UnreadablePlanError: when it was written by a newer version, or lacks what every version has.
        """
        try:
            if data is None:
                raise TypeError("it is missing")
            version = int(data.get("version", PLAN_VERSION))
            if version > PLAN_VERSION:
                raise ValueError(f"it has version {version}, this package reads up to {PLAN_VERSION}")
            baseline, targets = data.get("baseline"), data["targets"]
            if isinstance(targets, str):
                targets = [targets]
            return cls(
                pipeline_id=_text(data, "pipeline_id"),
                targets=frozenset(str(name) for name in targets),
                deadline=float(data["deadline"]),
                limit=str(data.get("limit", "timeout")),
                stable_for=timedelta(seconds=float(data.get("stable_for_seconds", 0))),
                finished_is_success=_flag(data, "finished_is_success"),
                stopped_is_final=_flag(data, "stopped_is_final"),
                baseline=Baseline.from_dict(baseline) if baseline else None,
                outage_tolerance=timedelta(seconds=float(data.get("outage_tolerance_seconds", 600))),
                stale_grace=timedelta(seconds=float(data.get("stale_grace_seconds", 5))),
                heartbeat=timedelta(seconds=float(data.get("heartbeat_seconds", 300))),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as err:
            raise UnreadablePlanError(
                f"cannot read what this wait is for: {err!r}. It was written by another version of "
                "airflow-provider-arroyo; clear the task to start the wait anew."
            ) from err


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {type(value).__name__}, not a string")
    return value


def _flag(data: Mapping[str, Any], key: str) -> bool:
    value = data.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is {type(value).__name__}, neither true nor false")
    return value
