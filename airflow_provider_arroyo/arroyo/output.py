"""The output stream of a preview: server-sent events, each a batch of rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from airflow_provider_arroyo.arroyo.call import Answer
from airflow_provider_arroyo.arroyo.details import OutputBatch

STREAM_IDLE_SECONDS = 90.0
"""How long a stream may be silent: a preview ends by itself after a minute."""

EVENT_STREAM = "text/event-stream"

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
# A return at the very end may be the first half of a line end whose second half is still on its way.


class OutputParser:
    """Makes batches of the bytes of a stream, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[OutputBatch]:
        """Yield the batches that ``chunk`` completes.

        :raises ValueError, KeyError, TypeError: where an event is not one of Arroyo's.
        """
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            if line:
                name, _, value = line.partition(b":")
                if name == b"data":
                    self._data.append(value.removeprefix(b" "))
            elif self._data:
                event, self._data = b"\n".join(self._data), []
                yield OutputBatch.from_api(json.loads(event))


def batches_in(answer: Answer) -> tuple[OutputBatch, ...]:
    """Read a stream that has ended.

    :raises ValueError, KeyError, TypeError: where it is not one of Arroyo's.
    """
    if answer.content_type != EVENT_STREAM:
        raise ValueError(f"the answer is {answer.content_type or 'of no type'}, not a stream of events")
    return tuple(OutputParser().feed(answer.body))
