"""Paging leaves nothing out, repeats nothing, and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.lists import Listed, iter_pages
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.request import Request, Response
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.client.conftest import PIPELINE, SPEC, Connect
from tests.client.server import Server, reply
from tests.support import ENDLESS


class Listing:
    """Lists pipelines as a real server does: sorted by date, each page beginning with an earlier date than the last.

    :param dates: of its pipelines.
    :param max_page: the server's limit for the size of a page.
    :param deletions: for how many pages the last pipeline of a page is deleted before the next page is requested.
    :param unreadable: the ids of pipelines that it leaves out of its pages, since it cannot read them.
    """

    def __init__(
        self, dates: list[int], *, max_page: int = 10_000, deletions: int = 0, unreadable: Sequence[str] = ()
    ) -> None:
        self._unreadable = unreadable
        self.pipelines = [
            Pipeline(id=f"pl_{number}", name="n", query="q", created_at_micros=date)
            for number, date in enumerate(dates)
        ]
        self._max_page = max_page
        self._deletions = deletions
        self._last: str | None = None
        self.requests = 0

    def ids(self) -> list[str]:
        return sorted(pipeline.id for pipeline in self.pipelines)

    def send(self, request: Request[Listed[Pipeline]]) -> Response[Listed[Pipeline]]:
        self.requests += 1
        assert self.requests < 2000, "the pages never end"
        after = request.params.get("starting_after")
        if self._deletions > 0 and self._last is not None:
            self._deletions -= 1
            self.pipelines = [pipeline for pipeline in self.pipelines if pipeline.id != self._last]
        listed = sorted(self.pipelines, key=lambda pipeline: -pipeline.created_at_micros)
        if after is not None:
            dates = [pipeline.created_at_micros for pipeline in listed if pipeline.id == after]
            listed = [pipeline for pipeline in listed if dates and pipeline.created_at_micros < dates[0]]
        limit = min(int(request.params["limit"]), self._max_page)
        self._last = listed[:limit][-1].id if listed else None
        page = tuple(one for one in listed[:limit] if one.id not in self._unreadable)
        return Response(Listed(page, has_more=len(listed) > limit))

    def walk(self, limit: int, starting_after: str | None = None) -> list[Pipeline]:
        """Return the pipelines that a walk through all pages finds."""
        first = endpoints.list_pipelines(limit=limit, starting_after=starting_after)
        return list(iter_pages(self.send, first))


@given(dates=st.lists(st.integers(0, 6), max_size=60), limit=st.integers(1, 12))
def test_pages_leave_nothing_out_and_repeat_nothing(dates: list[int], limit: int) -> None:
    listing = Listing(dates)
    found = listing.walk(limit)
    assert sorted(pipeline.id for pipeline in found) == listing.ids()
    found_dates = [pipeline.created_at_micros for pipeline in found]
    assert found_dates == sorted(found_dates, reverse=True)


@given(dates=st.lists(st.integers(0, 6), max_size=40), limit=st.integers(1, 12), start=st.integers(0, 39))
def test_pages_from_a_start(dates: list[int], limit: int, start: int) -> None:
    listing = Listing(dates)
    begin = dates[start] if start < len(dates) else 0
    expected = [one.id for one in listing.pipelines if one.created_at_micros < begin]
    assert sorted(one.id for one in listing.walk(limit, f"pl_{start}")) == sorted(expected)


@given(
    dates=st.lists(st.integers(0, 40), max_size=60, unique=True),
    limit=st.integers(1, 12),
    deletions=st.integers(1, 3),
)
def test_pipelines_that_are_deleted_between_pages(dates: list[int], limit: int, deletions: int) -> None:
    listing = Listing(dates, deletions=deletions)
    found = {pipeline.id for pipeline in listing.walk(limit)}
    assert set(listing.ids()) <= found


@given(dates=st.lists(st.integers(0, 3), max_size=40), limit=st.integers(1, 12), cap=st.integers(1, 12))
def test_a_smaller_page_limit_lists_everything_or_is_an_error(dates: list[int], limit: int, cap: int) -> None:
    listing = Listing(dates, max_page=cap)
    try:
        found = listing.walk(limit)
    except ArroyoForeignResponseError:
        # The pipelines of one date do not fit into a page.
        assert max(dates.count(date) for date in dates) > 1
    else:
        assert len({pipeline.id for pipeline in found}) == len(found)


@given(
    dates=st.lists(st.integers(0, 100), max_size=40, unique=True),
    limit=st.integers(1, 12),
    cap=st.integers(1, 12),
)
def test_a_smaller_page_limit_lists_everything(dates: list[int], limit: int, cap: int) -> None:
    listing = Listing(dates, max_page=cap)
    assert sorted(pipeline.id for pipeline in listing.walk(limit)) == listing.ids()


@pytest.mark.parametrize(
    "unreadable",
    [[0], [1], [0, 1], [0, 1, 2, 3, 4], [4], [9], [*range(10)], [*range(2, 30)], [*range(2, 70)]],
)
def test_pipelines_that_arroyo_cannot_read_make_a_page_shorter(unreadable: list[int]) -> None:
    """All others are found, although many are of the same second."""
    left_out = [f"pl_{number}" for number in unreadable]
    listing = Listing([7] * 80 + [5, 3], unreadable=left_out)
    found = {pipeline.id for pipeline in listing.walk(2)}
    assert found == set(listing.ids()) - set(left_out)


def pipelines(*ids: str, more: bool) -> Any:
    # Their alphabetical order is that of their age.
    data = [{**PIPELINE, "id": one, "created_at": 1000 - ord(one[0])} for one in ids]
    return reply({"data": data, "hasMore": more})


def test_pages_over_http(client: ArroyoClient, server: Server) -> None:
    """Each is longer and begins at the start, or after the last one's end if the server limits a page itself."""
    server.play(
        pipelines("a", "b", "c", more=True),
        pipelines("a", "b", "c", "d/x", more=True),
        pipelines("a", "b", "c", "d/x", more=True),
        pipelines("a", "b", "c", "d/x", more=True),
        pipelines("e", more=False),
    )
    assert [pipeline.id for pipeline in client.iter_pipelines(page_size=3)] == ["a", "b", "c", "d/x", "e"]
    assert [request.target.partition("?")[2] for request in server.requests] == [
        "limit=3",
        "limit=30",
        "limit=300",
        "limit=1000000",
        "limit=1000000&starting_after=d%2Fx",
    ]


@pytest.mark.parametrize("name", [None, "orders"])
@pytest.mark.parametrize("ids", ["aab", "abab", "aabb"])
def test_a_page_that_repeats_a_pipeline(
    ids: str, name: str | None, client: ArroyoClient, server: Server
) -> None:
    """A gateway that merges responses does so. Taken for two pipelines, one would be deleted as a duplicate."""
    server.play(pipelines(*ids, more=True), pipelines(*ids, "c", "c", more=False))
    assert [pipeline.id for pipeline in client.iter_pipelines(name=name)] == ["a", "b", "c"]


def test_pages_are_requested_when_they_are_needed(client: ArroyoClient, server: Server) -> None:
    server.play(pipelines("a", "b", more=True))
    assert next(client.iter_pipelines()).id == "a"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        [pipelines(more=True)],
        [pipelines("a", more=True)],
        # A cache that ignores the query string.
        [pipelines("a", "b", more=True)],
        [pipelines("a", "b", more=True), pipelines(more=True)],
        [pipelines("a", "b", more=True), pipelines(more=False)],
        [pipelines("a", more=True), pipelines("a", more=True), pipelines(more=False)],
    ],
)
def test_a_missing_page_is_an_error(script: list[Any], client: ArroyoClient, server: Server) -> None:
    """Unlisted pipelines would count as missing, and be created again."""
    server.play(*script)
    with pytest.raises(ArroyoForeignResponseError, match="does not list everything"):
        list(client.iter_pipelines(page_size=2))
    assert len(server.requests) <= 4


def test_pages_that_never_end(client: ArroyoClient) -> None:
    """Each has something new, from a server that invents ids."""
    requests: list[Request[Listed[Pipeline]]] = []

    def send(request: Request[Listed[Pipeline]]) -> Response[Listed[Pipeline]]:
        requests.append(request)
        return Response(Listed((Pipeline(id=f"pl_{len(requests)}", name="n", query="q"),), has_more=True))

    with pytest.raises(ArroyoForeignResponseError, match="after 1,000 pages, more are announced"):
        list(iter_pages(send, endpoints.list_pipelines(limit=100)))
    assert len(requests) == 1000


@pytest.mark.parametrize(
    "body",
    [{"data": []}, {"data": [], "hasMore": None}, {"data": [], "hasMore": 0}, {"data": [], "has_more": 1}],
)
@pytest.mark.parametrize("name", [None, "orders"])
def test_the_list_of_another_product_is_refused(
    name: str | None, body: dict[str, Any], client: ArroyoClient, server: Server
) -> None:
    server.play(reply(body))
    once = client.with_limits(max_elapsed_seconds=0.0)
    with pytest.raises(ArroyoForeignResponseError, match="hasMore"):
        list(once.iter_pipelines(name=name))


def test_the_default_page_size_is_100(client: ArroyoClient, server: Server) -> None:
    server.play(reply({"data": [], "hasMore": False}))
    assert list(client.iter_connection_tables()) == []
    assert list(client.iter_pipelines()) == []
    assert [request.target.partition("?")[2] for request in server.requests] == ["limit=100", "limit=100"]


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_a_server_whose_dates_are_whole_seconds_is_listed_in_full(version: str, connect: Connect) -> None:
    """All were created within a second, so every page but the first could be lost."""
    with ArroyoSandbox(arroyo_version=version, clock=ManualClock()) as sandbox:
        client = connect(sandbox.url)
        made = [client.create_pipeline(**{**SPEC, "query": ENDLESS}).id for _ in range(9)]
        found = list(client.iter_pipelines(page_size=2))
    assert len({pipeline.created_at_micros for pipeline in found}) < 9
    assert sorted(pipeline.id for pipeline in found) == sorted(made)
