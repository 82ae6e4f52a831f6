"""What users can choose, and what a task reports to have done. Imports nothing, since DAG files import it."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What a task did to get its pipeline."""

    CREATED = "created"
    ADOPTED = "adopted"
    RESUMED = "resumed"
    RESTARTED = "restarted"
    REPLACED = "replaced"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class OnExisting(StrEnum):
    """What a submit does with a pipeline that an earlier try of the same task created."""

    ADOPT = "adopt"
    """Running: use it; stopped: resume it; failed: restart it; finished: use it as it is."""
    REPLACE = "replace"
    """Stop, delete and create it again. Its state is lost."""
    FAIL = "fail"
    """Raise an error that names it."""


class Strategy(StrEnum):
    """The order in which a replace stops the old pipeline and starts the new one."""

    STOP_FIRST = "stop_first"
    """Nothing runs for a moment."""
    START_FIRST = "start_first"
    """Both run until the new one has proven itself; meanwhile the output is duplicated."""


class OnFailure(StrEnum):
    """What to do if the new pipeline of a replace does not come up."""

    ROLLBACK = "rollback"
    LEAVE = "leave"
