"""Decides which changes of a pipeline are events, for pipelines that no task waits for.

A separate module, because a DAG file with a watcher imports it, and importing the rest takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_arroyo.client.checks import MIN_CHECKPOINT_INTERVAL
from airflow_provider_arroyo.client.enums import TERMINAL_STATES
from airflow_provider_arroyo.text import duration

DEFAULT_WINDOW = timedelta(minutes=10)
"""The default time in which restarts are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """Which events of a pipeline are reported.

    :param states: terminal states; entering one of them is an event.
    :param max_restarts: how often it may restart by itself within ``restart_window``. One more is an event, and the
        count starts again from zero. Default None: any number.
    :param restart_window: the time in which restarts are counted, default 10 minutes.
    :param max_checkpoint_age: how long no checkpoint may finish while the pipeline should be running. A longer time
        is one event until another checkpoint finishes. Default None: any time.
    :raises ValueError: if nothing could be an event, or ``max_checkpoint_age`` is too short; names the argument.
    """

    states: frozenset[str]
    max_restarts: int | None = None
    restart_window: timedelta = DEFAULT_WINDOW
    max_checkpoint_age: timedelta | None = None

    def __post_init__(self) -> None:
        if wrong := sorted(self.states - TERMINAL_STATES):
            raise ValueError(
                f"states: {', '.join(map(repr, wrong))} is not a terminal state; allowed: "
                f"{', '.join(sorted(TERMINAL_STATES))}"
            )
        if not self.states and self.max_restarts is None and self.max_checkpoint_age is None:
            raise ValueError(
                "states: needs at least one state if neither max_restarts nor max_checkpoint_age is given"
            )
        age = self.max_checkpoint_age
        if age is not None and age < MIN_CHECKPOINT_INTERVAL:
            raise ValueError(
                f"max_checkpoint_age must be 1 second or more, the shortest checkpoint interval, got {age}"
            )

    @property
    def goal(self) -> str:
        """What is watched for, in words."""
        names = sorted(self.states)
        if self.max_restarts is not None:
            names.append(f"more than {self.max_restarts} restarts")
        if self.max_checkpoint_age is not None:
            names.append(f"no checkpoint for {duration(self.max_checkpoint_age.total_seconds())}")
        return " or ".join(names)
