"""Bodies of megabytes are read item by item, with the same result as ``json.loads``."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.reading import NotJsonError, iter_items
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.client.responses import interpret
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['"data": [', "]}", "\\", "\\u00e9"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)


def with_white_space(value: Any, rng: random.Random) -> str:
    """Write JSON with white space wherever it is allowed."""

    def space() -> str:
        return "".join(rng.choices(" \t\r\n", k=rng.choice([0, 0, 1, 3])))

    def write(value: Any) -> str:
        if isinstance(value, dict):
            fields = (f"{space()}{write(key)}{space()}:{write(item)}" for key, item in value.items())
            text = f"{{{','.join(fields) or space()}}}"
        elif isinstance(value, list):
            text = f"[{','.join(map(write, value)) or space()}]"
        else:
            return json.dumps(value, ensure_ascii=rng.random() < 0.5)
        return f"{space()}{text}{space()}"

    return write(value)


@settings(max_examples=50)
@given(items=st.lists(OBJECTS, max_size=4), rest=OBJECTS, rng=st.randoms(use_true_random=False))
def test_items_are_the_same_as_with_json_loads(
    items: list[dict[str, Any]], rest: dict[str, Any], rng: random.Random
) -> None:
    fields = [("data", items), *((f"x{key}", value) for key, value in rest.items())]
    rng.shuffle(fields)
    body = with_white_space(dict(fields), rng).encode()
    assert list(iter_items(body)) == json.loads(body)["data"] == items


@given(items=st.lists(OBJECTS, max_size=4), place=st.floats(0, 1, exclude_max=True), space=st.booleans())
def test_a_cut_body_is_an_error(items: list[dict[str, Any]], place: float, space: bool) -> None:
    body = json.dumps({"data": items}, indent=1 if space else None).encode()
    with pytest.raises(NotJsonError):
        list(iter_items(body[: int(len(body) * place)]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><html><body></body></html>",
        b'{"data": [{} {}]}',
        b'{"data": [{},]}',
        b'{"data": [,{}]}',
        b'{"data": []} and more',
        b'{"data": []',
        b'{"data": [{}]]',
        b'{"data": [{"a": "b\xff}]}',
        b'{"data": [' + b'{"a":' * 100_000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_another_body_is_an_error(body: bytes) -> None:
    with pytest.raises(NotJsonError):
        list(iter_items(body))


@pytest.mark.parametrize(
    "body, words",
    [
        (b'{"data": 7}', "field 'data' is a number, not a list"),
        (b'{"hasMore": false, "data": true}', "field 'data' is a boolean, not a list"),
        (b'{"data": null}', "field 'data' is null, not a list"),
        (b'{"data": {"items": [{"id": 1}]}}', "field 'data' is an object, not a list"),
        (b'{"data": "[{}]"}', "field 'data' is a string, not a list"),
        (b"[]", "the response is a list, not an object"),
        (b"null", "the response is null, not an object"),
        (b"1.5", "the response is a number, not an object"),
        (b"{}", "field 'data' is missing"),
        (b'{"message": "the data: [] is away"}', "field 'data' is missing"),
        (b'{"status": "ok", "note": "\\"data\\": [1]"}', "field 'data' is missing"),
    ],
)
def test_json_of_another_shape_is_named(body: bytes, words: str) -> None:
    """Read item by item or as a whole: the error names what was expected and what came."""
    request = endpoints.list_checkpoints("pl_1", "job_1")
    reads: tuple[Any, ...] = (lambda response: tuple(iter_items(response.body)), request.read)
    for read in reads:
        response = HttpResponse(200, {"content-type": "application/json"}, body, "http://arroyo/api/v1/x")
        with pytest.raises(ArroyoForeignResponseError) as caught:
            interpret(replace(request, read=read), response, ClientSettings(base_url="http://arroyo"))
        assert f"something that is not Arroyo's ({words})" in str(caught.value)
        assert f"The response began: {body.decode()!r}" in str(caught.value)


def test_items_before_the_cut_are_yielded() -> None:
    items = iter_items(b'{"data": [{"id": "a"}, {"id": "b"}, {"i')
    assert [next(items)["id"], next(items)["id"]] == ["a", "b"]
    with pytest.raises(NotJsonError):
        next(items)


def test_items_need_not_be_objects() -> None:
    assert list(iter_items(b'{"data": [1, null, {"id": "a"}, "x", [{}]]}')) == [
        1,
        None,
        {"id": "a"},
        "x",
        [{}],
    ]
