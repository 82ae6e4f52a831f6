"""Connections that keep a deadline, skip interim responses, and are not reused while more bytes may come.

Python's ``http.client`` limits only each single read, so a server that sends a byte now and then never times out. It
skips only the interim response ``100``, and takes bytes after a response for the beginning of the next one.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import urllib3
import urllib3.connection
from urllib3.util.response import assert_header_parsing

_MAX_LINE = 65_536
"""The longest line that announces a chunk, in bytes, as in ``http.client``."""

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")

MAX_INTERIM_RESPONSES = 100
"""How many interim responses may precede a response."""


class Deadline:
    """A deadline for sending and receiving. It can be moved.

    :param seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self.has_sent = False
        """Whether a part of the request may have been sent: not before TLS, or the tunnel of a proxy, is there."""
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Set a new deadline, in seconds from now."""
        self._at = time.monotonic() + seconds

    def seconds_left(self, at_most: float | None) -> float:
        """Return how much of ``at_most`` is left.

        :param at_most: seconds; None for no limit.
        :raises TimeoutError: if the deadline has passed.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response came too slowly")
        return left if at_most is None else min(at_most, left)


_deadline: ContextVar[Deadline | None] = ContextVar("_deadline", default=None)


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Apply a deadline to what is sent and received in the block; a response keeps it until it is read.

    :param deadline: used by this thread only.
    """
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class _Reader(io.RawIOBase):
    """Reads from a socket until a deadline."""

    def __init__(self, sock: socket.socket, file: Any, deadline: Deadline | None) -> None:
        self._socket = sock
        self._deadline = deadline
        self._timeout = sock.gettimeout()
        self._waits = True
        # It keeps the socket open while there is something to read.
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None and self._waits:
            self._socket.settimeout(self._deadline.seconds_left(self._timeout))
        read: int | None = self._file.readinto(buffer)
        return read

    def has_received(self, buffered: io.BufferedReader) -> bool:
        """Return whether there already is something to read. Must not be followed by another read."""
        self._waits = False
        self._socket.settimeout(0)
        try:
            return bool(buffered.peek(1))
        except OSError:
            # TLS reports in this way that there is nothing. The next request notices a broken connection.
            return False

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response that closes its connection if it cannot be reused."""

    def __init__(self, sock: Any, *args: Any, connection: Any, **kwargs: Any) -> None:
        self._connection = connection
        self._has_begun = self._has_last_chunk = False
        super().__init__(sock, *args, **kwargs)
        self._reader = _Reader(sock, self.fp.detach(), _deadline.get())
        self.fp = io.BufferedReader(self._reader)

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM_RESPONSES):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in the stubs
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {MAX_INTERIM_RESPONSES} interim responses")

    def begin(self, *args: Any, **kwargs: Any) -> None:
        super().begin(*args, **kwargs)
        # urllib3 would only log it and continue with the headers before it.
        assert_header_parsing(self.msg)
        if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            # It was not requested, and what follows is not HTTP.
            self.will_close = True
        lengths = {one.strip() for one in ",".join(self.headers.get_all("content-length", [])).split(",")}
        if len(lengths) > 1 or not all(one.isdecimal() for one in lengths - {""}):
            raise http.client.HTTPException("a content length that is not a number")
        if self.length is None and not self.chunked and (length := "".join(lengths)):
            # Python does not read one that is there twice in one line.
            self.length = int(length)
        if "transfer-encoding" in self.headers:
            if not self.chunked:
                raise http.client.HTTPException("a transfer encoding other than chunked")
            if "content-length" in self.headers:
                # The end of the response is ambiguous, and a proxy in between may disagree.
                del self.headers["content-length"]
                self.will_close = True
        self._has_begun = True

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_MAX_LINE)
        if not line.endswith(b"\n") and len(line) < _MAX_LINE:
            raise http.client.IncompleteRead(b"")
        if (size := _CHUNK_SIZE.fullmatch(line)) is None:
            self._close_conn()
            # Python would also take what its int() takes: 0x1f, +5, 1_0.
            raise ValueError("a chunk whose size is not a hexadecimal number")
        return int(size[1], 16)

    def _safe_read(self, amt: int) -> bytes:
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]  # not in the stubs
        if self.chunked and self.chunk_left == 0 and data != b"\r\n":
            # Python drops the two bytes without a check, and with them a part of the body.
            raise http.client.HTTPException("a chunk that is longer than it says")
        return data

    def _read_and_discard_trailer(self) -> None:
        super()._read_and_discard_trailer()  # type: ignore[misc]  # not in the stubs
        self._has_last_chunk = True

    def _close_conn(self) -> None:
        # A response to CONNECT never begins, and what follows it belongs to the tunnel.
        must_close = self._has_begun and not self._is_over()
        super()._close_conn()  # type: ignore[misc]  # not in the stubs
        if must_close:
            self._connection.close()

    def _is_over(self) -> bool:
        """Return whether the response was read to its end and nothing follows it."""
        if self.will_close or not (self._has_last_chunk if self.chunked else self.length == 0):
            return False
        return not self._reader.has_received(self.fp)


class _Connection:
    """What our connections share: a deadline for sending, and the class of their responses."""

    sock: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Typed as a class, but only ever called.
        self.response_class: Any = partial(_Response, connection=self)

    def send(self, data: Any) -> None:
        deadline = _deadline.get()
        if deadline is not None:
            deadline.has_sent = True
            if self.sock is not None:
                self.sock.settimeout(deadline.seconds_left(self.sock.gettimeout()))
        super().send(data)  # type: ignore[misc]  # of the connection that this is mixed into

    def _tunnel(self) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]  # likewise
        finally:
            if (deadline := _deadline.get()) is not None:
                deadline.has_sent = False


class _HttpConnection(_Connection, urllib3.connection.HTTPConnection):
    response_class: Any


class _HttpsConnection(_Connection, urllib3.connection.HTTPSConnection):
    response_class: Any


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


POOLS = {"http": _HttpPool, "https": _HttpsPool}
"""The classes of connection pools by scheme, as urllib3's pool managers expect them."""
