"""How the bodies of Arroyo's responses are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_arroyo.client.details import Page

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.request import HttpResponse

T = TypeVar("T")

_OBJECT_START = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_LIST_START = re.compile(r'"data"[ \t\r\n]*:[ \t\r\n]*\[[ \t\r\n]*')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_LIST_END = re.compile(r"[ \t\r\n]*\][ \t\r\n]*(,.*)?\}[ \t\r\n]*", re.DOTALL)

FromApi = Callable[[Mapping[str, Any]], T]


class NotJsonError(ValueError):
    """The body is not JSON, or JSON that is cut short."""


def json_of(response: HttpResponse) -> Any:
    """Return the JSON value of a body.

    :raises NotJsonError: where it is not JSON.
    """
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError) as err:
        raise NotJsonError(str(err)) from err


def object_of(response: HttpResponse) -> Mapping[str, Any]:
    """Return the JSON object of a body.

    :raises NotJsonError: where it is not JSON.
    :raises TypeError: where it is another value.
    """
    value = json_of(response)
    if not isinstance(value, dict):
        raise TypeError(f"the response is {type(value).__name__}, not an object")
    return value


def list_in(data: Mapping[str, Any]) -> list[Any]:
    """Return the items of ``{"data": [...]}``.

    :raises KeyError, TypeError: where it has none.
    """
    items = data["data"]
    if not isinstance(items, list):
        raise TypeError(f"field 'data' is {type(items).__name__}, not a list")
    return items


def iter_items(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects of ``{"data": [...]}`` one by one.

    A list of megabytes is so never held in memory as a whole, nor is Python's lock while it is parsed.

    :raises NotJsonError: where the body is not such a list.
    """
    decode = json.JSONDecoder().raw_decode
    try:
        text = body.decode(json.detect_encoding(body))
        at = _after(_OBJECT_START, text, 0)
        while (start := _LIST_START.match(text, at)) is None:
            # Another key comes before the list.
            _, at = decode(text, at)
            _, at = decode(text, _after(_COLON, text, at))
            at = _after(_COMMA, text, at)
        at = start.end()
        separator = None if text[at] == "]" else start
        while separator is not None:
            item, at = decode(text, at)
            # What is no object says nothing of any job; the others count all the same.
            if isinstance(item, dict):
                yield item
            separator = _COMMA.match(text, at)
            at = at if separator is None else separator.end()
        if _LIST_END.fullmatch(text, at) is None:
            raise ValueError("the list does not end as it should")
    except (ValueError, IndexError, RecursionError) as err:
        raise NotJsonError(str(err)) from err


def _after(part: re.Pattern[str], text: str, at: int) -> int:
    """Return where a part of a list's frame ends.

    :raises ValueError: where it is not there.
    """
    found = part.match(text, at)
    if found is None:
        raise ValueError("the body is not a list")
    return found.end()


def one(from_api: FromApi[T]) -> Callable[[HttpResponse], T]:
    """Return a reader of a single object."""
    return lambda response: from_api(object_of(response))


def many(from_api: FromApi[T]) -> Callable[[HttpResponse], tuple[T, ...]]:
    """Return a reader of ``{"data": [...]}``, the whole list."""
    return lambda response: tuple(from_api(item) for item in list_in(object_of(response)))


def page(from_api: FromApi[T]) -> Callable[[HttpResponse], Page[T]]:
    """Return a reader of ``{"data": [...], "hasMore": …}``, one page of a list."""

    def read(response: HttpResponse) -> Page[T]:
        data = object_of(response)
        return Page(tuple(from_api(item) for item in list_in(data)), bool(data.get("hasMore", False)))

    return read


def nothing(response: HttpResponse) -> None:
    """Read a response without a value: no body, or any JSON.

    :raises NotJsonError: on anything else, such as the login page of a gateway.
    """
    if response.body:
        json_of(response)


def pong(response: HttpResponse) -> None:
    """Read the response to a ping.

    :raises ValueError: where it is not Arroyo's.
    """
    if json_of(response) != "Pong":
        raise ValueError("the response to a ping is not Arroyo's 'Pong'")
