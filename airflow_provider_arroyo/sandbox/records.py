"""What the sandbox keeps: pipelines, their jobs, and what it needs to know to run them."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_arroyo.client.models import TERMINAL_STATES, JobState

from .fault_types import Traffic

DEFAULT_INTERVAL_MICROS = 10_000_000
PREVIEW_INTERVAL_MICROS = 86_400_000_000
INTERVAL_RANGE_MICROS = (1_000_000, 86_400_000_000)


@dataclass(slots=True)
class Source:
    """A source of a pipeline, as far as it decides how long the pipeline runs.

    :param rate: rows a second; None where it is not known.
    :param count: rows until it ends; None: it never ends.
    :param missing_path: the file that it cannot open.
    """

    name: str
    connector: str
    rate: float | None = None
    count: int | None = None
    missing_path: str | None = None

    @property
    def duration_micros(self) -> int | None:
        """How long it runs from its first row to its last; None: for ever."""
        if self.count is None:
            return None
        return int(self.count / self.rate * 1_000_000) if self.rate else 0


@dataclass(slots=True)
class Wanted:
    """What was asked of a job: the API writes it, the controller reads it at its next poll."""

    parallelism: int
    interval_micros: int
    stop: str = "none"
    env_vars: dict[str, str] = field(default_factory=dict)
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    """How often a restart was asked for."""
    restart_force: bool = False
    ignore_state: bool = False


@dataclass(slots=True)
class Checkpoint:
    """A checkpoint, with its times in microseconds; of one that is under way some lie in the future."""

    epoch: int
    stopping: bool
    start: int
    operators_done: int
    finish: int
    parallelism: int


@dataclass(slots=True)
class Job:
    """A job: its state, and what the engine remembers of it."""

    id: str
    pipeline: Pipeline
    created_at: int
    sequence: int
    wanted: Wanted
    state: str = JobState.CREATED.value
    run_id: int = 0
    start_time: int | None = None
    finish_time: int | None = None
    tasks: int | None = None
    failure: tuple[str, str] | None = None
    """The error and its domain."""

    seen: Wanted = field(default_factory=lambda: Wanted(0, 0))
    """What the controller has taken over of what is wanted."""
    restarted: bool = False
    """It was restarted since it was last started: a rescale then shows as a restart, on real servers too."""
    started_anew: bool = False
    """It was created, resumed, or restarted after a failure: its next run sets ``start_time``."""
    entered: int = 0
    """When the state was entered."""
    turn: int = 0
    """Rises with each change of state: what was planned in an earlier turn is void."""
    failures: int = 0

    # The current or last run.
    run_started: int | None = None
    run_ended: int | None = None
    measured_until: int | None = None
    """Since when it has been ending, so that nothing is measured; None: it runs."""
    run_parallelism: int = 0
    checkpointed_micros: int = 0
    """How long the run had lasted when its last checkpoint began."""
    progress_micros: int = 0
    """How far the sources had come when the run began."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    next_checkpoint: int | None = None
    checkpoint_until: int | None = None
    """Until when the last checkpoint is under way, by the server's clock as it is now; None: it is finished."""
    errors: list[dict[str, Any]] = field(default_factory=list)

    # Injected faults.
    held: bool = False
    """It shows a state from outside until it is released."""
    state_before_hold: str = ""
    never_starts: bool = False
    kafka_away: bool = False
    picked_up_at: int | None = None
    """The controller does not pick it up earlier; None: at its next poll."""
    traffic: list[tuple[int, Traffic]] = field(default_factory=list)
    """What its metrics show from which moment on."""
    flap: tuple[int, int] | None = None
    """How many microseconds each run lasts, and how many runs are still to fail."""

    rendered: bytes | None = None

    @property
    def terminal(self) -> bool:
        """Whether it is Stopped, Finished or Failed."""
        return self.state in TERMINAL_STATES


@dataclass(slots=True)
class Pipeline:
    """A pipeline and its one job; without a job it is a half-made record that only holds its id.

    :param columns: the columns of the rows that a preview outputs.
    :param tables: the connection tables that it reads and writes, by id.
    """

    id: str
    name: str
    query: str
    created_at: int
    sequence: int
    graph: Mapping[str, Any]
    sources: tuple[Source, ...] = ()
    sinks: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    udfs: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    state_url: str | None = None
    preview: bool = False
    tables: frozenset[str] = frozenset()
    job: Job | None = None
    rendered: bytes | None = None


_ALPHABET = string.digits + string.ascii_letters


def new_id(rng: random.Random, prefix: str) -> str:
    """Return an id as Arroyo makes them: the prefix and ten letters or digits."""
    return f"{prefix}_{''.join(rng.choices(_ALPHABET, k=10))}"
