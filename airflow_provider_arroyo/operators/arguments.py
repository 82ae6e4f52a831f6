"""Checks of what DAG authors write. Those of ``__init__`` skip what is still to be rendered."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_characters,
    check_checkpoint_interval,
    check_id,
    check_string_map,
    check_text,
    check_within,
)
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.text import duration, is_template, shorten

T = TypeVar("T")

_NOTHING = frozenset({"", "none", "null", "nan", "undefined", "[]", "()", "{}", "[none]", "[null]"})
"""What templates make of nothing: of None, in JSON, of a missing number, of what no upstream task returned."""

_SEVERAL = re.compile(r"\s*(\[.*\]|\(.*\)|\{.*\})\s*", re.DOTALL)

STOP_MODES = tuple(mode for mode in StopMode if mode is not StopMode.NONE)

IF_MISSING = ("fail", "succeed")
"""What to do where a pipeline that is to be stopped or deleted does not exist."""


def is_final(value: Any) -> bool:
    """Return whether a value is what the task will get: not a template, nor another task's result."""
    if isinstance(value, str):
        return not is_template(value)
    if isinstance(value, dict):
        return all(is_final(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set):
        return all(is_final(item) for item in value)
    return value is None or isinstance(value, bool | int | float | timedelta | datetime)


def is_reference(value: Any) -> bool:
    """Return whether a value stands for another task's result, or for an argument of a mapped task group."""
    return hasattr(value, "iter_references")


def as_string(value: Any, argument: str) -> str:
    """Return a rendered string.

    :raises ValueError: on what ``render_template_as_native_obj`` made of one: ``2024_01_15`` becomes 20240115, and
        nobody can tell how it was written.
    """
    return _string(value, argument, f" {value!r}")


def _string(value: Any, argument: str, shown: str) -> str:
    if isinstance(value, str):
        return check_characters(value, argument)
    raise ValueError(
        f"{argument} must be a string, got {type(value).__name__}{shown}. With render_template_as_native_obj, "
        "Airflow turns what looks like a number, a boolean or None into one; quotes in the template keep it a "
        "string: \"'{{ ... }}'\""
    )


def as_string_map(value: Any, argument: str) -> Any:
    """Return a mapping of rendered strings.

    :raises ValueError: as :func:`as_string` does.
    """
    if not isinstance(value, Mapping):
        return value
    # A value may be a secret, so none is shown.
    return {
        as_string(key, argument): _string(item, f"{argument}[{key!r}]", "") for key, item in value.items()
    }


def check_early(check: Callable[[Any, str], T], value: Any, argument: str) -> None:
    """Run a check now if the value is final; the task runs it again."""
    if is_final(value):
        check(value, argument)


def check_tags(value: Any, argument: str = "tags") -> dict[str, str]:
    """Return a user's tags: names and values are strings, and none is reserved for this package.

    :raises ValueError: names what is wrong.
    """
    tags = check_string_map(value, argument)
    if tags:
        from airflow_provider_arroyo.pipelines.ownership import check_user_tags

        check_user_tags(tags)
    return tags


def check_choice(value: Any, argument: str, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed strings.

    :raises ValueError: lists them.
    """
    if value not in allowed:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, map(str, allowed)))}, got {value!r}"
        )
    return str(value)


def check_until_checkpoint(value: Any, wanted: Any) -> bool:
    """Return whether a wait needs a checkpoint.

    :param wanted: the state or states that are waited for; what is still to be rendered is not checked.
    :raises ValueError: on anything but a boolean, and where no running pipeline is waited for.
    """
    check_bool(value, "until_checkpoint")
    states = [wanted] if isinstance(wanted, str) else wanted
    if value and is_final(states) and JobState.RUNNING not in (states or ()):
        raise ValueError(
            "until_checkpoint needs a wait for 'Running': a pipeline that has ended takes no checkpoint"
        )
    return bool(value)


def check_proof_in_time(task: Any) -> None:
    """Check that the time of a task that waits for ``Running`` can be enough.

    :param task: has ``timeout``, ``stable_for``, ``until_checkpoint`` and ``checkpoint_interval``.
    :raises ValueError: where it cannot: names both arguments.
    """
    timeout: timedelta = task.timeout
    check_within(task.stable_for, "stable_for", timeout, "timeout", "the task could not succeed")
    interval = getattr(task, "checkpoint_interval", None)
    if interval is None or not task.until_checkpoint:
        return
    interval = check_checkpoint_interval(interval)
    if interval >= timeout:
        raise ValueError(
            f"timeout must be longer than checkpoint_interval ({duration(interval.total_seconds())}), since "
            f"until_checkpoint=True waits for a checkpoint, got {duration(timeout.total_seconds())}; "
            "until_checkpoint=False does not wait for one"
        )


def check_rollback_in_time(task: Any) -> None:
    """Check that Airflow leaves a deploy the time to roll back.

    :param task: has ``timeout``, ``execution_timeout``, ``on_failure`` and ``rollback_timeout``.
    :raises ValueError: where it does not: says how much it needs.
    """
    needed, what = task.timeout, "timeout"
    if task.on_failure == "rollback":
        needed, what = needed + task.rollback_timeout, "timeout + rollback_timeout"
    if task.execution_timeout is not None and task.execution_timeout < needed:
        raise ValueError(
            f"execution_timeout must be {what} or more ({duration(needed.total_seconds())}), got "
            f"{duration(task.execution_timeout.total_seconds())}: it would cut off a rollback"
        )


def check_moment(value: Any, argument: str) -> datetime:
    """Return a moment with a time zone, from a datetime or its text in ISO 8601.

    :raises ValueError: on anything else.
    """
    moment = value
    if isinstance(value, str):
        check_rendered(value, argument)
        with suppress(ValueError):
            moment = datetime.fromisoformat(value.strip())
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError(
            f"{argument} must be a datetime with a time zone, or its text in ISO 8601 such as "
            f"'2026-11-28T12:00:00+00:00', got {value!r}"
        )
    return moment


def check_stop_mode(value: Any, argument: str = "mode") -> StopMode:
    """Return a stop mode.

    :raises ValueError: lists the modes.
    """
    return StopMode(check_choice(value, argument, STOP_MODES))


def rendered_id_and_name(pipeline_id: Any, pipeline_name: Any) -> tuple[str | None, str | None]:
    """Return both as strings, one of them None.

    :raises ValueError: unless exactly one of the two is given.
    """
    if pipeline_id is None and pipeline_name is None:
        raise ValueError(
            "pipeline_id or pipeline_name was rendered as None; did the upstream task return one?"
        )
    given = (
        None if pipeline_id is None else as_string(pipeline_id, "pipeline_id"),
        None if pipeline_name is None else as_string(pipeline_name, "pipeline_name"),
    )
    check_one_of_id_and_name(*given)
    if given[1] is not None:
        check_text(given[1], "pipeline_name")
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
    (check_rendered if argument == "pipeline_name" else check_rendered_id)(value, argument)


def check_rendered(value: Any, argument: str) -> Any:
    """Return a string that is not what a template renders to where an upstream task returned nothing.

    :raises ValueError: on nothing but white space, on ``"None"``, ``"null"``, ``"[]"`` and the like, or on another
        type.
    """
    if is_final(value) and not isinstance(value, str):
        raise ValueError(f"{argument} must be a string, got {type(value).__name__}")
    if isinstance(value, str) and value.strip().lower() in _NOTHING:
        raise ValueError(f"{argument} must not be empty, got {value!r}; did the upstream task return one?")
    return value


def check_rendered_id(value: Any, argument: str = "pipeline_id") -> Any:
    """Return a pipeline's id that is not what a template makes of nothing, or of several values.

    :raises ValueError: as :func:`check_rendered` does; on white space around it, as at the end of a Variable; and on
        a list or mapping as text, which is what an upstream task's XComs become where several were pulled.
    """
    check_rendered(value, argument)
    if isinstance(value, str) and is_final(value):
        if check_id(value, argument) != value.strip():
            raise ValueError(f"{argument} must have no white space around it, got {shorten(value, 80)!r}")
        if _SEVERAL.fullmatch(value):
            raise ValueError(
                f"{argument} must be one id, got {shorten(value, 80)!r}, which looks like a list or a mapping; pull "
                "one value, such as xcom_pull(task_ids='submit', key='pipeline_id')"
            )
    return value
