"""The sandbox's data: pipelines, their jobs, and what it needs to run them."""

from __future__ import annotations

import random
import string
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState

from .fault_types import Fault
from .sql import Sink, Source

DEFAULT_INTERVAL_MICROS = 10_000_000
PREVIEW_INTERVAL_MICROS = 86_400_000_000
NEVER = 2**62
"""When a checkpoint finishes that never does."""
FINAL_STATES = (JobState.RESTARTING, JobState.RESCALING, JobState.CHECKPOINT_STOPPING)
"""The states that begin with a final checkpoint."""
INTERVAL_RANGE_MICROS = (1_000_000, 86_400_000_000)


@dataclass(slots=True)
class Wanted:
    """What was requested of a job. The API writes it, and the controller reads it at its next poll."""

    parallelism: int
    interval_micros: int
    stop: str = "none"
    env_vars: dict[str, str] = field(default_factory=dict)
    scheduler_config: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    """How many restarts were requested."""
    restart_force: bool = False
    ignore_state: bool = False


@dataclass(slots=True)
class Checkpoint:
    """A checkpoint; its times are in microseconds, and in the future while it is unfinished."""

    epoch: int
    stopping: bool
    start: int
    operators_done: int
    finish: int
    parallelism: int

    def shifted(self, by: int) -> Checkpoint:
        """Return it with other times."""
        times = (self.start + by, self.operators_done + by, self.finish + by)
        return Checkpoint(self.epoch, self.stopping, *times, self.parallelism)


@dataclass(slots=True)
class Job:
    """A job: its state, and what the engine remembers of it."""

    id: str
    pipeline: Pipeline
    created_at: int
    wanted: Wanted
    state: str = JobState.CREATED.value
    run_id: int = 0
    start_time: int | None = None
    finish_time: int | None = None
    tasks: int | None = None
    failure: tuple[str, str] | None = None
    """The error and its domain."""

    seen: Wanted = field(default_factory=lambda: Wanted(0, 0))
    """The requests that the controller has already accepted."""
    restarted: bool = False
    """Whether it was restarted since its last start. Its next change then restarts it, as on real servers."""
    started_anew: bool = False
    """Whether it was created, resumed, or restarted after a failure, so that its next run sets ``start_time``."""
    entered: int = 0
    """When the state was entered."""
    turn: int = 0
    """Rises with each change of state. Actions that were planned for an earlier turn are dropped."""
    failures: int = 0

    # The current or last run.
    run_started: int | None = None
    run_ended: int | None = None
    measured_until: int | None = None
    """Since when the run has been ending, so that nothing is measured; None: it runs."""
    run_parallelism: int = 0
    checkpointed_micros: int = 0
    """How long the run had lasted when its last checkpoint began."""
    progress_micros: int = 0
    """The position of the sources when the run began."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    next_checkpoint: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    # Injected faults.
    state_before_hold: str | None = None
    """The state in which it continues when it is released; None: it shows its own state."""
    never_starts: bool = False
    kafka_away: bool = False
    picked_up_at: int | None = None
    """When the controller picks it up at the earliest; None: at its next poll."""
    traffic: list[tuple[int, Fault]] = field(default_factory=list)
    """What its metrics show, and since when."""
    flap: tuple[int, int] | None = None
    """How many microseconds each run lasts, and how many runs will still fail."""

    rendered: bytes | None = None

    @property
    def terminal(self) -> bool:
        """Whether it is Stopped, Finished or Failed."""
        return self.state in TERMINAL_STATES

    @property
    def has_endless_checkpoint(self) -> bool:
        """Whether a checkpoint is under way that never finishes, as a source is away."""
        return bool(self.checkpoints) and self.checkpoints[-1].finish == NEVER

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for a final checkpoint that never finishes."""
        return self.state in FINAL_STATES and self.run_started is not None and self.run_ended is None


@dataclass(slots=True)
class Pipeline:
    """A pipeline and its one job; without a job it is a half-made record that only holds its id.

    :param tables: the connection tables that it reads and writes, by id.
    """

    id: str
    name: str
    query: str
    created_at: int
    graph: Mapping[str, Any]
    sources: tuple[Source, ...] = ()
    sinks: tuple[Sink, ...] = ()
    udfs: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    state_url: str | None = None
    preview: bool = False
    tables: list[str] = field(default_factory=list)
    job: Job | None = None
    rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class NotJudged:
    """SQL of which parts were not checked: Arroyo may refuse it.

    :param name: of the pipeline; ``""`` if the SQL was only validated or previewed.
    :param query: the SQL.
    :param what: the parts that were not checked, each in a few words.
    """

    name: str
    query: str
    what: tuple[str, ...]


_ALPHABET = string.digits + string.ascii_letters


def new_id(rng: random.Random, prefix: str) -> str:
    """Return an id as Arroyo makes them: the prefix and ten letters or digits."""
    return f"{prefix}_{''.join(rng.choices(_ALPHABET, k=10))}"


Database: TypeAlias = Literal["sqlite", "postgres"]


class Store:
    """Pipelines, jobs, connections and UDFs, by id.

    :param database: Arroyo's database: on ``sqlite`` records are dated to the whole second, on ``postgres``
        to the microsecond. Lists are sorted by that date, the newest first, and the page after a record holds
        those with an earlier date: on SQLite it can leave out what was created in the same second. On SQLite
        connection profiles may share a name.
    """

    def __init__(self, *, database: Database = "sqlite") -> None:
        self.lock = threading.RLock()
        """Held while anything of a sandbox is read or changed."""
        self._unit = 1_000_000 if database == "sqlite" else 1
        self.has_unique_profiles = database != "sqlite"
        self.pipelines: dict[str, Pipeline] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.udfs: dict[str, dict[str, Any]] = {}

    def dated(self, now_micros: int) -> int:
        """Return a moment as the database stores it."""
        return now_micros // self._unit * self._unit

    def job_of(self, pipeline_id: str) -> Job | None:
        """Return the job of a pipeline; half-made records have none, and are not listed."""
        pipeline = self.pipelines.get(pipeline_id)
        return None if pipeline is None else pipeline.job

    def listed(self) -> list[Job]:
        """Return the jobs of what ``GET /pipelines`` lists: the newest pipeline first, without previews."""
        shown = [job for job in self.jobs() if not job.pipeline.preview]
        return sorted(shown, key=lambda job: -job.pipeline.created_at)

    def jobs(self) -> Iterator[Job]:
        """Return every job, those of previews included."""
        return (item.job for item in list(self.pipelines.values()) if item.job is not None)

    def consumers(self, table_id: str) -> int:
        """Return how many pipelines use a connection table."""
        return sum(table_id in pipeline.tables for pipeline in self.pipelines.values())
