"""Checks of arguments. Checks in ``__init__`` skip values that are still to be rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.client.checks import check_bool, check_characters
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.client.names import check_name, check_pipeline_id, check_rendered
from airflow_provider_arroyo.text import is_template

T = TypeVar("T")
V = TypeVar("V")

_SENSOR_MODES = ("poke", "reschedule")

IF_MISSING_OF_OPERATORS = ("fail", "succeed")
IF_MISSING_OF_SENSORS = ("wait", "fail")

STOP_MODES = tuple(mode for mode in StopMode if mode is not StopMode.NONE)


def is_final(value: Any) -> bool:
    """Return whether a value is final: neither a template nor another task's result."""
    if isinstance(value, str):
        return not is_template(value)
    if isinstance(value, dict):
        return all(is_final(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return all(is_final(item) for item in value)
    return value is None or isinstance(value, bool | int | float | timedelta | datetime)


def is_reference(value: Any) -> bool:
    """Return whether a value stands for another task's result or for an argument of a mapped task group."""
    return hasattr(value, "iter_references")


def as_string(value: Any, argument: str) -> str:
    """Return a rendered string.

    :raises ValueError: if ``render_template_as_native_obj`` converted the string to another type. ``2024_01_15``
        becomes 20240115, and the original spelling is lost.
    """
    return _string(value, argument, f" {value!r}")


def _string(value: Any, argument: str, shown: str) -> str:
    if isinstance(value, str):
        return check_characters(value, argument)
    is_missing = value is None or isinstance(value, list | tuple | set | Mapping)
    question = "; did the upstream task return one?" if is_missing else "."
    raise ValueError(
        f"{argument} must be a string, got {type(value).__name__}{shown}{question} With "
        "render_template_as_native_obj, Airflow converts text that looks like a number, a boolean or None; to keep "
        "it a string, put quotes in the template: \"'{{ ... }}'\""
    )


def as_string_map(value: Any, argument: str) -> Any:
    """Return a mapping of rendered strings.

    :raises ValueError: see :func:`as_string`.
    """
    if not isinstance(value, Mapping):
        return value
    # A value may be a secret, so none is shown.
    return {
        as_string(key, argument): _string(item, f"{argument}[{key!r}]", "") for key, item in value.items()
    }


def check_early(check: Callable[[Any, str], object], value: V, argument: str) -> V:
    """Return a value unchanged, after a check if it is final; otherwise only the task checks it."""
    if is_final(value):
        check(value, argument)
    return value


def optional(check: Callable[[Any, str], T]) -> Callable[[Any, str], T | None]:
    """Return a check that also accepts None."""
    return lambda value, argument: None if value is None else check(value, argument)


def check_choice(value: Any, argument: str, allowed: tuple[str, ...], of_others: tuple[str, ...] = ()) -> str:
    """Return the value if it is one of the allowed strings.

    :param of_others: values that this argument has in other tasks, to which ``default_args`` may give it as well.
    :raises ValueError: if it is not allowed; lists the allowed strings.
    """
    if value in allowed:
        return str(value)
    text = f"{argument} must be one of {', '.join(map(repr, map(str, allowed)))}, got {value!r}"
    if value in of_others:
        text += (
            f", which is for other tasks and may come from default_args. Give this task its own, such as "
            f"{argument}={str(allowed[0])!r}, or set {argument} in those tasks instead of in default_args"
        )
    raise ValueError(text)


def check_until_checkpoint(value: Any, wanted: Any) -> bool:
    """Return whether a wait requires a checkpoint.

    :param value: the argument.
    :param wanted: the state or states to wait for; values that are still to be rendered are not checked.
    :raises ValueError: if the value is not a boolean, or if the wait is not for a running pipeline.
    """
    check_bool(value, "until_checkpoint")
    states = [wanted] if isinstance(wanted, str) else wanted
    if value and is_final(states) and JobState.RUNNING not in (states or ()):
        raise ValueError(
            "until_checkpoint needs a wait for 'Running': a pipeline that has ended takes no checkpoints"
        )
    return bool(value)


def check_moment(value: Any, argument: str) -> datetime:
    """Return a time with a time zone, from a datetime or from ISO 8601 text.

    :raises ValueError: if the value is neither.
    """
    moment = value
    if isinstance(value, str):
        check_rendered(value, argument)
        with suppress(ValueError):
            moment = datetime.fromisoformat(value.strip())
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError(
            f"{argument} must be a datetime with a time zone, or ISO 8601 text such as "
            f"'2026-11-28T12:00:00+00:00', got {value!r}"
        )
    return moment


def check_stop_mode(value: Any, argument: str = "mode") -> StopMode:
    """Return a stop mode.

    :raises ValueError: if there is no such mode; lists the modes.
    """
    return StopMode(check_choice(value, argument, STOP_MODES, _SENSOR_MODES if argument == "mode" else ()))


def rendered_id_and_name(pipeline_id: Any, pipeline_name: Any) -> tuple[str | None, str | None]:
    """Return both as strings. One of them is None.

    :raises ValueError: unless exactly one of the two is given.
    """
    if pipeline_id is None and pipeline_name is None:
        raise ValueError(
            "pipeline_id or pipeline_name was rendered as None; did the upstream task return one?"
        )
    pipeline_id = optional(as_string)(pipeline_id, "pipeline_id")
    pipeline_name = optional(as_string)(pipeline_name, "pipeline_name")
    check_one_of_id_and_name(pipeline_id, pipeline_name)
    # Braces in a rendered value are no template.
    pipeline_id = optional(check_pipeline_id)(pipeline_id, "pipeline_id")
    return pipeline_id, optional(check_name)(pipeline_name, "pipeline_name")


def check_one_of_id_and_name(pipeline_id: Any, pipeline_name: Any) -> None:
    """Check that exactly one of the two is given.

    :raises ValueError: if both or neither are given.
    """
    if (pipeline_id is None) == (pipeline_name is None):
        given = "neither" if pipeline_id is None else "both"
        raise ValueError(f"exactly one of pipeline_id and pipeline_name must be given, got {given}")
    check_early(optional(check_pipeline_id), pipeline_id, "pipeline_id")
    check_early(optional(check_name), pipeline_name, "pipeline_name")
