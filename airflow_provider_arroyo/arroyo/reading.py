"""How the bodies of Arroyo's answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_provider_arroyo.arroyo.call import Answer
from airflow_provider_arroyo.arroyo.details import Page

T = TypeVar("T")

FromApi = Callable[[Mapping[str, Any]], T]


class NotJsonError(ValueError):
    """The body is not JSON, or JSON that breaks off."""


def json_of(answer: Answer, *, in_place_of: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the JSON value of a body.

    :param in_place_of: is given each object, the inner ones first, and returns what to put in its place. Of a
        long list, what nobody wants is so dropped before the rest is read.
    :raises NotJsonError: where it is not JSON.
    """
    try:
        return json.loads(answer.body, object_hook=in_place_of)
    except (ValueError, RecursionError) as err:
        raise NotJsonError(str(err)) from err


def object_of(
    answer: Answer, *, in_place_of: Callable[[dict[str, Any]], Any] | None = None
) -> Mapping[str, Any]:
    """Return the JSON object of a body.

    :param in_place_of: as for :func:`json_of`.
    :raises NotJsonError: where it is not JSON.
    :raises TypeError: where it is another value.
    """
    value = json_of(answer, in_place_of=in_place_of)
    if not isinstance(value, dict):
        raise TypeError(f"the answer is {type(value).__name__}, not an object")
    return value


def list_in(data: Mapping[str, Any]) -> list[Any]:
    """Return the items of ``{"data": [...]}``.

    :raises KeyError, TypeError: where it has none.
    """
    items = data["data"]
    if not isinstance(items, list):
        raise TypeError(f"field 'data' is {type(items).__name__}, not a list")
    return items


def one(from_api: FromApi[T]) -> Callable[[Answer], T]:
    """Return a reader of a single object."""
    return lambda answer: from_api(object_of(answer))


def many(from_api: FromApi[T]) -> Callable[[Answer], tuple[T, ...]]:
    """Return a reader of ``{"data": [...]}``, which is the whole list."""
    return lambda answer: tuple(from_api(item) for item in list_in(object_of(answer)))


def page(from_api: FromApi[T]) -> Callable[[Answer], Page[T]]:
    """Return a reader of ``{"data": [...], "hasMore": …}``, one page of a list."""

    def read(answer: Answer) -> Page[T]:
        data = object_of(answer)
        return Page(tuple(from_api(item) for item in list_in(data)), bool(data.get("hasMore", False)))

    return read


def nothing(answer: Answer) -> None:
    """Read an answer that has nothing to say: no body, or any JSON.

    :raises NotJsonError: where it says something else, such as the login page of a gateway.
    """
    if answer.body:
        json_of(answer)


def pong(answer: Answer) -> None:
    """Read the answer to a ping.

    :raises ValueError: where it is another than Arroyo's.
    """
    if json_of(answer) != "Pong":
        raise ValueError("a ping is answered by something else than Arroyo's 'Pong'")
