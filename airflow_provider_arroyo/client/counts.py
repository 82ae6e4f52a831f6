"""What happened through a client, for Airflow's metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(slots=True, kw_only=True)
class Counts:
    """Filled by whoever does it, and read where a task ends.

    :param retries: requests that failed and were repeated.
    :param duplicates_removed: pipelines that were created twice, and deleted for it.
    """

    retries: int = 0
    duplicates_removed: int = 0

    def take(self) -> Self:
        """Return what was counted since the last call."""
        taken = replace(self)
        self.retries = self.duplicates_removed = 0
        return taken
