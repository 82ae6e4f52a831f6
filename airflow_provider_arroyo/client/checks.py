"""Checks of arguments, before any request. Each raises ``ValueError`` that names the argument."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.text import shorten

MIN_CHECKPOINT_INTERVAL = timedelta(seconds=1)
MAX_CHECKPOINT_INTERVAL = timedelta(hours=24)
MAX_NAME_LENGTH = 200
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def check_characters(value: str, argument: str) -> str:
    """Return a string that can be sent and stored.

    :raises ValueError: on one with a NUL, or half of a surrogate pair, as in a file name that is not UTF-8.
    """
    if found := _UNSTORABLE.search(value):
        above = value[: found.start()]
        raise ValueError(
            f"{argument} must have no character U+{ord(found[0]):04X}, which not every database stores: "
            f"line {above.count(chr(10)) + 1}, column {len(above) - above.rfind(chr(10))}"
        )
    return value


def check_text(value: Any, argument: str) -> str:
    """Return a string that is not empty, and can be sent and stored.

    :raises ValueError: on another type, or on nothing but white space.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{argument} must be a non-empty string, got {value!r}")
    return check_characters(value, argument)


def check_id(value: Any, argument: str) -> str:
    """Return an id that can be a segment of a path.

    :raises ValueError: where no id can be like that.
    """
    text = check_text(value, argument)
    if text in (".", ".."):
        # HTTP libraries resolve these as steps in the path, however they are escaped.
        raise ValueError(f"{argument} must not be {text!r}")
    return text


def check_pipeline_name(value: Any, argument: str = "pipeline_name") -> str:
    """Return the name of a deployed pipeline: one line of at most 200 characters.

    Arroyo accepts more, and its console cannot show it.

    :raises ValueError: on anything else.
    """
    name = check_text(value, argument)
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"{argument} must have at most {MAX_NAME_LENGTH} characters, got {len(name)}")
    if len(name.splitlines()) > 1 or name != name.strip():
        raise ValueError(f"{argument} must be one line without white space around it, got {name!r}")
    return name


def check_bool(value: Any, argument: str) -> bool:
    """Return a boolean. The string ``"false"`` is none: it would be true.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{argument} must be True or False, got {value!r}")
    return value


def check_parallelism(value: Any, argument: str = "parallelism") -> int:
    """Return a parallelism: 1 or more. A rendered template may be a string of digits.

    Arroyo accepts 0 and then stays in Scheduling for ever.

    :raises ValueError: on anything else.
    """
    return check_integer(value, argument)


def check_integer(value: Any, argument: str) -> int:
    """Return an integer, 1 or more. A rendered template may be a string of digits.

    :raises ValueError: on anything else.
    """
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{argument} must be an integer, 1 or more, got {value!r}")
    return number


def check_number(value: Any, argument: str) -> float:
    """Return a number. A rendered template may be one as text.

    :raises ValueError: on anything else, and on one that is not finite.
    """
    number = value
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
    if isinstance(number, int | float) and not isinstance(number, bool):
        with suppress(OverflowError):
            number = float(number)
    if not isinstance(number, float) or not math.isfinite(number):
        raise ValueError(f"{argument} must be a number, got {shorten(repr(value))}")
    return number


def check_duration(value: Any, argument: str, *, positive: bool = False) -> timedelta:
    """Return a duration from a timedelta or a number of seconds.

    :param positive: whether zero is refused, too.
    :raises ValueError: on another type, a negative one, or zero where it must be positive.
    """
    least = "more than 0" if positive else "0 or more"
    duration = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            duration = timedelta(seconds=value)
        except (OverflowError, ValueError) as err:
            raise ValueError(f"{argument} must be {least} seconds, got {value!r}") from err
    if not isinstance(duration, timedelta) or duration < timedelta(0) or (positive and not duration):
        raise ValueError(f"{argument} must be a timedelta or a number of seconds, {least}, got {value!r}")
    return duration


def check_max_restarts(value: Any, argument: str = "max_restarts") -> int | None:
    """Return a number of restarts, or None for any number.

    :raises ValueError: on anything else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"{argument} must be an integer, 0 or more, or None, got {value!r}")


def check_restart_window(value: Any, max_restarts: int | None, poll_seconds: float) -> timedelta | None:
    """Return the time in which restarts are counted, or None for no such limit.

    :param value: a timedelta or a number of seconds.
    :param max_restarts: how many are allowed in it.
    :param poll_seconds: from poll to poll; restarts between two polls cannot be told apart.
    :raises ValueError: on another type, without ``max_restarts``, or if it is shorter than from poll to poll.
    """
    if value is None:
        return None
    window = check_duration(value, "restart_window", positive=True)
    if max_restarts is None:
        raise ValueError("restart_window counts the restarts for max_restarts, which must be given, too")
    if window.total_seconds() < poll_seconds:
        raise ValueError(
            f"restart_window must be as long as from poll to poll ({poll_seconds:g} seconds) at least, got {value!r}"
        )
    return window


def check_checkpoint_interval(value: Any, argument: str = "checkpoint_interval") -> timedelta:
    """Return a checkpoint interval within Arroyo's limits, 1 second to 24 hours.

    Arroyo refuses others only after it has written half of the pipeline.

    :param value: a timedelta or a number of seconds.
    :raises ValueError: on another type or outside the limits.
    """
    interval = check_duration(value, argument, positive=True)
    if not MIN_CHECKPOINT_INTERVAL <= interval <= MAX_CHECKPOINT_INTERVAL:
        raise ValueError(f"{argument} must be from 1 second to 24 hours, got {value!r}")
    return interval


def check_string_map(value: Any, argument: str) -> dict[str, str]:
    """Return a mapping of strings to strings.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{argument} must be a mapping of strings to strings, got {type(value).__name__}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise ValueError(f"{argument} must map strings to strings, got {key!r}: {type(item).__name__}")
        check_characters(key, argument)
        check_characters(item, f"{argument}[{key!r}]")
    return dict(value)


def check_json_object(value: Any, argument: str) -> dict[str, Any]:
    """Return a mapping that can be written as a JSON object.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{argument} must be a mapping with string keys, got {type(value).__name__}")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{argument} must hold only JSON values: {err}") from err
    return dict(value)
