"""Checks of what DAG authors write. Those of ``__init__`` skip what is still to be rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.client.models import StopMode

T = TypeVar("T")

STOP_MODES = tuple(mode for mode in StopMode if mode is not StopMode.NONE)


def is_final(value: Any) -> bool:
    """Return whether a value is what the task will get: not a template, nor another task's result."""
    if isinstance(value, str):
        return not any(brace in value for brace in ("{{", "{%", "{#"))
    if isinstance(value, dict):
        return all(is_final(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return all(is_final(item) for item in value)
    return value is None or isinstance(value, bool | int | float | timedelta)


def is_reference(value: Any) -> bool:
    """Return whether a value stands for another task's result, or for an argument of a mapped task group."""
    return hasattr(value, "iter_references")


def as_string(value: Any, argument: str) -> Any:
    """Return the string that Airflow turned into an integer, in a DAG with ``render_template_as_native_obj``.

    :raises ValueError: on a float, since it cannot be known how it was written.
    """
    if isinstance(value, float):
        raise ValueError(
            f"{argument} must be a string, got the number {value!r}; "
            f"with render_template_as_native_obj, put quotes into the template: '{value!r}'"
        )
    return str(value) if isinstance(value, int) else value


def as_string_map(value: Any, argument: str) -> Any:
    """Return a mapping of strings, some of which Airflow may have turned into integers as for :func:`as_string`.

    :raises ValueError: as there.
    """
    if not isinstance(value, Mapping):
        return value
    return {as_string(key, argument): as_string(item, f"{argument}[{key!r}]") for key, item in value.items()}


def check_early(check: Callable[[Any, str], T], value: Any, argument: str) -> None:
    """Run a check now if the value is final; the task runs it again."""
    if is_final(value):
        check(value, argument)


def check_choice(value: Any, argument: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed strings.

    :raises ValueError: lists them.
    """
    if value not in allowed:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, map(str, allowed)))}, got {value!r}"
        )
    return str(value)


def check_stop_mode(value: Any, argument: str = "mode") -> StopMode:
    """Return a stop mode.

    :raises ValueError: lists the modes.
    """
    return StopMode(check_choice(value, argument, STOP_MODES))


def rendered_id_and_name(pipeline_id: Any, pipeline_name: Any) -> tuple[str | None, str | None]:
    """Return both as strings, one of them None.

    :raises ValueError: unless exactly one of the two is given.
    """
    given = as_string(pipeline_id, "pipeline_id"), as_string(pipeline_name, "pipeline_name")
    check_one_of_id_and_name(*given)
    return given


def check_one_of_id_and_name(pipeline_id: Any, pipeline_name: Any) -> None:
    """Check that exactly one of the two is given.

    :raises ValueError: on both or neither.
    """
    if (pipeline_id is None) == (pipeline_name is None):
        given = "neither" if pipeline_id is None else "both"
        raise ValueError(f"exactly one of pipeline_id and pipeline_name must be given, got {given}")
    argument, value = (
        ("pipeline_id", pipeline_id) if pipeline_id is not None else ("pipeline_name", pipeline_name)
    )
    if is_final(value) and not isinstance(value, str):
        raise ValueError(f"{argument} must be a string, got {type(value).__name__}")
    # What an upstream task did not return renders as "None".
    if isinstance(value, str) and value.strip() in ("", "None"):
        raise ValueError(f"{argument} must not be empty, got {value!r}; did the upstream task return one?")
