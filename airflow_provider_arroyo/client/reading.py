"""Reads the bodies of Arroyo's responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_arroyo.client.checks import check_id
from airflow_provider_arroyo.client.details import Page
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.client.wire import json_type

T = TypeVar("T")

_OBJECT_START = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_LIST_START = re.compile(r'"data"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_LIST_END = re.compile(r"[ \t\r\n]*\]")
_PAGE_START = re.compile(r'\s*\{\s*"data"\s*:\s*\[')
_LAST_PAGE = re.compile(r'\]\s*,\s*"hasMore"\s*:\s*false\s*\}\s*\Z')
_TAIL = 200

FromApi = Callable[[Mapping[str, Any]], T]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Parsers differ in which of two duplicate fields they take, so neither is trusted."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a field twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


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


def json_of(response: HttpResponse, *, is_lenient: bool = False) -> Any:
    """Return the JSON value of a body.

    :param response: the response.
    :param is_lenient: whether bytes that are not UTF-8 are replaced, as in the reason of a failure; default False,
        since in SQL and in names that would be a difference.
    :raises NotJsonError: if it is not JSON.
    """
    try:
        return _DECODER.decode(_text(response.body, "replace" if is_lenient else "strict"))
    except (ValueError, RecursionError) as err:
        raise NotJsonError(err) from err


def _text(body: bytes, errors: str = "replace") -> str:
    return body.decode(json.detect_encoding(body), errors).removeprefix("\ufeff")


def object_of(response: HttpResponse, *, is_lenient: bool = False) -> Mapping[str, Any]:
    """Return the JSON object of a body.

    :param response: the response.
    :param is_lenient: see :func:`json_of`.
    :raises NotJsonError: if it is not JSON.
    :raises TypeError: if it is another JSON value.
    """
    value = json_of(response, is_lenient=is_lenient)
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


def iter_items(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of ``{"data": [...]}`` one by one.

    A list of megabytes is thus never held in memory as a whole, and parsing it does not hold Python's lock for long.

    :raises NotJsonError: if the body is not JSON.
    :raises KeyError, TypeError: if it is JSON of another shape; says which.
    """
    decode = _DECODER.raw_decode
    try:
        text = _text(body)
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
            item, at = decode(text, at)
            # Items that are not objects describe no job; the others still count.
            if isinstance(item, dict):
                yield item
            separator = _COMMA.match(text, at)
            at = at if separator is None else separator.end()
        end = _LIST_END.match(text, at)
        if end is None:
            raise json.JSONDecodeError("the list is not terminated correctly", text, at)
        # The text after the list is parsed as the rest of an object.
        _DECODER.decode('{"data": 0' + text[end.end() :])
    except (ValueError, RecursionError) as err:
        _check_shape(body)
        raise NotJsonError(err) from err


def _check_shape(body: bytes) -> None:
    """Check a body that does not contain a list: if it is JSON, report its shape.

    :raises KeyError, TypeError: if it is JSON; says what it is, and what was expected.
    """
    with suppress(ValueError, RecursionError):
        value = _DECODER.decode(_text(body))
        if not isinstance(value, dict):
            raise TypeError(f"the response is {json_type(value)}, not an object")
        list_in(value)


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
        value = from_api(object_of(response))
        for name, wanted in sent.items():
            if getattr(value, name) != wanted:
                raise ValueError(f"it has another {name} than the request")
        return value

    return read


def many(from_api: FromApi[T], *, is_lenient: bool = False) -> Callable[[HttpResponse], tuple[T, ...]]:
    """Return a reader of ``{"data": [...]}``, the whole list.

    :param from_api: reads an item.
    :param is_lenient: see :func:`json_of`.
    """
    return lambda response: tuple(
        from_api(item) for item in list_in(object_of(response, is_lenient=is_lenient))
    )


def page(from_api: FromApi[T], *, is_lenient: bool = False) -> Callable[[HttpResponse], Page[T]]:
    """Return a reader of ``{"data": [...], "hasMore": …}``, one page of a list.

    :param from_api: reads an item.
    :param is_lenient: see :func:`json_of`.
    """

    def read(response: HttpResponse) -> Page[T]:
        data = object_of(response, is_lenient=is_lenient)
        has_more = data["hasMore"]
        if not isinstance(has_more, bool):
            # Otherwise an incomplete list could pass for a complete one.
            raise TypeError(f"field 'hasMore' is {json_type(has_more)}, not a boolean")
        return Page(tuple(from_api(item) for item in list_in(data)), has_more)

    return read


def named_page(from_api: FromApi[T], other: FromApi[T], name: str) -> Callable[[HttpResponse], Page[T]]:
    """Return a reader of one page of a list, for the items of one name.

    A list of hundreds of kilobytes takes longer to parse than everything else in a task. So on the last page, if the
    name occurs in it in Arroyo's spelling, only the items of that name are parsed.

    :param from_api: reads the items of that name.
    :param other: reads the others, if the whole list must be parsed.
    :param name: the exact name.
    """
    whole = page(lambda item: (from_api if item.get("name") == name else other)(item))
    named = r'"name"\s*:\s*' + re.escape(json.dumps(name, ensure_ascii=False))
    # The beginning of an item. An object after a colon, such as tags, is not an item.
    begins = re.compile(r'[\[,]\s*(?P<item>\{\s*"id"\s*:\s*"[^"\\]*"\s*,\s*' + named + ")")

    def read(response: HttpResponse) -> Page[T]:
        try:
            text = response.body.decode()
        except UnicodeDecodeError:
            return whole(response)
        if not _PAGE_START.match(text) or not _LAST_PAGE.search(text, max(0, len(text) - _TAIL)):
            return whole(response)
        decode = _DECODER.raw_decode
        try:
            # This cannot occur in a string: its quotes would be escaped.
            found = [decode(text, match.start("item"))[0] for match in begins.finditer(text)]
        except (ValueError, RecursionError):
            return whole(response)
        # An object inside an item may look like one, but has no query. If an item begins otherwise, all are parsed.
        items = {item["id"]: item for item in found if "query" in item}
        is_all = items and len(items) == len(re.findall(named, text))
        return Page(tuple(map(from_api, items.values()))) if is_all else whole(response)

    return read


def pong(response: HttpResponse) -> None:
    """Read the response to a ping.

    :raises ValueError: if it is not Arroyo's.
    """
    if json_of(response) != "Pong":
        raise ValueError("the response to a ping is not Arroyo's 'Pong'")


def id_alone(data: Mapping[str, Any]) -> Pipeline:
    """Read a pipeline of another name than the wanted one: only its id is needed, to tell pages apart.

    :raises KeyError, TypeError, ValueError: where it has no id, no name or no SQL, and so is something else.
    """
    data["query"]
    if not isinstance(data["name"], str):
        raise TypeError(f"field 'name': it is {json_type(data['name'])}, not a string")
    return Pipeline(id=check_id(data["id"], "id"), name="", query="")


def newest_job(pipeline_id: str) -> Callable[[HttpResponse], Job | None]:
    """Return a reader of a pipeline's jobs, which are sorted newest first: the newest, or None if there is none."""

    def read(response: HttpResponse) -> Job | None:
        jobs = list_in(object_of(response, is_lenient=True))
        if not jobs:
            return None
        job = Job.from_api(jobs[0])
        # 0.15 does not send the pipeline's id.
        if job.pipeline_id not in (None, pipeline_id):
            raise ValueError("it is about another pipeline than the request")
        return job

    return read
