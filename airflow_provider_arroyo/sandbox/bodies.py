"""Request bodies, read and refused as Arroyo does: with the messages of its JSON library, and the place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from .messages import RefusedError

_PARSE = "Failed to parse the request body as JSON: "
TYPE = "Failed to deserialize the JSON body into the target type: "
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_Path: TypeAlias = tuple[str | int, ...]
_STOPS = ("none", "checkpoint", "graceful", "immediate", "force")
_TYPES = {"string": "a string", "u64": "u64", "bool": "a boolean", "strings": "a map", "udfs": "a sequence"}
_LANGUAGES = ("python", "rust")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a body.

    :param kind: ``string``, ``u64``, ``bool``, ``any``, ``strings`` (a map of strings), ``udfs``, or a
        tuple with the values of an enumeration.
    :param required: whether it must be there; one that is not may also be null.
    """

    name: str
    kind: str | tuple[str, ...] = "string"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The required shape of a body.

    :param name: the type's name in Arroyo, which it uses in its refusals.
    """

    name: str
    fields: tuple[Field, ...]


def _required(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, required=True) for name in names)


_UDF = Shape("Udf", (*_required("definition"), Field("language", _LANGUAGES)))
_PIPELINE = (
    *_required("name", "query"),
    Field("udfs", "udfs"),
    Field("parallelism", "u64", required=True),
    Field("checkpoint_interval_micros", "u64"),
)
_NEW_IN_016 = (Field("env_vars", "strings"), Field("scheduler_config", "any"))
_PATCH = (Field("parallelism", "u64"), Field("checkpoint_interval_micros", "u64"), Field("stop", _STOPS))
PIPELINE = {
    "0.15": Shape("PipelinePost", _PIPELINE),
    "0.16": Shape("PipelinePost", (*_PIPELINE, Field("state_url"), Field("tags", "strings"), *_NEW_IN_016)),
}
PATCH = {"0.15": Shape("PipelinePatch", _PATCH), "0.16": Shape("PipelinePatch", (*_PATCH, *_NEW_IN_016))}
RESTART = {
    "0.15": Shape("PipelineRestart", (Field("force", "bool"),)),
    "0.16": Shape("PipelineRestart", (Field("force", "bool"), Field("ignore_state", "bool"))),
}
PREVIEW = Shape("PreviewPost", (*_required("query"), Field("udfs", "udfs"), Field("enable_sinks", "bool")))
VALIDATE = Shape("ValidateQueryPost", (*_required("query"), Field("udfs", "udfs")))
UDF = Shape(
    "UdfPost",
    (*_required("prefix"), Field("language", _LANGUAGES), *_required("definition"), Field("description")),
)
UDF_VALIDATE = Shape("ValidateUdfPost", _UDF.fields)
_CONFIG = Field("config", "any", required=True)
TABLE = Shape(
    "ConnectionTablePost",
    (*_required("name", "connector"), Field("connection_profile_id"), _CONFIG, Field("schema", "any")),
)
PROFILE = Shape("ConnectionProfilePost", (*_required("name", "connector"), _CONFIG))


def read(body: bytes, content_type: str, shape: Shape) -> dict[str, Any]:
    """Return the fields of a body; those that were not sent, or null, are missing. Others are dropped.

    :raises RefusedError: 415 for another content type, 400 for text that is not JSON, 422 for JSON of another
        shape.
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
        # serde_json's words for half of a surrogate pair.
        found_at = re.search(r"(?i)\\ud[89a-f][0-9a-f]{2}", text)
        before = text[: found_at.end()] if found_at else text
        raise _refused(400, "lone leading surrogate in hex escape", before) from error
    if found := _misfit(value, shape):
        path, words = found
        named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        raise _refused(422, words, text[: _place(text, path, words)], named.removeprefix("."))
    known = ((item.name, value.get(item.name)) for item in shape.fields)
    return {name: item for name, item in known if item is not None}


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _refused(status: int, words: str, before: str, path: str = "") -> RefusedError:
    """Refuse a body for what follows the text ``before``."""
    line = before.count("\n") + 1
    column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogatepass"))
    where = f"{path}: " if path else ""
    start = _PARSE if status == 400 else TYPE
    return RefusedError(status, f"{start}{where}{words} at line {line} column {column}")


def _syntax(error: json.JSONDecodeError) -> tuple[str, int]:
    """Return Arroyo's words for what Python's JSON reader found, and where it would say that it is."""
    at = error.pos
    if error.msg.startswith("Illegal trailing comma"):
        # From Python 3.13 on, which points at the comma instead of what follows it.
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


def _misfit(value: Any, shape: Shape, path: _Path = ()) -> tuple[_Path, str] | None:
    """Return the place of the first value that does not fit, and Arroyo's message; None: everything fits."""
    if not isinstance(value, dict):
        return path, f"invalid type: {_described(value)}, expected struct {shape.name}"
    fields = {field.name: field for field in shape.fields}
    for name, item in value.items():
        if name in fields and (found := _misfit_of_field(item, fields[name], (*path, name))):
            return found
    missing = next((field.name for field in shape.fields if field.required and field.name not in value), None)
    return None if missing is None else (path, f"missing field `{missing}`")


def _misfit_of_field(value: Any, field: Field, path: _Path) -> tuple[_Path, str] | None:
    if (value is None and not field.required) or field.kind == "any":
        return None
    if field.kind == "udfs" and isinstance(value, list):
        found = (_misfit(udf, _UDF, (*path, number)) for number, udf in enumerate(value))
        return next(filter(None, found), None)
    words = _wrong_value(value, field.kind)
    return None if words is None else (path, words)


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


def _place(text: str, path: _Path, words: str) -> int:
    """Return up to where Arroyo reads a body before it refuses what is at a path."""
    at = _skip(text, 0)
    for part in path:
        at = dict(_parts(text, at))[part]
    # A list or a map is refused before it is read, anything else after it.
    before = text[at] in "[{" and not words.startswith("missing field")
    return at if before else _DECODER.raw_decode(text, at)[1]


def _parts(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """Go through the members of the object, or the items of the list, at a place: each with its own place."""
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    number = 0
    while text[at] not in "]}":
        name: str | int = number
        if is_object:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        yield name, at
        number += 1
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
