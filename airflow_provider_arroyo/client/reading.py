"""Reads the bodies of Arroyo's responses, and long lists page by page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from airflow_provider_arroyo.client.checks import check_id
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.request import HttpResponse, Request, Response
from airflow_provider_arroyo.client.wire import ApiModel, json_type, looks_like
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError, ArroyoUnreadableItemError
from airflow_provider_arroyo.text import shorten

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_OBJECT_START = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_LIST_START = re.compile(r'"data"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_LIST_END = re.compile(r"[ \t\r\n]*\]")

_SHOWN_FIELDS = ("id", "name", "epoch", "node_id", "operator_id")
_MAX_SHOWN = 5
"""How many unreadable items an error describes."""

_GROWTH = 10

_MAX_LIMIT = 1_000_000
"""The limit from which on pages do not grow any more; Arroyo's own maximum is some two billion."""

_MAX_PAGES = 1000
"""The maximum number of pages. Arroyo fills each page, so a longer list would never end."""

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
"""What reading raises if a value is not Arroyo's."""

FromApi = Callable[[Mapping[str, Any]], T]


class Identified(Protocol):
    """An item of a list that has pages."""

    @property
    def id(self) -> str:
        """Its id."""


class Named(Protocol):
    """An item of a list in which names are looked up."""

    @property
    def name(self) -> str:
        """Its name."""


Model = TypeVar("Model", bound=ApiModel)
Item = TypeVar("Item", bound=Identified)
NamedItem = TypeVar("NamedItem", bound=Named)


@dataclass(frozen=True, slots=True)
class Listed(Sequence[T_co], Generic[T_co]):
    """The items of a list, or of one page of it.

    One item that cannot be read does not make the others unreadable, and must not pass for one that does not exist.
    So iterating yields what is readable, and then raises the error; so does any other use as a sequence.

    :param readable: the items that can be read, for callers that can do without the others.
    :param error: names the others; default None: there are none.
    :param has_more: whether another page follows, default False.
    """

    readable: tuple[T_co, ...]
    error: ArroyoUnreadableItemError | None = None
    has_more: bool = False

    def __iter__(self) -> Iterator[T_co]:
        yield from self.readable
        if self.error is not None:
            raise self.error

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def __getitem__(self, index: Any) -> Any:
        return tuple(iter(self))[index]

    def shown(self, log: Any) -> tuple[T_co, ...]:
        """Return what is readable, for a list that is only shown; log a warning that names the rest."""
        if self.error is not None:
            log.warning("%s", self.error)
        return self.readable


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


def iter_items(body: bytes) -> Iterator[Any]:
    """Yield the items of ``{"data": [...]}`` one by one.

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


def many(
    model: type[Model], from_api: FromApi[Model] | None = None
) -> Callable[[HttpResponse], Listed[Model]]:
    """Return a reader of ``{"data": [...]}``, the whole list.

    :param model: the class of the items.
    :param from_api: reads an item; default None: the class does.
    """
    return lambda response: read_items(iter_items(response.body), model, from_api)


def page(
    model: type[Model], from_api: FromApi[Model] | None = None, *, is_lenient: bool = False
) -> Callable[[HttpResponse], Listed[Model]]:
    """Return a reader of ``{"data": [...], "hasMore": …}``, one page of a list.

    :param model, from_api: see :func:`many`.
    :param is_lenient: see :func:`json_of`.
    """

    def read(response: HttpResponse) -> Listed[Model]:
        data = object_of(response, is_lenient=is_lenient)
        has_more = data["hasMore"]
        if not isinstance(has_more, bool):
            # Otherwise an incomplete list could pass for a complete one.
            raise TypeError(f"field 'hasMore' is {json_type(has_more)}, not a boolean")
        return replace(read_items(list_in(data), model, from_api), has_more=has_more)

    return read


def read_items(items: Iterable[Any], model: type[Model], from_api: FromApi[Model] | None) -> Listed[Model]:
    """Read the items of a list.

    :param items: JSON values.
    :param model, from_api: see :func:`many`.
    :raises ValueError: if there are items, and none of them looks like Arroyo's.
    """
    read, is_arroyos = from_api or model.from_api, False
    readable: list[Model] = []
    names: list[str] = []
    wrong: list[str] = []
    for number, item in enumerate(items, start=1):
        try:
            readable.append(read(item))
        except UNREADABLE as err:
            is_arroyos = is_arroyos or looks_like(model, item)
            fields = item if isinstance(item, Mapping) else {}
            name = fields.get("name")
            names.append(name if isinstance(name, str) else "")
            known = [f"{key} {shorten(str(fields[key]), 80)!r}" for key in _SHOWN_FIELDS if key in fields]
            wrong.append(f"item {number} ({', '.join([*known, shorten(reason(err), 100)])})")
    if not wrong:
        return Listed(tuple(readable))
    more = f" and {len(wrong) - _MAX_SHOWN} more" if len(wrong) > _MAX_SHOWN else ""
    text = ", ".join(wrong[:_MAX_SHOWN]) + more
    if not (readable or is_arroyos):
        raise ValueError(text)
    return Listed(tuple(readable), ArroyoUnreadableItemError(text, names=tuple(names)))


def reason(error: Exception) -> str:
    """Return why a value is unreadable, in words."""
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def of_name(name: str) -> FromApi[Pipeline]:
    """Return the function that reads pipelines of one name. Of the others, only the id is read, which paging needs.

    :param name: the exact name.
    """

    def read(item: Mapping[str, Any]) -> Pipeline:
        if item["name"] == name or not isinstance(item["name"], str):
            return Pipeline.from_api(item)
        # Without SQL, it is something else.
        item["query"]
        return Pipeline(id=check_id(item["id"], "id"), name=item["name"], query="")

    return read


def with_name(items: Iterable[NamedItem], name: str) -> Iterator[NamedItem]:
    """Yield the items that have a name.

    :param items: a list, or all its pages.
    :param name: the exact name.
    :raises ArroyoUnreadableItemError: at the end, if an unreadable item has that name, or its name is unreadable too.
    """
    try:
        yield from (one for one in items if one.name == name)
    except ArroyoUnreadableItemError as err:
        if err.may_include(name):
            raise


def iter_pages(
    send: Callable[[Request[Listed[Item]]], Response[Listed[Item]]], first: Request[Listed[Item]]
) -> Iterator[Item]:
    """Yield each item of a list once; pages are requested as needed.

    ``starting_after`` also skips items with the same date as the named one, and returns nothing if that was deleted.
    So the next request asks for the same list again, ten times longer, or in full if that brings nothing new: a page
    may be shorter than requested, since Arroyo leaves out pipelines that it cannot read any more. Only if the server
    itself limits a page does it ask for the items after the last one.

    :param send: sends a request.
    :param first: requests the first page; has a limit.
    :raises ArroyoUnreadableItemError: after all readable items, if there is one that is not; names it.
    :raises ArroyoForeignResponseError: if an announced page does not come, for example because a cache ignores the
        query string, or if pages never end. Otherwise, existing items would seem to be missing.
    """
    seen: set[str] = set()
    params, grows = first.params, True
    error: ArroyoUnreadableItemError | None = None
    for _ in range(_MAX_PAGES):
        page = send(replace(first, params=params)).value
        # One page lists again what an earlier one did, if it is longer.
        error = page.error or error
        is_new = False
        for item in page.readable:
            # A page may repeat an item, too. Taken for two, the second would be deleted as a duplicate.
            if item.id not in seen:
                seen.add(item.id)
                is_new = True
                yield item
        if not page.has_more and (page.readable or not seen):
            if error is not None:
                raise error
            return
        limit = int(params["limit"])
        if grows and limit < _MAX_LIMIT:
            params = {**params, "limit": str(limit * _GROWTH if is_new else _MAX_LIMIT)}
        elif page.readable and (is_new or grows):
            params, grows = {**params, "starting_after": page.readable[-1].id}, False
        else:
            raise _incomplete(first, "a further page was announced, but it had nothing new")
    raise _incomplete(first, f"after {_MAX_PAGES:,} pages, more are announced")


def all_of(items: Iterable[T]) -> Listed[T]:
    """Return all items of a list that has pages.

    :param items: the items, as they are requested.
    """
    readable: list[T] = []
    try:
        # Keeps the items before an error.
        readable.extend(iter(items))
    except ArroyoUnreadableItemError as err:
        return Listed(tuple(readable), err)
    return Listed(tuple(readable))


def _incomplete(first: Request[Any], why: str) -> ArroyoForeignResponseError:
    return ArroyoForeignResponseError(
        f"{first} does not list everything: {why}. Check any gateway or cache in between.",
        status=200,
        **first.where,
    )


def pong(response: HttpResponse) -> None:
    """Read the response to a ping.

    :raises ValueError: if it is not Arroyo's.
    """
    if json_of(response) != "Pong":
        raise ValueError("the response to a ping is not Arroyo's 'Pong'")


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
