"""Checks of arguments, before any request. Each raises ``ValueError`` that names the argument."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.text import duration, is_template, shorten

MIN_CHECKPOINT_INTERVAL = timedelta(seconds=1)
MAX_CHECKPOINT_INTERVAL = timedelta(hours=24)
MAX_NAME_LENGTH = 200
MAX_INTEGER = 999_999_999
"""More than that is a slip wherever an argument counts something."""

MAX_DURATION = timedelta(days=36_500)
"""A century from now every calendar, database and clock still has a date; `timedelta.max` from now none has."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# Not all that Python reads: 1_000 and digits of other scripts are slips, inf and nan no numbers here.
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_STATES = {state.value for state in JobState}


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


def check_not_a_template(value: str, argument: str, why: str) -> str:
    """Return a string that nothing would render.

    :param why: why it stays as it is, a sentence without its end.
    :raises ValueError: where it is a template all the same.
    """
    if is_template(value):
        raise ValueError(
            f"{argument} must not be a template, got {_shown(value)}: {why}. Write the value itself"
        )
    return value


def check_sql(value: Any) -> str:
    """Return SQL without a byte order mark, which Arroyo would refuse.

    :raises ValueError: on what is no SQL, or cannot be stored.
    """
    return check_text(value, "query").removeprefix("\ufeff")


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
    return check_integer(value, argument, may_be_text=True)


def check_integer(
    value: Any, argument: str, *, least: int = 1, most: int | None = None, may_be_text: bool = False
) -> int:
    """Return an integer within bounds.

    :param least: the least that is allowed, default 1.
    :param most: the most; default None: 999,999,999.
    :param may_be_text: whether it may be a string of digits, as a rendered template is; default False.
    :raises ValueError: on anything else.
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

    :param least, more_than: the lower bound, included or not; default none.
    :param most, less_than: the upper bound, included or not; default none.
    :param may_be_text: whether it may be a number in ASCII, as a rendered template is; default False.
    :raises ValueError: on anything else.
    """
    number = value
    if may_be_text and isinstance(value, str) and _NUMBER.fullmatch(value):
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

    :param positive: whether zero is refused, too.
    :raises ValueError: on another type, a negative one, or zero where it must be positive.
    """
    given = _duration(value)
    if given is not None and timedelta(0) <= given <= MAX_DURATION and (given or not positive):
        return given
    allowed = "more than 0" if positive else "0 or more"
    if isinstance(value, timedelta | int | float) and not isinstance(value, bool):
        allowed += f", and at most {MAX_DURATION.days:,} days"
    raise ValueError(f"{argument} must be a timedelta or a number of seconds, {allowed}, got {_shown(value)}")


def _duration(value: Any) -> timedelta | None:
    """Return what a timedelta or a number of seconds means; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):  # the latter: not a number
            return timedelta(seconds=value)
    return value if isinstance(value, timedelta) else None


def check_within(part: timedelta, argument: str, whole: timedelta, of: str, why: str) -> None:
    """Check that what a wait needs is not longer than the wait.

    :param part, argument: what it needs, and the argument that says so.
    :param whole, of: how long it may last, and the argument that says so.
    :param why: what else would never come true, in words that follow "or".
    :raises ValueError: names both arguments.
    """
    if part > whole:
        raise ValueError(
            f"{argument} must be at most as long as {of} ({duration(whole.total_seconds())}), or {why}; "
            f"got {duration(part.total_seconds())}"
        )


def check_states(names: Iterable[str], argument: str) -> frozenset[str]:
    """Return names as a set of Arroyo's states.

    :param names: wire strings or :class:`.JobState`; at least one.
    :param argument: its name in the error.
    :raises ValueError: on no name, or one that Arroyo does not have.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Iterable):
        raise ValueError(f"{argument} must be names of states, got {_shown(names)}")
    wanted = frozenset(str(name) for name in names)
    unknown = sorted(wanted - _STATES)
    if unknown or not wanted:
        what = (
            f"{', '.join(map(repr, unknown))} is not a state of Arroyo"
            if unknown
            else "needs at least one state"
        )
        raise ValueError(f"{argument}: {what}; allowed: {', '.join(JobState)}")
    return wanted


def check_max_restarts(value: Any, argument: str = "max_restarts") -> int | None:
    """Return a number of restarts, or None for any number.

    :raises ValueError: on anything else.
    """
    return None if value is None else check_integer(value, argument, least=0)


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
    interval = _duration(value)
    if interval is None or not MIN_CHECKPOINT_INTERVAL <= interval <= MAX_CHECKPOINT_INTERVAL:
        raise ValueError(
            f"{argument} must be from 1 second to 24 hours, a timedelta or a number of seconds, got {_shown(value)}"
        )
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
    """Return a mapping that can be written as a JSON object, as it will be read again: with lists, and string keys.

    :raises ValueError: on anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{argument} must be a mapping with string keys, got {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{argument} must hold only JSON values: {err}") from err
    if _ESCAPED_NUL.search(text):
        raise ValueError(f"{argument} must have no character U+0000, which not every database stores")
    read: dict[str, Any] = json.loads(check_characters(text, argument))
    return read


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    try:
        return shorten(repr(value), 100)
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"
