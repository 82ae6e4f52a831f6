"""Checks of what DAG authors write. Those of ``__init__`` let pass what is still to be rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def is_reference(value: Any) -> bool:
    """Return whether a value stands for what another task gives, or for an argument of a mapped task group."""
    return hasattr(value, "iter_references")


def as_text(value: Any, argument: str) -> Any:
    """Return the text that Airflow made a number of, in a DAG with ``render_template_as_native_obj``.

    :raises ValueError: on a number with a fraction, of which it cannot be told how it was written.
    """
    if isinstance(value, float):
        raise ValueError(
            f"{argument} must be a text, got the number {value!r}; "
            f"with render_template_as_native_obj, put quotes into the text: '{value!r}'"
        )
    return str(value) if isinstance(value, int) else value


def as_text_map(value: Any, argument: str) -> Any:
    """Return a mapping of texts, of some of which Airflow may have made numbers as for :func:`as_text`.

    :raises ValueError: as there.
    """
    if not isinstance(value, Mapping):
        return value
    return {as_text(key, argument): as_text(item, f"{argument}[{key!r}]") for key, item in value.items()}


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


def rendered_id_and_name(pipeline_id: Any, pipeline_name: Any) -> tuple[str | None, str | None]:
    """Return both as texts, one of them None.

    :raises ValueError: unless just one of the two says which pipeline is meant.
    """
    given = as_text(pipeline_id, "pipeline_id"), as_text(pipeline_name, "pipeline_name")
    check_one_of_id_and_name(*given)
    return given


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
