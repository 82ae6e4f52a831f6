"""Reads request bodies, and refuses wrong ones with the messages and positions of Arroyo's JSON library."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .messages import RefusedError

_PARSE = "Failed to parse the request body as JSON: "
TYPE = "Failed to deserialize the JSON body into the target type: "
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_STOPS = ("none", "checkpoint", "graceful", "immediate", "force")
_TYPES = {"string": "a string", "u64": "u64", "bool": "a boolean", "strings": "a map", "udfs": "a sequence"}
# The types of fields, which are the same in every body; other fields are strings. A tuple lists the values of an
# enumeration, "strings" is a map of strings.
_KINDS: Mapping[str, str | tuple[str, ...]] = {
    **dict.fromkeys(("parallelism", "checkpoint_interval_micros"), "u64"),
    **dict.fromkeys(("force", "ignore_state", "enable_sinks"), "bool"),
    **dict.fromkeys(("env_vars", "tags"), "strings"),
    **dict.fromkeys(("scheduler_config", "config", "schema"), "any"),
    "udfs": "udfs",
    "stop": _STOPS,
    "language": ("python", "rust"),
}


class Shape:
    """The required shape of a body.

    :param name: the type's name in Arroyo, which it uses in its errors.
    :param fields: the names of the fields; one that ends in ``?`` may be missing or null.
    """

    def __init__(self, name: str, fields: str) -> None:
        self.name = name
        self.is_required = {field.removesuffix("?"): not field.endswith("?") for field in fields.split()}


_UDF = Shape("Udf", "definition language?")
_PIPELINE = "name query udfs? parallelism checkpoint_interval_micros?"
_PATCH = "parallelism? checkpoint_interval_micros? stop?"
_NEW_IN_016 = "env_vars? scheduler_config?"
PIPELINE = {
    "0.15": Shape("PipelinePost", _PIPELINE),
    "0.16": Shape("PipelinePost", f"{_PIPELINE} state_url? tags? {_NEW_IN_016}"),
}
PATCH = {
    "0.15": Shape("PipelinePatch", _PATCH),
    "0.16": Shape("PipelinePatch", f"{_PATCH} {_NEW_IN_016}"),
}
RESTART = {
    "0.15": Shape("PipelineRestart", "force?"),
    "0.16": Shape("PipelineRestart", "force? ignore_state?"),
}
PREVIEW = Shape("PreviewPost", "query udfs? enable_sinks?")
VALIDATE = Shape("ValidateQueryPost", "query udfs?")
UDF = Shape("UdfPost", "prefix language? definition description?")
UDF_VALIDATE = Shape("ValidateUdfPost", "definition language?")
TABLE = Shape("ConnectionTablePost", "name connector connection_profile_id? config schema?")
PROFILE = Shape("ConnectionProfilePost", "name connector config")


def read(body: bytes, content_type: str, shape: Shape) -> dict[str, Any]:
    """Return the known fields of a body that are not null.

    :raises RefusedError: 415 for another content type, 400 for what is not JSON, 422 for JSON of another shape.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise RefusedError(415, "Expected request with `Content-Type: application/json`")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _refused(400, "invalid unicode code point", body[: error.start].decode("latin-1")) from error
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        words, at = _syntax(error)
        raise _refused(400, words, text[:at]) from error
    except (ValueError, RecursionError) as error:
        raise _refused(400, "expected value", text[:1]) from error
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        # serde_json's message for half a surrogate pair.
        found_at = re.search(r"(?i)\\ud[89a-f][0-9a-f]{2}", text)
        before = text[: found_at.end()] if found_at else text
        raise _refused(400, "lone leading surrogate in hex escape", before) from error
    _check(text, _skip(text, 0), shape)
    return {name: value[name] for name in shape.is_required if value.get(name) is not None}


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _refused(status: int, words: str, before: str, path: str = "") -> RefusedError:
    """Return the error for a body whose error is at the end of the text ``before``."""
    line = before.count("\n") + 1
    column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogatepass"))
    where = f"{path}: " if path else ""
    start = _PARSE if status == 400 else TYPE
    return RefusedError(status, f"{start}{where}{words} at line {line} column {column}")


def _syntax(error: json.JSONDecodeError) -> tuple[str, int]:
    """Return Arroyo's message for an error of Python's JSON parser, and the position that Arroyo gives."""
    at = error.pos
    if error.msg.startswith("Illegal trailing comma"):
        # Python 3.13 points at the comma instead of what follows it.
        at = len(error.doc) - len(error.doc[at + 1 :].lstrip(" \t\r\n"))
    rest = error.doc[at:].strip(" \t\r\n")
    if not rest or "Unterminated" in error.msg:
        kind = {"Unterminated string starting at": "a string", "Expecting value": "a value"}
        return f"EOF while parsing {kind.get(error.msg, 'an object')}", len(error.doc)
    if rest[0] in "}]" and error.doc[:at].rstrip(" \t\r\n").endswith(","):
        return "trailing comma", at + 1
    words = {
        "Extra data": "trailing characters",
        "Expecting ',' delimiter": "expected `,` or `}`",
        "Expecting ':' delimiter": "expected `:`",
        "Expecting property name enclosed in double quotes": "key must be a string",
    }
    return words.get(error.msg, "expected value"), at + 1


def _check(text: str, at: int, shape: Shape, path: str = "") -> None:
    """Check the shape of the object at a position of a body.

    :param path: the path of the object in the body.
    :raises RefusedError: 422 for the first value of a wrong type, or a missing field.
    """
    value, end = _DECODER.raw_decode(text, at)
    if not isinstance(value, dict):
        words = f"invalid type: {_described(value)}, expected struct {shape.name}"
        raise _refused(422, words, _read_before_refusal(text, at), path)
    for name, begin in _parts(text, at):
        is_required = shape.is_required.get(name)
        kind: str | tuple[str, ...] = _KINDS.get(name, "string")
        item, below = value[name], f"{path}.{name}".removeprefix(".")
        if is_required is None or kind == "any" or (item is None and not is_required):
            continue
        if kind == "udfs" and isinstance(item, list):
            for number, first in _parts(text, begin):
                _check(text, first, _UDF, f"{below}[{number}]")
        elif problem := _wrong_value(item, kind):
            raise _refused(422, problem, _read_before_refusal(text, begin), below)
    missing = [name for name, required in shape.is_required.items() if required and name not in value]
    if missing:
        raise _refused(422, f"missing field `{missing[0]}`", text[:end], path)


def _wrong_value(value: Any, kind: str | tuple[str, ...]) -> str | None:
    match kind, value:
        case tuple(), str():
            choices = [f"`{choice}`" for choice in kind]
            listed = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
            return None if value in kind else f"unknown variant `{value}`, expected {listed}"
        case ("string", str()) | ("bool", bool()):
            return None
        case "u64", int() if not isinstance(value, bool):
            return None if 0 <= value < 2**64 else f"invalid value: integer `{value}`, expected u64"
        case "strings", dict():
            others = (_wrong_value(item, "string") for item in value.values())
            return next(filter(None, others), None)
    expected = "string or map" if isinstance(kind, tuple) else _TYPES[kind]
    return f"invalid type: {_described(value)}, expected {expected}"


def _read_before_refusal(text: str, at: int) -> str:
    """Return what Arroyo reads of a body before it refuses the value at a position."""
    # It refuses a list or a map before it reads it, anything else afterwards.
    return text[:at] if text[at] in "[{" else text[: _DECODER.raw_decode(text, at)[1]]


def _parts(text: str, at: int) -> Iterator[tuple[Any, int]]:
    """Yield each key of the object, or index of the list, at a position, with the position of its value."""
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    for number in itertools.count():
        if text[at] in "]}":
            return
        name = number
        if is_object:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        yield name, at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _described(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
        case _:
            return "map" if isinstance(value, dict) else "sequence"
