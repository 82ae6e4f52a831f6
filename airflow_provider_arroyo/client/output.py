"""The output stream of a preview: server-sent events, each a batch of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from airflow_provider_arroyo.client.body_secrets import redactor
from airflow_provider_arroyo.client.details import OutputBatch
from airflow_provider_arroyo.client.reading import UNREADABLE, object_of
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError
from airflow_provider_arroyo.text import shorten

STREAM_IDLE_SECONDS = 90.0
"""How long a stream may be silent, in seconds; a preview ends by itself after a minute."""

EVENT_STREAM = "text/event-stream"

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest event that is read: far larger than a batch of Arroyo's."""

_MAY_END_LINE = re.compile(rb"[\r\n]")
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
# A carriage return at the very end may be the first half of a line end.


class OutputParser:
    """Parses batches from the bytes of a stream, however they are split."""

    def __init__(self) -> None:
        self._rest = [b""]
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[OutputBatch]:
        """Yield the batches that ``chunk`` completes.

        :raises ValueError, KeyError, TypeError: where an event is not one of Arroyo's, or does not end.
        """
        may_end_line = _MAY_END_LINE.search(self._rest[-1][-1:] + chunk)
        self._rest.append(chunk)
        if sum(map(len, self._rest + self._data)) > MAX_EVENT_BYTES:
            raise ValueError("an event that does not end")
        if not may_end_line:
            return
        *lines, rest = _LINE_END.split(b"".join(self._rest))
        self._rest = [rest]
        for line in lines:
            if line:
                name, _, value = line.partition(b":")
                if name == b"data":
                    self._data.append(value.removeprefix(b" "))
            elif self._data:
                event, self._data = b"\n".join(self._data), []
                yield OutputBatch.from_api(object_of(event))


def iter_batches(
    chunks: Iterable[bytes], request: Request[Any], response: HttpResponse, settings: ClientSettings
) -> Iterator[OutputBatch]:
    """Yield the batches of a stream as they arrive.

    :param chunks: the received bytes.
    :param request, response: the request that opened the stream and its response, for messages.
    :param settings: the settings used; no secret of theirs is repeated.
    :raises ArroyoForeignResponseError: if an event is not Arroyo's.
    """
    parser = OutputParser()
    for chunk in chunks:
        try:
            yield from parser.feed(chunk)
        except UNREADABLE as err:
            raise ArroyoForeignResponseError(
                f"{request.method} {settings.redact(response.url)} sent an event that is not Arroyo's: "
                f"{shorten(redactor(request.body, settings)(repr(chunk)))}",
                status=200,
                **request.where,
            ) from err


def batches_in(response: HttpResponse) -> tuple[OutputBatch, ...]:
    """Read a stream that has ended.

    :raises ValueError, KeyError, TypeError: if it is not Arroyo's.
    """
    if response.content_type != EVENT_STREAM:
        raise ValueError(
            f"the response is {response.content_type or 'without a media type'}, not a stream of events"
        )
    return tuple(OutputParser().feed(response.body))
