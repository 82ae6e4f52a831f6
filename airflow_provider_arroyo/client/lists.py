"""Reads lists item by item and page by page: what is wrong with one item does not concern the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from airflow_provider_arroyo.client.checks import check_id
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.reading import (
    DECODER,
    UNREADABLE,
    FromApi,
    iter_items,
    list_in,
    object_of,
    reason,
    text_of,
)
from airflow_provider_arroyo.client.request import HttpResponse, Request, Response
from airflow_provider_arroyo.client.wire import ApiModel, json_type, looks_like
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError, ArroyoUnreadableItemError
from airflow_provider_arroyo.text import shorten

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_SHOWN_FIELDS = ("id", "name", "epoch", "node_id", "operator_id")
_ITEM_WITH_NAME = re.compile(r'\{"id":"[^"\\]*","name":"')
_UNUSUAL_ITEM = re.compile(r'\},\{(?:\}|"(?!id":"|node_id":|src_id":|definition":))')
"""An item of a list, except the first one, that begins neither as a pipeline nor as what pipelines consist of."""

_MAX_SHOWN = 5
"""How many unreadable items an error describes."""

_GROWTH = 10

_MAX_LIMIT = 1_000_000
"""The limit from which on pages do not grow any more; Arroyo's own maximum is some two billion."""

_MAX_PAGES = 1000
"""The maximum number of pages. Arroyo fills each page, so a longer list would never end."""


class Named(Protocol):
    """An item of a list that has pages, or in which names are looked up."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str:
        """Its name."""


Model = TypeVar("Model", bound=ApiModel)
Item = TypeVar("Item", bound=Named)


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


def many(model: type[Model]) -> Callable[[HttpResponse], Listed[Model]]:
    """Return a reader of ``{"data": [...]}``, the whole list.

    :param model: the class of the items.
    """
    return lambda response: read_items(iter_items(response.body), model)


def page(
    model: type[Model], from_api: FromApi[Model] | None = None
) -> Callable[[HttpResponse], Listed[Model]]:
    """Return a reader of ``{"data": [...], "hasMore": …}``, one page of a list.

    :param model: the class of the items.
    :param from_api: reads an item; default None: the class does.
    """

    def read(response: HttpResponse) -> Listed[Model]:
        data = object_of(response.body)
        has_more = data["hasMore"]
        if not isinstance(has_more, bool):
            # Otherwise an incomplete list could pass for a complete one.
            raise TypeError(f"field 'hasMore' is {json_type(has_more)}, not a boolean")
        return replace(read_items(list_in(data), model, from_api), has_more=has_more)

    return read


def read_items(
    items: Iterable[Any], model: type[Model], from_api: FromApi[Model] | None = None
) -> Listed[Model]:
    """Read the items of a list.

    :param items: JSON values.
    :param model, from_api: see :func:`page`.
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


def page_of_name(name: str) -> Callable[[HttpResponse], Listed[Pipeline]]:
    """Return a reader of one page of the pipelines, for those of one name. Of others, at most id and name are read.

    A list of hundreds of kilobytes takes longer to parse than everything else in a task. So on the last page, only
    the items of that name are parsed, if each item begins as Arroyo writes it.

    :param name: the exact name.
    """

    def of_name(item: Mapping[str, Any]) -> Pipeline:
        if item["name"] == name or not isinstance(item["name"], str):
            return Pipeline.from_api(item)
        # Without SQL, it is something else.
        item["query"]
        return Pipeline(id=check_id(item["id"], "id"), name=item["name"], query="")

    whole = page(Pipeline, of_name)
    # None of these can occur in a string, whose quotes are escaped.
    begin, named = '{"id":"', f'"name":{json.dumps(name, ensure_ascii=False)}'

    def read(response: HttpResponse) -> Listed[Pipeline]:
        text = text_of(response.body)
        if not (text.startswith(f'{{"data":[{begin}') and text.endswith('}],"hasMore":false}')):
            return whole(response)
        # Objects inside of items do not follow another one, only items stand between items, and each has a name.
        if not text.count(begin) == 1 + text.count(f"}},{begin}") == len(_ITEM_WITH_NAME.findall(text)):
            return whole(response)
        if _UNUSUAL_ITEM.search(text):
            return whole(response)
        found, at = [], -1
        # If none of them can be read, the others tell whether the list is Arroyo's.
        with suppress(ValueError, RecursionError):
            while (at := text.find(named, at + 1)) >= 0:
                item, at = DECODER.raw_decode(text, text.rindex(begin, 0, at))
                found.append(item)
            if found and all(item["name"] == name for item in found):
                return read_items(found, Pipeline)
        return whole(response)

    return read


def with_name(items: Iterable[Item], name: str) -> Iterator[Item]:
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
        if page.error is not None:
            # A longer page lists again what an earlier one did; the next one does not.
            error = page.error if grows or error is None else error.with_items_of(page.error)
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
