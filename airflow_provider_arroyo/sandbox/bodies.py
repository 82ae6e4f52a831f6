"""Request bodies, read and refused as Arroyo does: in the words of its JSON library, with the place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .messages import RefusedError

_PARSE = "Failed to parse the request body as JSON: "
TYPE = "Failed to deserialize the JSON body into the target type: "
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=True)
_STOPS = ("none", "checkpoint", "graceful", "immediate", "force")
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
    """What a body must look like.

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
    if isinstance(value, Mapping) and all(_fits(value.get(item.name), item, value) for item in shape.fields):
        known = ((item.name, value.get(item.name)) for item in shape.fields)
        return {name: item for name, item in known if item is not None}
    _check_object(text, 0, shape, "")
    raise AssertionError(f"a body does not fit the shape {shape.name}, and does")


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
    at, rest = error.pos, error.doc[error.pos :].strip(" \t\r\n")
    if not rest or "Unterminated" in error.msg:
        kind = {"Unterminated string starting at": "a string", "Expecting value": "a value"}
        return f"EOF while parsing {kind.get(error.msg, 'an object')}", len(error.doc)
    words = {
        "Extra data": "trailing characters",
        "Expecting ',' delimiter": "expected `,` or `}`",
        "Expecting ':' delimiter": "expected `:`",
        "Expecting property name enclosed in double quotes": "key must be a string",
        "Illegal trailing comma before end of object": "trailing comma",
    }
    if rest.startswith("}") and "property name" in error.msg:
        return "trailing comma", at + 1
    return words.get(error.msg, "expected value"), at + 1


def _fits(item: Any, field: Field, owner: Mapping[str, Any]) -> bool:
    if item is None:
        return not field.required or (field.kind == "any" and field.name in owner)
    if isinstance(field.kind, tuple):
        return isinstance(item, str) and item in field.kind
    match field.kind:
        case "any":
            return True
        case "string":
            return isinstance(item, str)
        case "bool":
            return isinstance(item, bool)
        case "u64":
            return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**64
        case "strings":
            return isinstance(item, dict) and all(isinstance(text, str) for text in item.values())
        case _:
            return isinstance(item, list) and all(
                isinstance(udf, dict) and all(_fits(udf.get(part.name), part, udf) for part in _UDF.fields)
                for udf in item
            )


# What follows reads a body that is JSON of another shape once more, to find the place of what is wrong.


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> tuple[Any, int]:
    value, end = _DECODER.raw_decode(text, at)
    return value, end


def _members(text: str, at: int) -> Iterator[tuple[str, int]]:
    """Return the name of each member of the object at a place, and where its value begins."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, end = _value(text, at)
        begin = _skip(text, _skip(text, end) + 1)
        yield name, begin
        at = _skip(text, _value(text, begin)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)


def _check_object(text: str, at: int, shape: Shape, path: str) -> None:
    """Refuse the first thing in an object that does not fit."""
    at = _skip(text, at)
    value, end = _value(text, at)
    if text[at] != "{":
        words = f"invalid type: {_described(value)}, expected struct {shape.name}"
        raise _refused(422, words, text[: at if text[at] == "[" else end], path)
    known = {field.name: field for field in shape.fields}
    for name, begin in _members(text, at):
        if name in known:
            _check(text, begin, known[name], value, f"{path}.{name}" if path else name)
    for field in shape.fields:
        if field.required and field.name not in value:
            raise _refused(422, f"missing field `{field.name}`", text[:end], path)


def _check(text: str, at: int, field: Field, owner: Mapping[str, Any], path: str) -> None:
    value, end = _value(text, at)
    if _fits(value, field, owner):
        return
    if field.kind == "udfs" and isinstance(value, list):
        place = _skip(text, at + 1)
        for number in range(len(value)):
            _check_object(text, place, _UDF, f"{path}[{number}]")
            place = _skip(text, _skip(text, _value(text, place)[1]) + 1)
    # A list or a map is refused before it is read, anything else after it.
    raise _refused(422, _misfit(field.kind, value), text[: at if text[at] in "[{" else end], path)


def _misfit(kind: str | tuple[str, ...], value: Any) -> str:
    if isinstance(kind, tuple):
        if not isinstance(value, str):
            return f"invalid type: {_described(value)}, expected string or map"
        choices = [f"`{choice}`" for choice in kind]
        expected = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        return f"unknown variant `{value}`, expected {expected}"
    if kind == "u64" and isinstance(value, int) and not isinstance(value, bool):
        return f"invalid value: integer `{value}`, expected u64"
    if kind == "strings" and isinstance(value, dict):
        wrong = next(item for item in value.values() if not isinstance(item, str))
        return f"invalid type: {_described(wrong)}, expected a string"
    expected_types = {"string": "a string", "u64": "u64", "bool": "a boolean", "strings": "a map"}
    return f"invalid type: {_described(value)}, expected {expected_types.get(kind, 'a sequence')}"


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
