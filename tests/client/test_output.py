"""The output stream of a preview, however it is split into chunks and however it ends."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.output import MAX_EVENT_BYTES, OutputParser
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoForeignResponseError,
)
from tests.client.conftest import ONCE, Clock, Connect
from tests.client.server import CLOSE, Reply, Server, reply

STREAM = "text/event-stream"
OPEN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(start_id: int) -> str:
    data = {
        "operator_id": "sink",
        "subtask_idx": 0,
        "timestamps": [1],
        "start_id": start_id,
        "batch": '[{"é":1}]',
    }
    return f"data: {json.dumps(data, ensure_ascii=False)}\nid: {start_id}\n\n"


def chunk(text: str) -> bytes:
    data = text.encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@given(st.lists(st.integers(min_value=0, max_value=400)), st.sampled_from(["\n", "\r\n", "\r"]))
def test_batches_do_not_depend_on_the_chunks(cuts: list[int], line_end: str) -> None:
    text = (": keep-alive\n\n" + event(1) + "event: other\n\n" + event(2) + event(3)).replace("\n", line_end)
    data = text.encode() + (b":" if line_end == "\r" else b"")
    places = [0, *sorted({min(place, len(data)) for place in cuts}), len(data)]
    parser = OutputParser()
    batches = [batch for start, end in itertools.pairwise(places) for batch in parser.feed(data[start:end])]
    assert [(batch.start_id, batch.batch) for batch in batches] == [(n, '[{"é":1}]') for n in (1, 2, 3)]


def test_data_of_several_lines_is_one_event() -> None:
    first, second = event(5).splitlines()[0].removeprefix("data: ").split(", ", 1)
    data = f"data:{first},\ndata: {second}\n\n"
    assert [batch.start_id for batch in OutputParser().feed(data.encode())] == [5]


@pytest.mark.parametrize("line", ["data: {}\n", "data: {}"], ids=["many lines", "one line"])
def test_an_event_that_does_not_end_is_an_error(line: str) -> None:
    parser, chunk = OutputParser(), line.format("x" * 1_000_000).encode()
    for _ in range(MAX_EVENT_BYTES // len(chunk)):
        assert list(parser.feed(chunk)) == []
    with pytest.raises(ValueError, match="does not end"):
        list(parser.feed(chunk))


def test_an_unfinished_event_is_left_out(client: ArroyoClient, server: Server) -> None:
    server.play(reply(event(1) + event(2)[:-1], content_type=STREAM))
    assert [batch.start_id for batch in client.stream_output("p", "j")] == [1]


def test_batches_are_yielded_while_the_stream_is_open(client: ArroyoClient, server: Server) -> None:
    server.play(Reply(OPEN + chunk(event(1)) + chunk(event(2)), "hang"))
    stream = client.stream_output("p", "j")
    assert [next(stream).start_id, next(stream).start_id] == [1, 2]


def test_there_is_no_output_before_the_job_runs(client: ArroyoClient, server: Server, clock: Clock) -> None:
    server.play(reply({"error": "Job must be running to read output"}, 400))
    with pytest.raises(ArroyoApiError, match="Job must be running to read output") as caught:
        list(client.stream_output("p", "j"))
    assert caught.value.status == 400
    assert clock.slept == []


def test_opening_the_stream_is_retried(client: ArroyoClient, server: Server, clock: Clock) -> None:
    server.play(CLOSE, reply(None, 503), reply(event(1), content_type=STREAM))
    assert [batch.start_id for batch in client.stream_output("p", "j")] == [1]
    assert len(clock.slept) == 2


def test_a_broken_stream_is_not_opened_again(client: ArroyoClient, server: Server, clock: Clock) -> None:
    server.play(Reply(OPEN + chunk(event(1)), "close"))
    with pytest.raises(ArroyoConnectionError, match="cut short"):
        list(client.stream_output("p", "j"))
    assert len(server.requests) == 1
    assert clock.slept == []


@pytest.mark.parametrize(
    "response, what",
    [
        (reply("<html>login</html>", content_type="text/html"), "HTML"),
        (reply({"data": []}), "not a stream of events"),
        (reply("data: hello\n\n", content_type=STREAM), "an event that is not Arroyo's"),
        (reply('data: {"start_id": 1}\n\n', content_type=STREAM), "an event that is not Arroyo's"),
        (reply("data: [1]\n\n", content_type=STREAM), "an event that is not Arroyo's"),
        (reply(f"data: {'[' * 100_000}\n\n", content_type=STREAM), "an event that is not Arroyo's"),
        (reply("data: " + "x" * MAX_EVENT_BYTES, content_type=STREAM), "an event that is not Arroyo's"),
    ],
)
def test_a_stream_of_another_service_is_refused(
    response: Reply, what: str, connect: Connect, server: Server
) -> None:
    server.play(response)
    with pytest.raises(ArroyoForeignResponseError, match=what):
        list(connect(server.url(), limits=ONCE).stream_output("p", "j"))


def test_a_deadline_ends_a_stream(connect: Connect, server: Server) -> None:
    server.play(Reply(OPEN + chunk(event(1)), "hang"))
    began = time.monotonic()
    client = connect(server.url(), clock=time.monotonic).with_limits(deadline=began + 0.4)
    with pytest.raises(ArroyoConnectionError):
        list(client.stream_output("p", "j"))
    assert time.monotonic() - began < 20, "a read of 30 s was not cut off"
