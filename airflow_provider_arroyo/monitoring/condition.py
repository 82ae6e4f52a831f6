"""A condition other than a state: what is read about a job, and what a wait knows about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from airflow_provider_arroyo.client.wire import JsonValue, from_json

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job

T = TypeVar("T")


class Detail(StrEnum):
    """What is read about a job besides its state, as messages name it."""

    CHECKPOINTS = "checkpoints"
    METRICS = "metrics"


class Reading(NamedTuple):
    """Details of a job, as read once.

    :param value: as the client returns it, or as the condition converts it.
    :param server_time: when it was read, by the server's clock, seconds since the epoch; None if unknown.
    """

    value: Any
    server_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(JsonValue):
    """What a wait knows about its condition.

    :param facts: what is added to the task's result, JSON values; None until the condition is true.
    :param seen: what was last read, in words that follow "It" or a pipeline's name; None before the first reading.
    :param news: what has changed, for the log; None if nothing has.
    :param memory: what the condition remembers between readings, JSON values.
    :param is_unsettled: whether the condition seems true by this reading, so that the next one may prove it.
    """

    facts: Mapping[str, Any] | None = None
    seen: str | None = None
    news: str | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    is_unsettled: bool = False

    def recall(self, kind: type[T]) -> T | None:
        """Return the memory as a dataclass; None if there is none, or another version wrote it."""
        try:
            return from_json(kind, self.memory)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(JsonValue, ABC):
    """The base class of the conditions. They are frozen, and cross processes as JSON in a :class:`.WaitPlan`."""

    detail: ClassVar[Detail]
    """Which details are read for it."""
    ended_in: ClassVar[frozenset[str]]
    """The states in which it can no longer become true, unless a request changes the state."""
    read_in: ClassVar[frozenset[str] | None] = None
    """The states in which the details can be read; None: any, and once more after the pipeline has ended."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """The goal, in words that follow "waiting for" or precede "was wanted"."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to check if it does not become true in time: a sentence without its full stop."""

    @abstractmethod
    def check(self, before: Finding, job: Job, reading: Reading, now: float) -> Finding:
        """Return the finding after a reading.

        :param before: the finding before it.
        :param job: the job when the reading was requested.
        :param reading: what was read.
        :param now: when it was received, seconds since the epoch by the waiter's clock.
        :raises ArroyoError: if the condition can never become true on this server or pipeline; ends the wait.
        """
