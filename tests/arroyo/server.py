"""A small HTTP server that plays a script, the ways in which real ones fail included."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
"""What a TLS server written in Rust sends to somebody who speaks plain HTTP: a fatal alert."""

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_PATIENCE_SECONDS = 20.0
"""How long a connection that a test forgot is kept."""


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
    """One step of a script.

    :param data: sent as it is, after the request was read.
    :param then: ``keep`` the connection, ``close`` or ``reset`` it, or until the server stops, ``hang`` or
        ``drip`` a byte now and then.
    :param unread: leave the request's body unread.
    """

    data: bytes = b""
    then: str = "keep"
    unread: bool = False


def reply(
    body: Any = None,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    then: str = "keep",
) -> Reply:
    """Return an answer: JSON, or text and bytes as they are; None is an answer without a body."""
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
    """Return an answer that breaks off before the length that it promised."""
    length = "transfer-encoding: chunked" if chunked else f"content-length: {promised}"
    if chunked:
        body = f"{promised:x}\r\n".encode() + body
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    return Reply(head.encode() + body, "close")


RESET = Reply(then="reset")
HANG_UP = Reply(then="close")
HANG = Reply(then="hang")


@dataclass
class Server:
    """Answers each request with the next reply of its script; the last one again and again.

    :param tls: makes it a TLS server.
    :param to_plain: what a TLS server says to plain HTTP before it hangs up.
    :param to_tls: what a plain server says to TLS before it hangs up; None says nothing, and waits.
    :param greets_and_goes: a TLS server hangs up after each handshake.
    """

    script: list[Reply] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    to_plain: bytes = TLS_ALERT
    to_tls: bytes | None = BAD_REQUEST
    greets_and_goes: bool = False
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self.asked = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        with suppress(OSError):
            # Wakes the thread that waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE_SECONDS)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url(self, scheme: str | None = None, host: str = "127.0.0.1") -> str:
        return f"{scheme or ('https' if self.tls else 'http')}://{host}:{self.port}"

    def play(self, *script: Reply) -> None:
        self.script[:] = script

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(_PATIENCE_SECONDS)
        connection: socket.socket = raw
        try:
            if self.tls is not None:
                if raw.recv(1, socket.MSG_PEEK) != b"\x16":
                    raw.recv(65536)
                    raw.sendall(self.to_plain)
                    return
                connection = self.tls.wrap_socket(raw, server_side=True)
                if self.greets_and_goes:
                    return
            elif raw.recv(1, socket.MSG_PEEK) == b"\x16":
                raw.recv(65536)
                if self.to_tls is None:
                    self._over.wait(_PATIENCE_SECONDS)
                else:
                    raw.sendall(self.to_tls)
                return
            self._talk(connection)
        except OSError:
            # The client is gone, or the handshake failed: both are what some test is about.
            pass
        finally:
            with self._lock:
                self._open.discard(raw)
            with suppress(OSError):
                connection.close()

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
            with self._lock:
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            body = b"" if step.unread else stream.read(int(headers.get("content-length", 0)))
            with self._lock:
                self.requests.append(Request(line[0], line[1], headers, body))
            self.asked.set()
            if step.data:
                connection.sendall(step.data)
            if step.then == "hang":
                self._over.wait(_PATIENCE_SECONDS)
                return
            if step.then == "drip":
                while not self._over.wait(0.05):
                    connection.sendall(b" ")
                return
            if step.then == "reset":
                # Closing with a linger of 0 sends a reset instead of the usual farewell.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.close()
                connection.close()
                return
            if step.then == "close":
                return
