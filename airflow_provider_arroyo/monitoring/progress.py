"""What a wait remembers between looks, and takes along from one process to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, error_from_dict
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.verdict import job_from_dict, job_to_dict


@dataclass(slots=True)
class Progress:
    """The memory of one wait. Moments are seconds since the epoch, and none is later than ``now``.

    :param started_at: when the wait began.
    :param now: the last moment that the wait was told.
    :param answers_since: since when Arroyo has answered without an outage; before the first one, when the
        change was asked for.
    :param said_at: when the log was last told something.
    :param job: the job as it was last seen.
    :param state_since: when its state and run were first seen.
    :param held_since: since when a wanted state has been seen in one unbroken run; None while it is not.
    :param left_baseline: whether another state than the baseline's was seen.
    :param restarts: how many new runs the wait saw begin.
    :param looked_at: when a look last succeeded.
    :param outage_since: when a look last succeeded, or the wait began, while looks fail; else None.
    :param last_error: how the last look failed, if it did.
    """

    started_at: float
    now: float
    answers_since: float
    said_at: float
    job: Job | None = None
    state_since: float = 0.0
    held_since: float | None = None
    left_baseline: bool = False
    restarts: int = 0
    looked_at: float | None = None
    outage_since: float | None = None
    last_error: ArroyoError | None = None

    @classmethod
    def begin(cls, plan: WaitPlan, now: float) -> Self:
        """Return the memory of a wait that has seen nothing yet."""
        asked_at = plan.baseline.asked_at if plan.baseline is not None else now
        return cls(started_at=now, now=now, answers_since=min(asked_at, now), said_at=now)

    def follow(self, now: float) -> None:
        """Follow the clock; where it stepped back, what was seen later than now counts as seen now."""
        if now < self.now:
            self.started_at = min(self.started_at, now)
            self.answers_since = min(self.answers_since, now)
            self.said_at = min(self.said_at, now)
            self.state_since = min(self.state_since, now)
            self.held_since = _earlier(self.held_since, now)
            self.looked_at = _earlier(self.looked_at, now)
            self.outage_since = _earlier(self.outage_since, now)
        self.now = now

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "started_at": self.started_at,
            "now": self.now,
            "answers_since": self.answers_since,
            "said_at": self.said_at,
            "job": job_to_dict(self.job) if self.job else None,
            "state_since": self.state_since,
            "held_since": self.held_since,
            "left_baseline": self.left_baseline,
            "restarts": self.restarts,
            "looked_at": self.looked_at,
            "outage_since": self.outage_since,
            "error": self.last_error.to_dict() if self.last_error else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], plan: WaitPlan, now: float) -> Self:
        """Read what :meth:`to_dict` wrote; where it is damaged, it is as if nothing had been seen yet.

        :param data: the memory of the process that waited before, in this version or another one.
        :param plan: what is waited for.
        :param now: by the clock of this process, which may be behind that of the other.
        """
        new = cls.begin(plan, now)
        try:
            # While nobody looked, as while no triggerer ran, Arroyo was not seen to be away.
            unwatched = now - _moment(data, "now", now, now)
            job, error = data.get("job"), data.get("error")
            return cls(
                started_at=_moment(data, "started_at", now, new.started_at),
                now=now,
                answers_since=_moment(data, "answers_since", now, new.answers_since),
                said_at=_moment(data, "said_at", now, now),
                job=job_from_dict(job) if job else None,
                state_since=_moment(data, "state_since", now, now),
                held_since=_moment_or_none(data, "held_since", now),
                left_baseline=_flag(data, "left_baseline"),
                restarts=int(data.get("restarts", 0)),
                looked_at=_later(_moment_or_none(data, "looked_at", now), unwatched, now),
                outage_since=_later(_moment_or_none(data, "outage_since", now), unwatched, now),
                last_error=error_from_dict(error) if error else None,
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return new


def _earlier(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


def _later(moment: float | None, seconds: float, now: float) -> float | None:
    return None if moment is None else min(moment + seconds, now)


def _moment(data: Mapping[str, Any], key: str, now: float, default: float) -> float:
    moment = _moment_or_none(data, key, now)
    return default if moment is None else moment


def _moment_or_none(data: Mapping[str, Any], key: str, now: float) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is no moment: {value!r}")
    return min(float(value), now)


def _flag(data: Mapping[str, Any], key: str) -> bool:
    value = data.get(key, False)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is neither true nor false: {value!r}")
    return value
