"""Converts JSON to frozen dataclasses and back, as their type hints say.

There are two readers. Arroyo's JSON is read leniently (:func:`from_api`), so that a field which only explains
something never makes a response unreadable. JSON that this package wrote is read strictly (:func:`from_json`).
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from airflow_provider_arroyo.exceptions import ArroyoError, error_from_dict
from airflow_provider_arroyo.text import REPLACED

T = TypeVar("T")
Read = Callable[[Any], Any]

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a pair, or a byte that is not text. Arroyo sends neither, and neither can be written anywhere."""

_LAST_MICROS = 253_402_300_799_999_999
"""The last microsecond of the year 9999, in microseconds since the epoch."""


def wire(
    name: str = "",
    *,
    zero_is_none: bool = False,
    may_be_null: bool = False,
    is_secret: bool = False,
    is_strict: bool = False,
    is_required: bool = False,
    **options: Any,
) -> Any:
    """Return a dataclass field with options for JSON.

    :param name: its name in JSON; default the attribute's name.
    :param zero_is_none: whether 0 and null mean that there is no value yet.
    :param may_be_null: for a strict field: whether null also means this.
    :param is_secret: whether it may contain secrets, so that it is neither shown nor written.
    :param is_strict: whether a decision depends on it, so that Arroyo's JSON is unreadable if it is null or of
        another type. It may be missing, since older servers may not send it.
    :param is_required: whether it must also be present in Arroyo's JSON, although it has a default.
    :param options: further arguments of ``dataclasses.field``.
    """
    metadata = {
        "name": name,
        "zero_is_none": zero_is_none,
        "may_be_null": may_be_null or zero_is_none,
        "is_secret": is_secret,
        "is_strict": is_strict or is_required,
        "is_required": is_required,
    }
    return field(metadata=metadata, repr=not is_secret, **options)


def from_api(cls: type[T], data: Any) -> T:
    """Return the value of Arroyo's JSON.

    Unknown fields are ignored. A field that is missing or of another type gets its default, if it has one, unless it
    is strict or required. What is not text in a string is replaced; in a strict or required one, it makes the field
    unreadable. Integers are in the range 0 to 2**64 - 1, as Arroyo counts; times are within the calendar.

    :raises KeyError, TypeError, ValueError: if a field without a default, or a required one, is missing or of another
        type, or a strict one is of another type.
    """
    return _read(cls, data, is_lenient=True)


def from_json(cls: type[T], data: Any) -> T:
    """Return the value that :func:`to_json` wrote, in this version or an older one; unknown fields are ignored.

    :raises ValueError: if a field is of another type, or one without a default is missing.
    """
    try:
        return _read(cls, data, is_lenient=False)
    except (KeyError, OverflowError, TypeError) as err:
        raise ValueError(f"field {err} is missing" if isinstance(err, KeyError) else str(err)) from err


def to_json(value: Any) -> Any:
    """Return a dataclass, or a value in it, as JSON values without secrets; durations as seconds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: to_json(getattr(value, one.attribute))
            for one in _fields(type(value), False)
            if not one.is_secret
        }
    if isinstance(value, ArroyoError):
        return value.to_dict()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(to_json(item) for item in value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def json_type(value: Any) -> str:
    """Return the JSON type of a value, in words: ``an object``, ``a list``, ``null``."""
    if isinstance(value, Mapping):
        return "an object"
    return "null" if value is None else _JSON_TYPES.get(type(value), type(value).__name__)


_JSON_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    tuple: "a list",
}


class JsonValue:
    """Base class of values that cross processes as JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON values."""
        return cast("dict[str, Any]", to_json(self))

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read the output of :meth:`to_dict`, of this version or an older one; unknown fields are ignored.

        :raises ValueError: if the data is invalid.
        """
        return from_json(cls, data)


class ApiModel:
    """Base class of the models that are read from Arroyo's responses."""

    __slots__ = ()

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Return the model from Arroyo's JSON, see :func:`from_api`."""
        return from_api(cls, data)


def looks_like(cls: type[ApiModel], data: Any) -> bool:
    """Return whether JSON that cannot be read is a damaged model of Arroyo, and not something else.

    :param cls: the model.
    :param data: JSON; a damaged model lacks at most one of the fields that must be there, and none if there are only
        two: a job has the start time of a checkpoint, too.
    """
    required = [one.name for one in _fields(cast("Any", cls), True) if one.is_required]
    least = max(1, len(required) - (len(required) > 2))
    return isinstance(data, Mapping) and sum(name in data for name in required) >= least


class _Field(NamedTuple):
    attribute: str
    name: str
    read: Read
    is_required: bool
    is_strict: bool
    zero_is_none: bool
    may_be_null: bool
    is_secret: bool


def _read(cls: type[T], data: Any, *, is_lenient: bool) -> T:
    if not isinstance(data, Mapping):
        raise TypeError(f"it is {json_type(data)}, not an object")
    values = {}
    for one in _fields(cast("Any", cls), is_lenient):
        if one.name not in data:
            if one.is_required:
                raise KeyError(one.name)
            continue
        value = data[one.name]
        if value is None and one.may_be_null:
            continue
        if one.zero_is_none and value == 0 and value is not False:
            continue
        try:
            values[one.attribute] = one.read(value)
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            if one.is_strict:
                what = f"field {err} is missing" if isinstance(err, KeyError) else err
                raise TypeError(f"field {one.name!r}: {what}") from err
    return cls(**values)


@cache
def _fields(cls: type[Any], is_lenient: bool) -> tuple[_Field, ...]:
    hints = get_type_hints(cls)
    found = []
    for one in fields(cls):
        hint, given = hints[one.name], one.metadata
        is_strict = given.get("is_strict", False)
        has_no_default = one.default is MISSING and one.default_factory is MISSING
        found.append(
            _Field(
                one.name,
                given.get("name") or (f"{one.name}_seconds" if hint is timedelta else one.name),
                _reader_of_arroyo(
                    one.name,
                    _without_none(hint) if is_strict else hint,
                    is_strict=has_no_default or is_strict,
                )
                if is_lenient
                else _reader(hint, is_lenient=False),
                has_no_default or (is_lenient and given.get("is_required", False)),
                has_no_default or not is_lenient or is_strict,
                given.get("zero_is_none", False),
                given.get("may_be_null", False),
                given.get("is_secret", False),
            )
        )
    return tuple(found)


def _reader_of_arroyo(attribute: str, hint: Any, *, is_strict: bool) -> Read:
    """Return the function that reads a field of Arroyo's JSON."""
    read, is_time = _reader(hint, is_lenient=True), attribute.endswith("_micros")

    def checked(value: Any) -> Any:
        found = read(value)
        if is_time and isinstance(found, int) and found > _LAST_MICROS:
            raise ValueError("it is a time outside the calendar")
        if isinstance(found, str) and not found.isascii() and (wrong := _SURROGATE.search(found)):
            if is_strict:
                raise ValueError(f"it has {wrong[0]!r}, which is not a character")
            return _SURROGATE.sub(REPLACED, found)
        return found

    return checked


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def _reader(hint: Any, *, is_lenient: bool) -> Read:
    """Return the function that reads a value of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin in (Union, types.UnionType):
        inner = _reader(_without_none(hint), is_lenient=is_lenient)
        return lambda value: None if value is None else inner(value)
    if origin in (tuple, frozenset):
        item = _reader(args[0], is_lenient=is_lenient)
        return lambda value: origin(item(one) for one in _typed(value, list | tuple, "a list"))
    if origin is not None:
        item = _reader(args[1], is_lenient=is_lenient)
        return lambda value: {key: item(one) for key, one in _typed(value, Mapping, "an object").items()}
    if hint is float and is_lenient:
        return _float_of_arroyo
    if hint is float:
        return _finite
    if hint is int:
        return _integer_of_arroyo if is_lenient else (lambda value: _typed(value, int, "an integer"))
    if hint is timedelta:
        return lambda value: timedelta(seconds=_typed(value, int | float, "a number of seconds"))
    if hint is ArroyoError:
        return lambda value: error_from_dict(_typed(value, Mapping, "an object"))
    if isinstance(hint, type) and is_dataclass(hint):
        own = getattr(hint, "from_api" if is_lenient else "from_dict", None)
        return own or (lambda value: _read(hint, value, is_lenient=is_lenient))
    if issubclass(hint, Enum):
        return lambda value: hint(value)
    return lambda value: _typed(value, hint, "a string" if hint is str else f"a {hint.__name__}")


def _finite(value: Any) -> float:
    # Python writes and reads NaN and infinity as JSON; no comparison with them would mean anything.
    number = float(_typed(value, int | float, "a number"))
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number


def _float_of_arroyo(value: Any) -> float:
    # JSON has neither NaN, for which Rust writes null, nor infinity, which would be more than any threshold.
    number = math.nan if value is None else float(_typed(value, int | float, "a number"))
    return number if math.isfinite(number) else math.nan


def _integer_of_arroyo(value: Any) -> int:
    number: int = _typed(value, int, "an integer")
    if number < 0:
        # Arroyo has no negative numbers.
        raise ValueError("it is less than 0")
    if number >= 2**64:
        # With hundreds of digits, it could not be used in computations.
        raise ValueError("it is an integer of more than 64 bits")
    return number


def _typed(value: Any, kind: Any, name: str) -> Any:
    # In Python, booleans are integers; in JSON, they are not.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"it is {json_type(value)}, not {name}")
    return value
