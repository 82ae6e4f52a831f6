"""One item of a list that cannot be read: the others are read, and it is named where it is needed."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_provider_arroyo.client import catalog
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.lists import all_of, with_name
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError, ArroyoUnreadableItemError
from tests.client.conftest import PIPELINE
from tests.client.server import Server, reply
from tests.support import Lines

JOB = {"id": "job_1", "state": "Running", "run_id": 1}
PROFILE = {"id": "p_1", "name": "kafka", "connector": "kafka", "config": {}}
TABLE = {**PROFILE, "table_type": "source", "schema": {}}


@pytest.mark.parametrize(
    "request_, good, bad, words",
    [
        (api.list_jobs(), JOB, {"state": None}, "item 2 (id 'job_1', field 'state': it is null"),
        (api.list_jobs(), JOB, {"state": 7}, "item 2 (id 'job_1', field 'state': it is a number"),
        (api.list_jobs(), JOB, {"id": ["x"]}, "item 2 (id \"['x']\", field 'id': it is a list"),
        (api.list_jobs(), JOB, None, "item 2 (it is null, not an object)"),
        (
            api.list_pipelines(limit=9),
            PIPELINE,
            {"name": None},
            "id 'pl_1', name 'None', field 'name': it is",
        ),
        (
            api.list_pipelines(limit=9),
            PIPELINE,
            {"query": "\ud800"},
            "id 'pl_1', name 'orders', field 'query': it has '\\ud800'",
        ),
        (
            api.list_pipelines(limit=9),
            PIPELINE,
            {"tags": []},
            "id 'pl_1', name 'orders', field 'tags': it is",
        ),
        (api.list_job_errors("pl_1", "j"), {"id": "e1"}, {"id": 1}, "field 'id': it is a number"),
        (
            api.list_checkpoints("pl_1", "j"),
            {"epoch": 3, "start_time": 1},
            {"start_time": None},
            "item 2 (epoch '3', field 'start_time'",
        ),
        (
            api.list_metrics("pl_1", "j"),
            {"node_id": 3, "metric_groups": []},
            {"metric_groups": 1},
            "item 2 (node_id '3', field 'metric_groups'",
        ),
        (catalog.list_connection_profiles(), PROFILE, {"name": 1}, "id 'p_1', name '1', field 'name'"),
        (catalog.list_connection_tables(), TABLE, {"config": "x"}, "name 'kafka', field 'config'"),
        (catalog.list_connectors(), {"id": "c", "name": "n"}, "x", "item 2 (it is a string, not an object)"),
    ],
)
def test_the_others_are_read_and_the_error_names_the_item(
    request_: Request[Any], good: Any, bad: Any, words: str, client: ArroyoClient, server: Server
) -> None:
    item = {**good, **bad} if isinstance(bad, dict) else bad
    server.play(reply({"data": [good, item, {**good}], "hasMore": False}))
    found = client.send(request_).value
    assert len(found.readable) == 2
    assert found.readable[0] == found.readable[1]
    seen = []
    with pytest.raises(ArroyoUnreadableItemError) as caught:
        seen.extend(iter(found))
    assert seen == [*found.readable]
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"GET {server.url()}/api/v1{request_.path}")
    for use in (len, bool, list, lambda listed: listed[0]):
        with pytest.raises(ArroyoUnreadableItemError):
            use(found)
    lines, log = Lines(), logging.Logger("tests.client")
    log.addHandler(lines)
    assert found.shown(log) == found.readable
    assert lines.text() == str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("encoded", [b"\xff", rb"\ud800"])
def test_bytes_that_are_not_text_concern_one_item(
    encoded: bytes, client: ArroyoClient, server: Server
) -> None:
    items = [{**PIPELINE, "query": "SELECT '?'"}, {**PIPELINE, "id": "pl_2"}]
    body = json.dumps({"data": items, "hasMore": False}).encode().replace(b"?", encoded)
    server.play(reply(body))
    found = client.list_pipelines()
    assert [one.id for one in found.readable] == ["pl_2"]
    assert "id 'pl_1', name 'orders', field 'query'" in str(found.error)


def test_a_list_without_one_readable_item_is_not_arroyos(client: ArroyoClient, server: Server) -> None:
    server.play(reply({"data": [{"id": 1, "title": "x"}, 7]}))
    with pytest.raises(ArroyoForeignResponseError, match="something that is not Arroyo's") as caught:
        client.with_limits(max_elapsed_seconds=0.0).list_jobs()
    assert not isinstance(caught.value, ArroyoUnreadableItemError)


def test_jobs_instead_of_checkpoints_are_not_arroyos_response(client: ArroyoClient, server: Server) -> None:
    """A gateway mixed two responses up. A job of 0.15 also has a start time, as a checkpoint does."""
    server.play(reply({"data": [{**JOB, "start_time": 1, "finish_time": None}]}))
    once = client.with_limits(max_elapsed_seconds=0.0)
    with pytest.raises(ArroyoForeignResponseError, match="field 'epoch' is missing") as caught:
        once.send(api.list_checkpoints("pl_1", "job_1"))
    assert not isinstance(caught.value, ArroyoUnreadableItemError)


def test_one_damaged_item_alone_is_arroyos(client: ArroyoClient, server: Server) -> None:
    """Otherwise, a server with one pipeline would not look like Arroyo."""
    server.play(reply({"data": [{**JOB, "state": 7}]}))
    assert client.list_jobs().readable == ()
    assert client.has_responded


def test_many_unreadable_items_are_counted(client: ArroyoClient, server: Server) -> None:
    items = [JOB, *({"id": f"bad_{number}"} for number in range(40))]
    server.play(reply({"data": items}))
    text = str(client.list_jobs().error)
    assert "bad_4" in text
    assert "bad_5" not in text
    assert " and 35 more. " in text


def test_secrets_in_an_unreadable_item_are_not_shown(client: ArroyoClient, server: Server) -> None:
    secret = "https://me:hunter2pass@host"
    bad = {**PIPELINE, "id": "pl_2", "name": f"from {secret}", "query": 5}
    server.play(reply({"data": [PIPELINE, bad], "hasMore": False}))
    assert "hunter2pass" not in str(client.list_pipelines().error)


@pytest.mark.parametrize("first", ["readable", "unreadable"])
def test_all_pages_are_read_before_the_error(first: str, client: ArroyoClient, server: Server) -> None:
    bad = {**PIPELINE, "id": "pl_bad", "stop": None}
    items = [{**PIPELINE, "id": "pl_2"}, bad] if first == "readable" else [bad, {**PIPELINE, "id": "pl_2"}]
    server.play(
        reply({"data": items, "hasMore": True}),
        reply({"data": [*items, {**PIPELINE, "id": "pl_3"}], "hasMore": False}),
    )
    found = all_of(client.iter_pipelines(page_size=2))
    assert [one.id for one in found.readable] == ["pl_2", "pl_3"]
    assert "pl_bad" in str(found.error)


def test_the_error_names_what_is_unreadable_on_any_page(client: ArroyoClient, server: Server) -> None:
    """The server limits its pages, so that no page has the items of an earlier one."""
    pages = [
        [
            {**PIPELINE, "id": f"pl_bad_{name}", "name": name, "stop": 7},
            {**PIPELINE, "id": name, "name": name},
        ]
        for name in ("orders", "other")
    ]
    capped = reply({"data": pages[0], "hasMore": True})
    server.play(capped, capped, capped, reply({"data": pages[1], "hasMore": False}))
    error = all_of(client.iter_pipelines(page_size=2)).error
    assert error is not None
    assert error.names == ("orders", "other")
    assert "pl_bad_orders" in str(error)
    assert "pl_bad_other" in str(error)
    server.play(capped, capped, capped, reply({"data": pages[1], "hasMore": False}))
    with pytest.raises(ArroyoUnreadableItemError):
        [*client.iter_pipelines(name="orders", page_size=2)]


@pytest.mark.parametrize(
    "bad, is_needed",
    [
        ({"stop": 7}, True),
        ({"name": None}, True),
        ({"name": 5}, True),
        ({"name": "other", "stop": 7}, False),
        ({"name": "other", "id": None}, False),
        ("x", True),
    ],
)
def test_a_name_is_looked_up_beside_unreadable_pipelines_of_other_names(
    bad: Any, is_needed: bool, client: ArroyoClient, server: Server
) -> None:
    item = {**PIPELINE, "id": "pl_2", **bad} if isinstance(bad, dict) else bad
    server.play(reply(json.loads(json.dumps({"data": [item, PIPELINE], "hasMore": False}))))
    found = all_of(client.iter_pipelines(name="orders"))
    assert [one.id for one in found.readable] == ["pl_1"]
    assert (found.error is not None) == is_needed


@pytest.mark.parametrize(
    "bad, is_needed", [({"name": "b"}, False), ({"name": 1}, True), ({"name": "a"}, True)]
)
def test_a_name_that_is_not_found_may_be_that_of_an_unreadable_item(
    bad: dict[str, Any], is_needed: bool, client: ArroyoClient, server: Server
) -> None:
    server.play(reply({"data": [PROFILE, {**PROFILE, "config": 1, **bad}]}))
    profiles = client.list_connection_profiles()
    assert next(with_name(profiles, "kafka"), None) == profiles.readable[0]
    if is_needed:
        with pytest.raises(ArroyoUnreadableItemError):
            next(with_name(profiles, "a"), None)
    else:
        assert next(with_name(profiles, "a"), None) is None
