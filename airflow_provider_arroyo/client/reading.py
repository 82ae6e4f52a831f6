"""Reads the bodies of Arroyo's responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.client.wire import json_type

T = TypeVar("T")

_OBJECT_START = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_LIST_START = re.compile(r'"data"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_LIST_END = re.compile(r"[ \t\r\n]*\]")

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
"""What reading raises if a value is not Arroyo's."""

FromApi = Callable[[Mapping[str, Any]], T]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Parsers differ in which of two duplicate fields they take, so neither is trusted."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a field twice")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object)


class NotJsonError(ValueError):
    """The body is not JSON.

    :param error: the parser's error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.is_cut_short = isinstance(error, json.JSONDecodeError) and _is_cut_short(error)
        """Whether it is the beginning of JSON whose end is missing."""


def _is_cut_short(error: json.JSONDecodeError) -> bool:
    rest = error.doc[error.pos :].strip()
    if not rest:
        return error.doc.strip() != ""
    ends_in_word = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return ends_in_word or error.msg.startswith("Unterminated string")


def json_of(body: bytes) -> Any:
    """Return the JSON value of a body. Bytes that are not text become surrogates.

    :raises NotJsonError: if it is not JSON.
    """
    try:
        return DECODER.decode(text_of(body))
    except (ValueError, RecursionError) as err:
        raise NotJsonError(err) from err


def text_of(body: bytes) -> str:
    """Return a body as text. Bytes that are not text concern only the fields that have them, see ``from_api``."""
    return body.decode(json.detect_encoding(body), "surrogateescape").removeprefix("\ufeff")


def object_of(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a body.

    :raises NotJsonError: if it is not JSON.
    :raises TypeError: if it is another JSON value.
    """
    value = json_of(body)
    if not isinstance(value, dict):
        raise TypeError(f"the response is {json_type(value)}, not an object")
    return value


def list_in(data: Mapping[str, Any]) -> list[Any]:
    """Return the items of ``{"data": [...]}``.

    :raises KeyError, TypeError: if there are none.
    """
    items = data["data"]
    if not isinstance(items, list):
        raise TypeError(f"field 'data' is {json_type(items)}, not a list")
    return items


def iter_items(body: bytes) -> Iterator[Any]:
    """Yield the items of ``{"data": [...]}``, see :func:`iter_items_with_text`."""
    return (item for item, _ in iter_items_with_text(body))


def iter_items_with_text(body: bytes) -> Iterator[tuple[Any, str]]:
    """Yield the items of ``{"data": [...]}`` one by one, each with its JSON.

    A list of megabytes is thus never held in memory as a whole, and parsing it does not hold Python's lock for long.

    :raises NotJsonError: if the body is not JSON.
    :raises KeyError, TypeError: if it is JSON of another shape; says which.
    """
    decode = DECODER.raw_decode
    try:
        text = text_of(body)
        at = _after(_OBJECT_START, text, 0)
        while (start := _LIST_START.match(text, at)) is None:
            # Another key comes before the list.
            key, at = decode(text, at)
            if key == "data":
                raise ValueError("the body is not a list")
            _, at = decode(text, _after(_COLON, text, at))
            at = _after(_COMMA, text, at)
        at = start.end()
        separator = None if text[at : at + 1] == "]" else start
        while separator is not None:
            begin = at
            item, at = decode(text, begin)
            yield item, text[begin:at]
            separator = _COMMA.match(text, at)
            at = at if separator is None else separator.end()
        end = _LIST_END.match(text, at)
        if end is None:
            raise json.JSONDecodeError("the list is not terminated correctly", text, at)
        # The text after the list is parsed as the rest of an object.
        DECODER.decode('{"data": 0' + text[end.end() :])
    except (ValueError, RecursionError) as err:
        with suppress(NotJsonError):
            # If it is JSON, this says what it is, and what was expected.
            list_in(object_of(body))
        raise NotJsonError(err) from err


def _after(part: re.Pattern[str], text: str, at: int) -> int:
    """Return where a part of a list's frame ends.

    :raises ValueError: if it is missing.
    """
    found = part.match(text, at)
    if found is None:
        raise ValueError("the body is not a list")
    return found.end()


def one(from_api: FromApi[T], **sent: str) -> Callable[[HttpResponse], T]:
    """Return a reader of a single object.

    :param sent: attributes that Arroyo returns as they were sent. A response to another request, which a gateway may
        mix up, must not pass for the response to this one.
    :param from_api: reads the object.
    """

    def read(response: HttpResponse) -> T:
        value = from_api(object_of(response.body))
        for name, wanted in sent.items():
            if getattr(value, name) != wanted:
                raise ValueError(f"it has another {name} than the request")
        return value

    return read


def reason(error: Exception) -> str:
    """Return why a value is unreadable, in words."""
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def pong(response: HttpResponse) -> None:
    """Read the response to a ping.

    :raises ValueError: if it is not Arroyo's.
    """
    if json_of(response.body) != "Pong":
        raise ValueError("the response to a ping is not Arroyo's 'Pong'")


def newest_job(pipeline_id: str) -> Callable[[HttpResponse], Job | None]:
    """Return a reader of a pipeline's jobs, which are sorted newest first: the newest, or None if there is none."""

    def read(response: HttpResponse) -> Job | None:
        jobs = list_in(object_of(response.body))
        if not jobs:
            return None
        job = Job.from_api(jobs[0])
        # 0.15 does not send the pipeline's id.
        if job.pipeline_id not in (None, pipeline_id):
            raise ValueError("it is about another pipeline than the request")
        return job

    return read
