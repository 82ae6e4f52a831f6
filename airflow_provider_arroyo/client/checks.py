"""Checks of arguments before any request. Each raises a ``ValueError`` that names the argument."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.text import UNSTORABLE, duration, is_template, shorten

MIN_CHECKPOINT_INTERVAL = timedelta(seconds=1)
MAX_CHECKPOINT_INTERVAL = timedelta(hours=24)
MAX_INTEGER = 999_999_999
"""The largest count that an argument accepts; anything larger is a mistake."""

MAX_DURATION = timedelta(days=36_500)
"""The longest duration. A century from now is a valid date everywhere; `timedelta.max` from now is not."""

_ESCAPED_NUL = r"(?<!\\)(?:\\\\)*\\u0000"
# Stricter than Python: 1_000 and digits of other scripts are probably mistakes, and inf and nan are not useful here.
_NUMBER = r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_STATES = {state.value for state in JobState}


def check_characters(value: str, argument: str) -> str:
    """Return a string that can be sent and stored.

    :raises ValueError: if it has a NUL character or an unpaired surrogate, as in a file name that is not UTF-8.
    """
    is_plain = value.isascii() and "\0" not in value
    if not is_plain and (found := re.search(UNSTORABLE, value)):
        above = value[: found.start()]
        raise ValueError(
            f"{argument} must not contain U+{ord(found[0]):04X}, which not every database can store: "
            f"line {above.count(chr(10)) + 1}, column {len(above) - above.rfind(chr(10))}"
        )
    return value


def check_text(value: Any, argument: str) -> str:
    """Return a string that is not blank, and that can be sent and stored.

    :raises ValueError: if it has another type or is blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{argument} must be a non-empty string, got {value!r}")
    return check_characters(value, argument)


def check_not_a_template(value: str, argument: str, why: str) -> str:
    """Return a string, for an argument that is not templated.

    :param value: the string.
    :param why: why it would not be rendered, as a sentence without the full stop.
    :param argument: its name in the error.
    :raises ValueError: if it looks like a template.
    """
    if is_template(value):
        raise ValueError(
            f"{argument} must not be a template, got {_shown(value)}: {why}. Write the value itself"
        )
    return value


def check_sql(value: Any) -> str:
    """Return SQL without a byte order mark, which Arroyo would refuse.

    :raises ValueError: if it is not a non-empty string, or cannot be stored.
    """
    return check_text(value, "query").removeprefix("\ufeff")


def check_id(value: Any, argument: str) -> str:
    """Return an id that can be a path segment.

    :raises ValueError: if it cannot be a valid id.
    """
    text = check_text(value, argument)
    if text in (".", ".."):
        # HTTP libraries resolve these as steps in the path, even if they are escaped.
        raise ValueError(f"{argument} must not be {text!r}")
    return text


def check_bool(value: Any, argument: str) -> bool:
    """Return a boolean. The string ``"false"`` is refused, since it would be true.

    :raises ValueError: if it is not a boolean.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{argument} must be True or False, got {value!r}")
    return value


def check_parallelism(value: Any, argument: str = "parallelism") -> int:
    """Return a parallelism of at least 1. A rendered template may be a string of digits.

    Arroyo accepts 0, but then stays in Scheduling forever.

    :raises ValueError: if it is invalid.
    """
    return check_integer(value, argument, may_be_text=True)


def check_integer(
    value: Any, argument: str, *, least: int = 1, most: int | None = None, may_be_text: bool = False
) -> int:
    """Return an integer within bounds.

    :param value: the integer.
    :param argument: its name in the error.
    :param least: lower bound, inclusive, default 1.
    :param most: upper bound, inclusive; default None: 999,999,999.
    :param may_be_text: whether a string of digits is accepted, as from a rendered template; default False.
    :raises ValueError: if it is invalid.
    """
    number = value
    if may_be_text and isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        number = int(value)
    allowed = f"{least:,} or more" if most is None else f"from {least:,} to {most:,}"
    if isinstance(number, int) and not isinstance(number, bool):
        if least <= number <= (MAX_INTEGER if most is None else most):
            return number
        if most is None and number > MAX_INTEGER:
            allowed += f", and at most {MAX_INTEGER:,}"
    comma = "," if most is None else ""
    raise ValueError(f"{argument} must be an integer{comma} {allowed}, got {_shown(value)}")


def check_number(
    value: Any,
    argument: str,
    *,
    least: float | None = None,
    more_than: float | None = None,
    most: float | None = None,
    less_than: float | None = None,
    may_be_text: bool = False,
) -> float:
    """Return a finite number within bounds.

    :param value: the number.
    :param argument: its name in the error.
    :param least, more_than: lower bound, inclusive or exclusive; default none.
    :param most, less_than: upper bound, inclusive or exclusive; default none.
    :param may_be_text: whether a number in ASCII text is accepted, as from a rendered template; default False.
    :raises ValueError: if it is invalid.
    """
    number = value
    if may_be_text and isinstance(value, str) and re.fullmatch(_NUMBER, value):
        number = float(value)
    if isinstance(number, int) and not isinstance(number, bool):
        with suppress(OverflowError):
            number = float(number)
    is_within = (
        isinstance(number, float)
        and math.isfinite(number)
        and (least is None or number >= least)
        and (more_than is None or number > more_than)
        and (most is None or number <= most)
        and (less_than is None or number < less_than)
    )
    if is_within:
        return float(number)
    bounds = {"{} or more": least, "more than {}": more_than, "{} or less": most, "less than {}": less_than}
    allowed = " and ".join(words.format(f"{at:,.10g}") for words, at in bounds.items() if at is not None)
    raise ValueError(f"{argument} must be a number{allowed and f', {allowed}'}, got {_shown(value)}")


def check_duration(value: Any, argument: str, *, positive: bool = False) -> timedelta:
    """Return a duration from a timedelta or a number of seconds; at most 36,500 days.

    :param value: a timedelta or a number of seconds.
    :param argument: its name in the error.
    :param positive: whether zero is also refused, default False.
    :raises ValueError: if it has another type, is negative, or is zero but must be positive.
    """
    given = _duration(value)
    if given is not None and timedelta(0) <= given <= MAX_DURATION and (given or not positive):
        return given
    allowed = "more than 0" if positive else "0 or more"
    if isinstance(value, timedelta | int | float) and not isinstance(value, bool):
        allowed += f", and at most {MAX_DURATION.days:,} days"
    raise ValueError(f"{argument} must be a timedelta or a number of seconds, {allowed}, got {_shown(value)}")


def _duration(value: Any) -> timedelta | None:
    """Return a plain timedelta from a timedelta or a number of seconds; None for other types."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):  # the latter: NaN
            return timedelta(seconds=value)
    # Subclasses, such as pendulum's, calculate differently.
    return timedelta.__pos__(value) if isinstance(value, timedelta) else None


def check_within(part: timedelta, argument: str, whole: timedelta, of: str, why: str) -> None:
    """Check that a duration fits into the timeout of the wait that needs it.

    :param part, argument: the duration, and its argument.
    :param whole, of: the timeout, and its argument.
    :param why: the consequence otherwise, in words that follow "or".
    :raises ValueError: if it does not fit; names both arguments.
    """
    if part > whole:
        raise ValueError(
            f"{argument} must be at most as long as {of} ({duration(whole.total_seconds())}), or {why}; "
            f"got {duration(part.total_seconds())}"
        )


def check_states(names: Iterable[str], argument: str) -> frozenset[str]:
    """Return names as a set of Arroyo's states.

    :param names: names of states on the wire, or :class:`.JobState`; at least one.
    :param argument: its name in the error.
    :raises ValueError: if there is no name, or Arroyo has no such state.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Iterable):
        raise ValueError(f"{argument} must be names of states, got {_shown(names)}")
    wanted = frozenset(str(name) for name in names)
    unknown = sorted(wanted - _STATES)
    if unknown or not wanted:
        is_none = f"{', '.join(map(repr, unknown))} is not a state of Arroyo"
        what = is_none if unknown else "needs at least one state"
        raise ValueError(f"{argument}: {what}; allowed: {', '.join(JobState)}")
    return wanted


def check_max_restarts(value: Any, argument: str = "max_restarts") -> int | None:
    """Return a number of restarts, or None for any number.

    :raises ValueError: if it is neither.
    """
    return None if value is None else check_integer(value, argument, least=0)


def check_restart_window(value: Any, max_restarts: int | None, poll_seconds: float) -> timedelta | None:
    """Return the time in which restarts are counted; None if it is not limited.

    :param value: a timedelta or a number of seconds.
    :param max_restarts: how many restarts are allowed in that time.
    :param poll_seconds: time between polls; restarts between two polls cannot be told apart.
    :raises ValueError: if it has another type, is shorter than ``poll_seconds``, or is given without
        ``max_restarts``.
    """
    if value is None:
        return None
    window = check_duration(value, "restart_window", positive=True)
    if max_restarts is None:
        raise ValueError("restart_window is the time for max_restarts, which must be given too")
    if window.total_seconds() < poll_seconds:
        raise ValueError(
            f"restart_window must be at least as long as poll_interval ({poll_seconds:g} seconds), got {value!r}"
        )
    return window


def check_checkpoint_interval(value: Any, argument: str = "checkpoint_interval") -> timedelta:
    """Return a checkpoint interval within Arroyo's limits, 1 second to 24 hours.

    Arroyo checks this only after it has stored half of the pipeline.

    :param value: a timedelta or a number of seconds.
    :param argument: its name in the error.
    :raises ValueError: if it has another type or is outside the limits.
    """
    interval = _duration(value)
    if interval is None or not MIN_CHECKPOINT_INTERVAL <= interval <= MAX_CHECKPOINT_INTERVAL:
        raise ValueError(
            f"{argument} must be from 1 second to 24 hours, a timedelta or a number of seconds, got {_shown(value)}"
        )
    return interval


def check_string_map(value: Any, argument: str) -> dict[str, str]:
    """Return a mapping of strings to strings.

    :raises ValueError: if it is not.
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
    """Return a JSON object, converted as JSON would: with lists and string keys.

    :raises ValueError: if it cannot be a JSON object.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{argument} must be a mapping with string keys, got {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{argument} must contain only JSON values: {err}") from err
    if re.search(_ESCAPED_NUL, text):
        raise ValueError(f"{argument} must not contain U+0000, which not every database can store")
    read: dict[str, Any] = json.loads(check_characters(text, argument))
    return read


def _shown(value: Any) -> str:
    """Return a value as an error message shows it."""
    try:
        return shorten(repr(value), 100)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
