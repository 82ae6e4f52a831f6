"""Jobs and their states as Arroyo's API tells of them, for servers 0.15 and 0.16 alike.

Every model is frozen and made by ``from_api`` from the JSON of an answer. Unknown fields are ignored,
fields that only one version sends are optional. Times are microseconds since the epoch, as on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self


class JobState(StrEnum):
    """The states of a job, by their names on the wire.

    A newer server may send a name that is not listed here; :class:`Job` keeps it as a plain string.
    """

    CREATED = "Created"
    COMPILING = "Compiling"
    SCHEDULING = "Scheduling"
    RUNNING = "Running"
    RESCALING = "Rescaling"
    RESTARTING = "Restarting"
    RECOVERING = "Recovering"
    CHECKPOINT_STOPPING = "CheckpointStopping"
    STOPPING = "Stopping"
    FINISHING = "Finishing"
    FAILING = "Failing"
    STOPPED = "Stopped"
    FINISHED = "Finished"
    FAILED = "Failed"


TERMINAL_STATES = frozenset({JobState.STOPPED, JobState.FINISHED, JobState.FAILED})
"""Where a job rests. ``Stopped`` and ``Failed`` can be left by a call, ``Finished`` never."""


class StopMode(StrEnum):
    """How a pipeline is asked to stop (``PATCH /pipelines/{id}``, field ``stop``).

    ``NONE`` asks for the opposite: it clears an earlier request and resumes a stopped pipeline.
    """

    NONE = "none"
    CHECKPOINT = "checkpoint"
    GRACEFUL = "graceful"
    IMMEDIATE = "immediate"
    FORCE = "force"


class CheckpointType(StrEnum):
    """Why a checkpoint was taken (0.16 only)."""

    SCHEDULED = "scheduled"
    STOPPING = "stopping"


def text_of(data: Mapping[str, Any], key: str) -> str:
    """Return a field that must be a string.

    :raises KeyError, TypeError: where it is missing or something else.
    """
    value = data[key]
    if not isinstance(value, str):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a string")
    return value


def number_of(data: Mapping[str, Any], key: str) -> int:
    """Return a field that must be a whole number.

    :raises KeyError, TypeError: where it is missing or something else.
    """
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a number")
    return value


def items_of(data: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list that may be missing.

    :raises TypeError: where it is something else.
    """
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"field {key!r} is {type(value).__name__}, not a list")
    return value


class FailureReason(NamedTuple):
    """Why a job failed, in Arroyo's words.

    :param error: the text; 0.15 calls it ``failure_message``.
    :param domain: whose fault it is, ``user``, ``external`` or ``internal``; None on 0.15.
    """

    error: str
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job: what runs, or ran, for a pipeline.

    :param id: the job's id; a restart without state in worker mode replaces it.
    :param state: the name on the wire; compares equal to a :class:`JobState`.
    :param run_id: rises with each scheduling; 0 before the first.
    :param running_desired: False once a stop was asked, whatever the state says.
    :param pipeline_id: None on 0.15, where a job does not carry it.
    """

    id: str
    state: str
    run_id: int
    running_desired: bool
    created_at_micros: int = 0
    pipeline_id: str | None = None
    start_time_micros: int | None = None
    finish_time_micros: int | None = None
    tasks: int | None = None
    failure: FailureReason | None = None
    # Both may hold secrets, so they stay out of what is logged.
    scheduler_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the job rests in Stopped, Finished or Failed."""
        return self.state in TERMINAL_STATES

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read a job from an answer.

        :raises KeyError, TypeError: where a field that every version sends is missing or of another type.
        """
        failure = None
        if reason := data.get("failure_reason"):
            failure = FailureReason(str(reason.get("error", "")), reason.get("domain"))
        elif message := data.get("failure_message"):
            failure = FailureReason(str(message))
        return cls(
            id=text_of(data, "id"),
            state=text_of(data, "state"),
            run_id=number_of(data, "run_id"),
            running_desired=bool(data.get("running_desired", True)),
            created_at_micros=int(data.get("created_at") or 0),
            pipeline_id=data.get("pipeline_id"),
            start_time_micros=data.get("start_time"),
            finish_time_micros=data.get("finish_time"),
            tasks=data.get("tasks"),
            failure=failure,
            scheduler_config=data.get("scheduler_config") or {},
            env_vars=data.get("env_vars") or {},
        )
