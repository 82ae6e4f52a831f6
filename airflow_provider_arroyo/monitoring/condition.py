"""A condition other than a state: what is read of a job besides its state, and what a wait knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_arroyo.client.wire import JsonValue

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job


class Detail(StrEnum):
    """What is read of a job besides its state, as it is called in messages."""

    CHECKPOINTS = "checkpoints"
    METRICS = "metrics"


class Reading(NamedTuple):
    """What was read of a job besides its state.

    :param value: as the client returns it, or what the condition makes of that.
    :param server_time: when that was, by the server's clock, seconds since the epoch; None where it did not say.
    """

    value: Any
    server_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(JsonValue):
    """What a wait knows of its condition.

    :param facts: what the task's result adds, JSON values; None until the condition holds.
    :param seen: what was read last, in words that follow "It" or a pipeline's name; None before that.
    :param news: what has changed in that, for the log; None where nothing has.
    :param memory: what the condition remembers from one reading to the next, JSON values.
    :param is_unsettled: whether it holds as far as this reading shows, so that the next one may prove it.
    """

    facts: Mapping[str, Any] | None = None
    seen: str | None = None
    news: str | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    is_unsettled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(JsonValue, ABC):
    """The base of the conditions. They are frozen, and cross processes as JSON within a :class:`.WaitPlan`."""

    detail: ClassVar[Detail]
    """What it is checked against."""
    ended_in: ClassVar[frozenset[str]]
    """The states in which it cannot come true any more, unless a request takes the pipeline out of them."""
    read_in: ClassVar[frozenset[str] | None] = None
    """The states in which there is something to read; None: any, also a last time after it has ended."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """What is waited for, in words that follow "waiting for" or precede "was wanted"."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to check where it does not come true in time: a sentence without its end."""

    @abstractmethod
    def check(self, before: Finding, job: Job, reading: Reading, now: float) -> Finding:
        """Return what is known after a reading.

        :param before: what was known before it.
        :param job: the job, as it was when the reading was requested.
        :param now: when it was received, seconds since the epoch by the waiter's clock.
        :raises ArroyoError: where the condition can never come true on this server or pipeline; ends the wait.
        """
