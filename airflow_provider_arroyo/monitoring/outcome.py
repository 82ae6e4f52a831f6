"""How a wait can end; a module of its own, since every DAG file imports it, and results cost more."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a wait stands, or ended."""

    WAITING = "waiting"
    REACHED = "reached"
    FAILED = "failed"
    """The pipeline is ``Failing`` or ``Failed``, and that was not wanted."""
    FINISHED = "finished"
    """The pipeline is ``Finished``, which nothing leaves, and another state was wanted."""
    STOPPED = "stopped"
    """The pipeline that was to run was stopped externally."""
    WITHDRAWN = "withdrawn"
    """The stop that is waited for was withdrawn: the pipeline is asked to run again."""
    FLAPPING = "flapping"
    """More new runs began than ``max_restarts`` allows."""
    NO_CHECKPOINT = "no_checkpoint"
    """The pipeline is ``Finishing``, in which Arroyo takes no checkpoint, and one was wanted: by itself, for a stop,
    or to begin a new run from."""
    DELETED = "deleted"
    """The pipeline was seen before and is gone."""
    MISSING = "missing"
    """There is no such pipeline, and this wait never saw one."""
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """No poll succeeded for longer than is tolerated; says nothing about the pipeline."""
    ERROR = "error"
    """A poll failed in a way that no further poll can fix."""
