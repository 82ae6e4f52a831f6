"""What the sandbox holds, in the order in which real servers list it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from .records import Job, Pipeline

Database: TypeAlias = Literal["sqlite", "postgres"]


class Store:
    """Pipelines, jobs, connections and UDFs, by id.

    :param database: Arroyo's database: on ``sqlite`` records are dated to the whole second, on ``postgres``
        to the microsecond. Lists are sorted by that date, the newest first, and the page after a record holds
        those with an earlier date: on SQLite it can leave out what was created in the same second.
    """

    def __init__(self, *, database: Database = "sqlite") -> None:
        self.lock = threading.RLock()
        """Held while anything of a sandbox is read or changed."""
        self._unit = 1_000_000 if database == "sqlite" else 1
        self._sequence = 0
        self.pipelines: dict[str, Pipeline] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.udfs: dict[str, dict[str, Any]] = {}
        self._listed: list[Pipeline] | None = None

    def dated(self, now_micros: int) -> int:
        """Return the moment as the database stores it."""
        return now_micros // self._unit * self._unit

    def next_sequence(self) -> int:
        """Return a number that rises with each record."""
        self._sequence += 1
        return self._sequence

    def continue_sequence(self, last: int) -> None:
        """Give the next record a number above this one."""
        self._sequence = max(self._sequence, last)

    def add(self, pipeline: Pipeline) -> None:
        """Keep a pipeline, or sort it in again after it got another job."""
        self.pipelines[pipeline.id] = pipeline
        self._listed = None

    def remove(self, pipeline: Pipeline) -> None:
        """Forget a pipeline and its job."""
        self.pipelines.pop(pipeline.id, None)
        pipeline.job = None
        self._listed = None

    def whole(self, pipeline_id: str) -> Pipeline | None:
        """Return a pipeline that has a job: half-made records are shown by nothing."""
        pipeline = self.pipelines.get(pipeline_id)
        return pipeline if pipeline is not None and pipeline.job is not None else None

    def listed(self) -> list[Pipeline]:
        """Return what ``GET /pipelines`` lists: the newest first, without previews and half-made records."""
        if self._listed is None:
            shown = [item for item in self.pipelines.values() if item.job is not None and not item.preview]
            self._listed = sorted(shown, key=lambda item: (-item.created_at, item.sequence))
        return self._listed

    def listed_jobs(self) -> list[Job]:
        """Return what ``GET /jobs`` lists, in its order."""
        jobs = [item.job for item in self.listed() if item.job is not None]
        return sorted(jobs, key=lambda job: (-job.created_at, job.sequence))

    def jobs(self) -> Iterator[Job]:
        """Return every job, those of previews included."""
        return (item.job for item in list(self.pipelines.values()) if item.job is not None)

    def consumers(self, table_id: str) -> int:
        """Return how many pipelines use a connection table."""
        return sum(table_id in pipeline.tables for pipeline in self.pipelines.values())
