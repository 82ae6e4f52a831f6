"""Counts what happens in a client, for Airflow's metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(slots=True, kw_only=True)
class Counts:
    """Counters of a client, read at the end of a task.

    :param retries: requests that failed and were repeated.
    :param duplicates_removed: pipelines that were deleted because they had been created twice.
    """

    retries: int = 0
    duplicates_removed: int = 0

    def take(self) -> Self:
        """Return the counts since the last call."""
        taken = replace(self)
        self.retries = self.duplicates_removed = 0
        return taken
