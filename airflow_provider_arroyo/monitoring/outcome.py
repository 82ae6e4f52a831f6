"""How a wait can end. A separate module, because every DAG file imports it, and importing results takes longer."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The status of a wait, or how it ended."""

    WAITING = "waiting"
    REACHED = "reached"
    FAILED = "failed"
    """The pipeline is ``Failing`` or ``Failed``, but that was not wanted."""
    FINISHED = "finished"
    """The pipeline is ``Finished``, which is final, but another state was wanted."""
    STOPPED = "stopped"
    """The pipeline should run, but was stopped externally."""
    WITHDRAWN = "withdrawn"
    """The awaited stop was withdrawn: the pipeline was asked to run again."""
    FLAPPING = "flapping"
    """More new runs began by themselves than ``max_restarts`` allows."""
    NO_CHECKPOINT = "no_checkpoint"
    """The pipeline is ``Finishing``, in which Arroyo takes no checkpoints, but one was wanted: for itself, for a
    stop, or to begin a new run.
    """
    DELETED = "deleted"
    """The pipeline was seen before, but no longer exists."""
    MISSING = "missing"
    """There is no such pipeline, and this wait never saw one."""
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No poll has succeeded for longer than tolerated; says nothing about the pipeline."""
    ERROR = "error"
    """A poll failed in a way that retries cannot fix."""
