"""Request bodies, read and refused as Arroyo does: the words and places are those of its JSON library."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PARSE = "Failed to parse the request body as JSON: "
_TYPE = "Failed to deserialize the JSON body into the target type: "
_SPACE = " \t\r\n"
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})')


class BodyRefusedError(Exception):
    """A body that the API does not take.

    :param status: 400 for text that is not JSON, 415 for another content type, 422 for JSON of another shape.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


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


_STOPS = ("none", "checkpoint", "graceful", "immediate", "force")
_LANGUAGES = ("python", "rust")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a body must look like.

    :param name: the type's name in Arroyo, which it uses in its refusals.
    """

    name: str
    fields: tuple[Field, ...]


_UDF = Shape("Udf", (Field("definition", required=True), Field("language", _LANGUAGES)))

_PIPELINE = (
    Field("name", required=True),
    Field("query", required=True),
    Field("udfs", "udfs"),
    Field("parallelism", "u64", required=True),
    Field("checkpoint_interval_micros", "u64"),
)
_NEW_IN_016 = (Field("env_vars", "strings"), Field("scheduler_config", "any"))
_PATCH = (
    Field("parallelism", "u64"),
    Field("checkpoint_interval_micros", "u64"),
    Field("stop", _STOPS),
)
PIPELINE = {
    "0.15": Shape("PipelinePost", _PIPELINE),
    "0.16": Shape("PipelinePost", (*_PIPELINE, Field("state_url"), Field("tags", "strings"), *_NEW_IN_016)),
}
PATCH = {
    "0.15": Shape("PipelinePatch", _PATCH),
    "0.16": Shape("PipelinePatch", (*_PATCH, *_NEW_IN_016)),
}
RESTART = {
    "0.15": Shape("PipelineRestart", (Field("force", "bool"),)),
    "0.16": Shape("PipelineRestart", (Field("force", "bool"), Field("ignore_state", "bool"))),
}
PREVIEW = Shape(
    "PreviewPost", (Field("query", required=True), Field("udfs", "udfs"), Field("enable_sinks", "bool"))
)
VALIDATE = Shape("ValidateQueryPost", (Field("query", required=True), Field("udfs", "udfs")))
UDF = Shape(
    "UdfPost",
    (
        Field("prefix", required=True),
        Field("language", _LANGUAGES),
        Field("definition", required=True),
        Field("description"),
    ),
)
UDF_VALIDATE = Shape("ValidateUdfPost", _UDF.fields)
TABLE = Shape(
    "ConnectionTablePost",
    (
        Field("name", required=True),
        Field("connector", required=True),
        Field("connection_profile_id"),
        Field("config", "any", required=True),
        Field("schema", "any"),
    ),
)
PROFILE = Shape(
    "ConnectionProfilePost",
    (
        Field("name", required=True),
        Field("connector", required=True),
        Field("config", "any", required=True),
    ),
)


def read(body: bytes, content_type: str, shape: Shape) -> dict[str, Any]:
    """Return the fields of a body; those that were not sent, or null, are missing. Others are dropped.

    :raises BodyRefusedError: with the words of a real server.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise BodyRefusedError(415, "Expected request with `Content-Type: application/json`")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line, column = _place(body[: error.start].decode("latin-1"))
        raise BodyRefusedError(
            400, f"{_PARSE}invalid unicode code point at line {line} column {column}"
        ) from error
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # The slow reader finds the words; should it find nothing wrong, its value is as good.
        value = _Reader(text).document()
    if isinstance(value, dict) and (clean := _quickly(value, shape.fields)) is not None:
        return clean
    reader = _Reader(text)
    reader.check_object(shape)
    reader.end()
    raise AssertionError(f"a body fits the shape {shape.name} and does not")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _quickly(value: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, Any] | None:
    clean = {}
    for field in fields:
        item = value.get(field.name)
        if item is None:
            if field.required and not (field.kind == "any" and field.name in value):
                return None
            continue
        if not _fits(item, field.kind):
            return None
        clean[field.name] = item
    return clean


def _fits(item: Any, kind: str | tuple[str, ...]) -> bool:
    if isinstance(kind, tuple):
        return isinstance(item, str) and item in kind
    match kind:
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
                isinstance(udf, dict)
                and isinstance(udf.get("definition"), str)
                and udf.get("language", "rust") in _LANGUAGES
                for udf in item
            )


def _place(before: str) -> tuple[int, int]:
    line = before.count("\n") + 1
    tail = before[before.rfind("\n") + 1 :]
    return line, len(tail.encode("utf-8", "surrogatepass"))


class _Reader:
    """Reads JSON once more, slowly, to say what is wrong with it and where."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    # -- saying no ----------------------------------------------------------------------------------------

    def broken(self, words: str, at: int | None = None) -> BodyRefusedError:
        line, column = _place(self.text[: self.at if at is None else at])
        return BodyRefusedError(400, f"{_PARSE}{words} at line {line} column {column}")

    def unfit(self, path: str, words: str, at: int | None = None) -> BodyRefusedError:
        line, column = _place(self.text[: self.at if at is None else at])
        where = f"{path}: " if path else ""
        return BodyRefusedError(422, f"{_TYPE}{where}{words} at line {line} column {column}")

    # -- reading ------------------------------------------------------------------------------------------

    def skip(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1
        return self.text[self.at] if self.at < len(self.text) else ""

    def document(self) -> Any:
        value = self.value()
        self.end()
        return value

    def end(self) -> None:
        if self.skip():
            raise self.broken("trailing characters", self.at + 1)

    def value(self) -> Any:
        mark = self.skip()
        if not mark:
            raise self.broken("EOF while parsing a value")
        if mark == '"':
            return self.string()
        if mark == "{":
            return self.members(lambda name: self.value())
        if mark == "[":
            return self.elements(self.value)
        for word, value in (("true", True), ("false", False), ("null", None)):
            if mark == word[0]:
                return self.word(word, value)
        if mark == "-" or mark.isdigit():
            return self.number()
        raise self.broken("expected value", self.at + 1)

    def word(self, word: str, value: Any) -> Any:
        for letter in word:
            if self.at >= len(self.text):
                raise self.broken("EOF while parsing a value")
            if self.text[self.at] != letter:
                raise self.broken("expected ident", self.at + 1)
            self.at += 1
        return value

    def number(self) -> int | float:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            end = self.at + 1 >= len(self.text)
            raise self.broken("EOF while parsing a value" if end else "invalid number", self.at + 2 - end)
        self.at = match.end()
        if self.text[self.at : self.at + 1].isdigit():
            raise self.broken("invalid number", self.at + 1)
        return float(match[0]) if match[1] or match[2] else int(match[0])

    def string(self) -> str:
        begun = self.at
        self.at += 1
        while True:
            if self.at >= len(self.text):
                raise self.broken("EOF while parsing a string")
            letter = self.text[self.at]
            if letter == '"':
                self.at += 1
                text: str = json.loads(self.text[begun : self.at])
                return text
            if letter == "\\":
                escape = _ESCAPE.match(self.text, self.at)
                if escape is None:
                    raise self.broken("invalid escape", min(len(self.text), self.at + 2))
                self.at = escape.end()
            elif letter < " ":
                raise self.broken(
                    "control character (\\u0000-\\u001F) found while parsing a string", self.at + 1
                )
            else:
                self.at += 1

    def members(self, read: Callable[[str], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while True:
            mark = self.skip()
            if mark == "}":
                self.at += 1
                return found
            if not mark:
                raise self.broken("EOF while parsing an object")
            if found:
                if mark != ",":
                    raise self.broken("expected `,` or `}`", self.at + 1)
                self.at += 1
                mark = self.skip()
                if mark == "}":
                    raise self.broken("trailing comma", self.at + 1)
                if not mark:
                    raise self.broken("EOF while parsing a value")
            if mark != '"':
                raise self.broken("key must be a string", self.at + 1)
            name = self.string()
            mark = self.skip()
            if mark != ":":
                raise (
                    self.broken("expected `:`", self.at + 1)
                    if mark
                    else self.broken("EOF while parsing an object")
                )
            self.at += 1
            found[name] = read(name)

    def elements(self, read: Callable[[], Any]) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while True:
            mark = self.skip()
            if mark == "]":
                self.at += 1
                return found
            if not mark:
                raise self.broken("EOF while parsing a list")
            if found:
                if mark != ",":
                    raise self.broken("expected `,` or `]`", self.at + 1)
                self.at += 1
                if self.skip() == "]":
                    raise self.broken("trailing comma", self.at + 1)
            found.append(read())

    # -- checking -----------------------------------------------------------------------------------------

    def check_object(self, shape: Shape, path: str = "") -> None:
        """Read an object and refuse the first thing in it that does not fit."""
        mark = self.skip()
        begun = self.at
        if mark != "{":
            value = self.value()
            words = f"invalid type: {_described(value, mark)}, expected struct {shape.name}"
            raise self.unfit(path, words, begun if mark == "[" else None)
        known = {field.name: field for field in shape.fields}
        seen = set()

        def member(name: str) -> None:
            seen.add(name)
            if field := known.get(name):
                self.check(field, f"{path}.{name}" if path else name)
            else:
                self.value()

        self.members(member)
        for field in shape.fields:
            if field.required and field.name not in seen:
                raise self.unfit(path, f"missing field `{field.name}`")

    def check(self, field: Field, path: str) -> None:
        """Read the value of a field and refuse it where it does not fit."""
        mark = self.skip()
        begun = self.at
        if field.kind == "udfs" and mark == "[":
            count = itertools.count()
            self.elements(lambda: self.check_object(_UDF, f"{path}[{next(count)}]"))
            return
        value = self.value()
        if (value is None and not field.required) or _fits(value, field.kind):
            return
        # A list or a map is refused before it is read, anything else after it.
        raise self.unfit(path, _misfit(field.kind, value, mark), begun if mark in "[{" else None)


def _misfit(kind: str | tuple[str, ...], value: Any, mark: str) -> str:
    if isinstance(kind, tuple):
        if not isinstance(value, str):
            return f"invalid type: {_described(value, mark)}, expected string or map"
        choices = [f"`{choice}`" for choice in kind]
        expected = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        return f"unknown variant `{value}`, expected {expected}"
    if kind == "u64" and isinstance(value, int) and not isinstance(value, bool):
        return f"invalid value: integer `{value}`, expected u64"
    if kind == "strings" and isinstance(value, dict):
        value = next(item for item in value.values() if not isinstance(item, str))
        return f"invalid type: {_described(value, '{' if isinstance(value, dict) else '')}, expected a string"
    expected_types = {"string": "a string", "u64": "u64", "bool": "a boolean", "strings": "a map"}
    return f"invalid type: {_described(value, mark)}, expected {expected_types.get(kind, 'a sequence')}"


def _described(value: Any, mark: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f"string {json.dumps(value, ensure_ascii=False)}"
    return "map" if mark == "{" else "sequence"
