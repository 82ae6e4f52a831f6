"""Calls and answers, free of HTTP, and what every call needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from . import answers, bodies
from .records import Job

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the API.

    :param ids: the parts of its path that name something, unescaped, in their order.
    """

    method: str
    ids: Sequence[str] = ()
    query: str = ""
    body: bytes = b""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API.

    :param content_type: None where it has no body.
    """

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """The answer to a call for a preview's output: a stream, for as long as the job runs."""

    job: Job


EMPTY = Answer(200, b"", None)


class RefusedError(Exception):
    """A call that the API refuses."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(status, answers.render({"error": text}))


class BadQueryError(Exception):
    """A parameter of the query string that does not parse: refused in plain text."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.answer = Answer(
            400, f"Failed to deserialize query string: {words}".encode(), "text/plain; charset=utf-8"
        )


def _number(text: str) -> int:
    digits = text[1:] if text.startswith("+") else text
    if not text:
        raise BadQueryError("cannot parse integer from empty string")
    if not (digits.isascii() and digits.isdecimal()):
        raise BadQueryError("invalid digit found in string")
    if int(digits) >= 2**32:
        raise BadQueryError("number too large to fit in target type")
    return int(digits)


def read_body(call: Call, shape: bodies.Shape) -> dict[str, Any]:
    """Return the fields of a call's body.

    :raises RefusedError: in the words of a real server.
    """
    try:
        return bodies.read(call.body, call.content_type, shape)
    except bodies.BodyRefusedError as refused:
        raise RefusedError(refused.status, refused.text) from refused


def page(call: Call, items: Sequence[T], key: Callable[[T], tuple[str, int]]) -> tuple[Sequence[T], bool]:
    """Return the page of a list that a call asks for, and whether there is more.

    :param key: the id and the date of an item; the page after an item holds those with an earlier date.
    :raises RefusedError, BadQueryError: where the query string does not say a page.
    """
    after, limit = None, 10
    for name, value in parse_qsl(call.query, keep_blank_values=True):
        if name == "starting_after":
            after = value
        elif name == "limit":
            limit = _number(value)
    if limit < 1:
        raise RefusedError(400, "Limit must be greater than 0")
    if after is not None and after != "":
        date = next((key(item)[1] for item in items if key(item)[0] == after), None)
        items = [item for item in items if date is not None and key(item)[1] < date]
    return items[:limit], len(items) > limit
