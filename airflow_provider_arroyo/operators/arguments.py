"""Checks of what DAG authors write. Those of ``__init__`` let pass what is still to be rendered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.arroyo.models import StopMode

T = TypeVar("T")

STOP_MODES = tuple(mode for mode in StopMode if mode is not StopMode.NONE)


def is_final(value: Any) -> bool:
    """Return whether a value is what the task will see: not a template, nor another task's result."""
    if isinstance(value, str):
        return not any(sign in value for sign in ("{{", "{%", "{#"))
    if isinstance(value, dict):
        return all(is_final(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return all(is_final(item) for item in value)
    return value is None or isinstance(value, bool | int | float | timedelta)


def check_early(check: Callable[[Any, str], T], value: Any, argument: str) -> None:
    """Run a check now if the value is final; the task runs it again."""
    if is_final(value):
        check(value, argument)


def check_duration(value: Any, argument: str, *, positive: bool = False) -> timedelta:
    """Return a length of time from a timedelta or a number of seconds.

    :raises ValueError: on another type, a negative one, or zero where it must be positive.
    """
    least = "more than 0" if positive else "0 or more"
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError) as err:
            raise ValueError(f"{argument} must be {least} seconds, got {value!r}") from err
    if not isinstance(value, timedelta) or value < timedelta(0) or (positive and not value):
        raise ValueError(f"{argument} must be a timedelta or a number of seconds, {least}, got {value!r}")
    return value


def check_choice(value: Any, argument: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed words.

    :raises ValueError: lists them.
    """
    if value not in allowed:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, map(str, allowed)))}, got {value!r}"
        )
    return str(value)


def check_stop_mode(value: Any, argument: str = "mode") -> StopMode:
    """Return a mode of stopping.

    :raises ValueError: lists the modes.
    """
    return StopMode(check_choice(value, argument, STOP_MODES))


def check_one_of_id_and_name(pipeline_id: Any, pipeline_name: Any) -> None:
    """Check that just one of the two says which pipeline is meant.

    :raises ValueError: on both or neither.
    """
    if (pipeline_id is None) == (pipeline_name is None):
        given = "neither" if pipeline_id is None else "both"
        raise ValueError(f"exactly one of pipeline_id and pipeline_name must be given, got {given}")
    argument, value = (
        ("pipeline_id", pipeline_id) if pipeline_id is not None else ("pipeline_name", pipeline_name)
    )
    if is_final(value) and not isinstance(value, str):
        raise ValueError(f"{argument} must be a text, got {type(value).__name__}")
    # What an upstream task did not give renders as "None".
    if isinstance(value, str) and value.strip() in ("", "None"):
        raise ValueError(f"{argument} must not be empty, got {value!r}; did the upstream task give one?")
