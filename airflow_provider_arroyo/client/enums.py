"""The states of a job and the modes of a stop: the terms of Arroyo's API that need no model.

A separate module, because every DAG file imports it, and importing the models takes longer.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The states of a job, named as on the wire.

    A newer server may send other states; a job keeps those as plain strings.
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
"""The terminal states. A request can take a job out of ``Stopped`` and ``Failed``, never out of ``Finished``."""

AT_WORK = frozenset({JobState.RUNNING, JobState.FINISHING})
"""The states in which data flows. Within one run, they count as one state."""


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
