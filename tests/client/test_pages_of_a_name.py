"""A page that is read for the pipelines of one name has the same ones as a page that is read as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.lists import with_name
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.exceptions import ArroyoUnreadableItemError
from tests.client.conftest import PIPELINE

NAMES = st.sampled_from(["orders", "Ärger", 'a "b"', "a\nb", "\\", "x" * 30, "", "name"])
TEXTS = NAMES | st.sampled_from(['{"id":"x","name":"orders","query":""}', '","name":"orders"', "],[{}"])
# What makes an item unreadable, or similar to two.
ODD: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"name": None},
        {"query": 7},
        {"tags": []},
        {"query": "\udcff"},
        {"tags": {"id": "x", "name": "orders", "query": "q"}},
        {"udfs": [{"id": "x", "name": "orders", "query": "q"}]},
        {"tags": {"name": "orders"}},
    ]
)


# What is no pipeline, or one that lacks its beginning.
NO_PIPELINES: list[Any] = [None, {}, 7, [], "x", {"id": 5, "name": "orders"}, {"name": "orders", "id": "x"}]


@st.composite
def pipelines(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [
        {**PIPELINE, "id": f"pl_{number}", "name": draw(NAMES), "query": draw(TEXTS), **draw(ODD)}
        for number in range(draw(st.integers(0, 6)))
    ]


def expected(items: list[dict[str, Any]], name: str) -> tuple[list[Pipeline], bool]:
    """Return the pipelines of a name, and whether an unreadable item may have it."""
    readable, is_unreadable = [], False
    for item in items:
        try:
            pipeline = Pipeline.from_api(item)
        except (TypeError, ValueError):
            is_unreadable = is_unreadable or item["name"] in (name, None)
        else:
            readable += [pipeline] if pipeline.name == name else []
    return readable, is_unreadable


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("item", NO_PIPELINES, ids=str)
def test_what_is_no_pipeline_is_reported_beside_those_of_the_name(item: Any, at: int) -> None:
    """Its name cannot be read, so it may be another pipeline of that name."""
    items: list[Any] = [PIPELINE, {**PIPELINE, "id": "pl_2"}]
    items.insert(at, item)
    body = json.dumps({"data": items, "hasMore": False}, separators=(",", ":")).encode()
    page = endpoints.list_pipelines(name="orders").read(HttpResponse(200, {}, body, ""))
    assert {one.id for one in page.readable} == {"pl_1", "pl_2"}
    with pytest.raises(ArroyoUnreadableItemError):
        [*with_name(page, "orders")]


def test_the_only_pipeline_of_the_name_may_be_damaged() -> None:
    """The list is Arroyo's nevertheless, as the other pipelines show."""
    items = [{**PIPELINE, "name": "other"}, {"id": "pl_2", "name": "orders"}]
    body = json.dumps({"data": items, "hasMore": False}, separators=(",", ":")).encode()
    page = endpoints.list_pipelines(name="orders").read(HttpResponse(200, {}, body, ""))
    with pytest.raises(ArroyoUnreadableItemError, match="id 'pl_2', name 'orders'"):
        [*with_name(page, "orders")]


@given(
    items=pipelines(),
    name=NAMES.filter(bool),
    has_more=st.booleans(),
    is_ascii=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": ")]),
    turned=st.booleans(),
)
@example([PIPELINE, {**PIPELINE, "id": "pl_2"}], "orders", False, True, (",", ":"), False)
def test_a_page_of_a_name(
    items: list[dict[str, Any]],
    name: str,
    has_more: bool,
    is_ascii: bool,
    separators: tuple[str, str],
    turned: bool,
) -> None:
    data = [dict(reversed(item.items())) for item in items] if turned else items
    body = json.dumps({"data": data, "hasMore": has_more}, ensure_ascii=is_ascii, separators=separators)
    response = HttpResponse(200, {}, body.encode(errors="surrogateescape"), "")

    try:
        page = endpoints.list_pipelines(name=name).read(response)
    except ValueError:
        # Nothing in it can be read.
        assert expected(items, name)[0] == []
        return
    found: list[Pipeline] = []
    is_unreadable = False
    try:
        found.extend(with_name(page, name))
    except ArroyoUnreadableItemError:
        is_unreadable = True
    assert (found, is_unreadable) == expected(items, name)
    assert page.has_more == has_more
