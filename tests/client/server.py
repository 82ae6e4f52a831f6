"""A scripted HTTP server, for responses and network errors that the sandbox cannot produce."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
"""What a TLS server written in Rust sends to a plain HTTP client: a fatal alert."""

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_IDLE_SECONDS = 20.0
"""How long a connection that a test did not close is kept."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One step of a script: the bytes sent, and what happens to the connection.

    :param data: sent unchanged after the request was read.
    :param then: ``keep``, ``close`` or ``reset`` the connection; or, until the server stops, ``hang`` or
        ``drip`` (send ``drop`` every 20 ms).
    :param pieces: sent one by one after that.
    :param unread: do not read the request's body.
    """

    data: bytes = b""
    then: str = "keep"
    unread: bool = False
    drop: bytes = b" "
    pieces: tuple[bytes, ...] = ()


def reply(
    body: Any = None,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    then: str = "keep",
) -> Reply:
    """Return a response with a JSON body. Bytes, and text of another content type, are unchanged; None is no body."""
    if body is None:
        content = b""
    elif isinstance(body, bytes):
        content = body
    elif isinstance(body, str) and content_type != "application/json":
        content = body.encode()
    else:
        content = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted", f"content-length: {len(content)}"]
    if body is not None:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return Reply("\r\n".join(lines).encode() + b"\r\n\r\n" + content, then)


def cut(body: bytes, promised: int, *, chunked: bool = False) -> Reply:
    """Return a response that ends before the length that its header announces."""
    length = "transfer-encoding: chunked" if chunked else f"content-length: {promised}"
    if chunked:
        body = f"{promised:x}\r\n".encode() + body
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    return Reply(head.encode() + body, "close")


RESET = Reply(then="reset")
CLOSE = Reply(then="close")
HANG = Reply(then="hang")


@dataclass
class Server:
    """Responds to each request with the next reply of its script, and to further requests with the last one.

    :param tls: makes it a TLS server.
    :param to_plain: what a TLS server sends to plain HTTP before it closes.
    :param to_tls: what a plain server sends to TLS before it closes; None sends nothing and hangs.
    :param ping: responds to pings, which are then neither scripted nor recorded.
    :param answer: returns the reply to a target, instead of the script; nothing is recorded.
    :param closes_after_handshake: a TLS server closes after each handshake.
    """

    script: list[Reply] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    to_plain: bytes = TLS_ALERT
    to_tls: bytes | None = BAD_REQUEST
    closes_after_handshake: bool = False
    ping: Reply | None = None
    answer: Callable[[str], Reply] | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        with suppress(OSError):
            # Wakes the thread that waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(_IDLE_SECONDS)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url(self, scheme: str | None = None, host: str = "127.0.0.1") -> str:
        return f"{scheme or ('https' if self.tls else 'http')}://{host}:{self.port}"

    def play(self, *script: Reply) -> None:
        self.script[:] = script

    def wait_until_closed(self) -> None:
        """Wait until the server has closed all connections."""
        deadline = time.monotonic() + _IDLE_SECONDS
        while self._open:
            assert time.monotonic() < deadline, "a connection stays open"
            time.sleep(0.001)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(_IDLE_SECONDS)
        connection: socket.socket = raw
        try:
            if self.tls is not None:
                if raw.recv(1, socket.MSG_PEEK) != b"\x16":
                    raw.recv(65536)
                    raw.sendall(self.to_plain)
                    return
                connection = self.tls.wrap_socket(raw, server_side=True)
                if self.closes_after_handshake:
                    return
            elif raw.recv(1, socket.MSG_PEEK) == b"\x16":
                raw.recv(65536)
                if self.to_tls is None:
                    self._stopping.wait(_IDLE_SECONDS)
                else:
                    raw.sendall(self.to_tls)
                return
            self._talk(connection)
        except OSError:
            # The client has left, or the handshake failed, as in some tests.
            pass
        finally:
            with suppress(OSError):
                connection.close()
            with self._lock:
                self._open.discard(raw)

    def _unscripted(self, target: str) -> Reply | None:
        if self.answer is not None:
            return self.answer(target)
        return self.ping if target.endswith("/ping") else None

    def _talk(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while True:
            line = stream.readline().decode("latin-1").split()
            if len(line) < 2:
                return
            headers: dict[str, str] = {}
            while (header := stream.readline().strip()) != b"":
                name, _, value = header.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            step = self._unscripted(line[1])
            is_scripted = step is None
            if step is None:
                with self._lock:
                    step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            body = b"" if step.unread else stream.read(int(headers.get("content-length", 0)))
            if is_scripted:
                with self._lock:
                    self.requests.append(Request(line[0], line[1], headers, body))
            if step.data:
                connection.sendall(step.data)
            for piece in step.pieces:
                connection.sendall(piece)
            if step.then == "hang":
                self._stopping.wait(_IDLE_SECONDS)
                return
            if step.then == "drip":
                while not self._stopping.wait(0.02):
                    connection.sendall(step.drop)
                return
            if step.then == "reset":
                # Closing with a linger of 0 sends a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()
                connection.close()
                return
            if step.then == "close":
                return
