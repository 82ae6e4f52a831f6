"""HTTP/1.1 over sockets, a thread for each connection, with h11 as the protocol's engine.

Besides complete responses, a handler can send what a well-behaved server does not: interim responses, half a
body, an endless body, a reset.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import h11

BODY_LIMIT = 2 * 1024 * 1024
_CHUNK = 65536
_HEADERS_LIMIT = 256 * 1024
_GONE_SECONDS = 1.0
_FAREWELL_SECONDS = 0.2
_NOTICE_SECONDS = 0.1
_BACKLOG = 1024
_HANDSHAKE_BYTE = b"\x16"
_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"
"""A fatal alert: this is not TLS."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ConnectionGoneError(Exception):
    """The connection was closed, or is about to be closed in good order. Nothing more is sent."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    :param path: as it was sent, still escaped.
    :param headers: the names are in lower case.
    :param body: None: it is larger than a real server accepts.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None


class Connection:
    """A connection to a client, to which a handler sends its response."""

    def __init__(self, server: HttpServer, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADERS_LIMIT)
        self._is_head = False
        self.aborted = threading.Event()
        """Set once the server has reset the connection."""
        self.thread = threading.Thread(target=self._serve, name="arroyo-sandbox-connection", daemon=True)
        """Serves the client."""

    # -- what a handler sends -----------------------------------------------------------------------------

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response."""
        length = {"content-length": str(len(body))}
        self._send(
            h11.Response(**_head(status, {**headers, **length})), *self._data(body), h11.EndOfMessage()
        )

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of a response, or an interim response such as 103.

        Without ``content-length``, the body comes in chunks.
        """
        response = h11.InformationalResponse if status < 200 else h11.Response
        self._send(response(**_head(status, headers)))

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        self._send(*self._data(data))

    def finish(self) -> None:
        """End the response."""
        self._send(h11.EndOfMessage())

    def reset(self) -> NoReturn:
        """Reset the connection.

        :raises ConnectionGoneError: always.
        """
        self._reset_on_close()
        raise ConnectionGoneError

    def wait_until_gone(self) -> NoReturn:
        """Send nothing more until the client closes the connection.

        :raises ConnectionGoneError: then.
        """
        while self._sock.recv(_CHUNK):
            pass
        raise ConnectionGoneError

    def pause(self, seconds: float) -> None:
        """Wait.

        :raises ConnectionGoneError: if the connection is reset meanwhile.
        """
        if self.aborted.wait(seconds):
            raise ConnectionGoneError

    # -- the server's side --------------------------------------------------------------------------------

    def abort(self) -> None:
        """Reset the connection from another thread."""
        with contextlib.suppress(OSError):
            self._reset_on_close()
            # Wakes the thread that reads; closing the socket here would not.
            socket.socket.shutdown(self._sock, socket.SHUT_RD)

    def _reset_on_close(self) -> None:
        self.aborted.set()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _serve(self) -> None:
        try:
            if self._server.tls is not None:
                if self._sock.recv(1, socket.MSG_PEEK) != _HANDSHAKE_BYTE:
                    # If the client does not speak TLS, OpenSSL sends nothing, but Arroyo sends an alert.
                    self._sock.sendall(_DECODE_ERROR)
                    raise ConnectionGoneError
                self._sock = tls = self._server.tls.wrap_socket(
                    self._sock, server_side=True, do_handshake_on_connect=False
                )
                tls.do_handshake()
            while (request := self._receive()) is not None:
                self._is_head = request.method == "HEAD"
                self._server.handle(request, self)
                if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                    break
                self._h11.start_next_cycle()
        except (OSError, ConnectionGoneError, h11.LocalProtocolError):
            pass
        except h11.RemoteProtocolError as error:
            with contextlib.suppress(OSError, h11.LocalProtocolError):
                self.respond(error.error_status_hint, {}, b"")
        finally:
            self._close()
            self._server.forget(self)

    def _close(self) -> None:
        # Unread bytes turn a close into a reset, which can overtake the last bytes that were sent.
        with contextlib.suppress(OSError, ValueError):
            if not self.aborted.is_set():
                self._sock.settimeout(_FAREWELL_SECONDS)
                if isinstance(self._sock, ssl.SSLSocket):
                    with contextlib.suppress(OSError):
                        self._sock.unwrap()
                socket.socket.shutdown(self._sock, socket.SHUT_WR)
                while socket.socket.recv(self._sock, _CHUNK):
                    pass
        self._sock.close()

    def _receive(self) -> HttpRequest | None:
        event = self._next_event()
        if not isinstance(event, h11.Request):
            return None
        target = event.target.decode("latin-1")
        if not target.startswith("/"):
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        parts, size = [], 0
        while isinstance(part := self._next_event(), h11.Data):
            size += len(part.data)
            if size <= BODY_LIMIT:
                parts.append(bytes(part.data))
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        body = b"".join(parts) if size <= BODY_LIMIT else None
        return HttpRequest(event.method.decode("latin-1"), path, query, headers, body)

    def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                self.begin(100, {})
            self._h11.receive_data(self._sock.recv(_CHUNK))
        return event

    def _data(self, body: bytes) -> list[h11.Data]:
        return [h11.Data(data=body)] if body and not self._is_head else []

    def _send(self, *events: h11.Event) -> None:
        if self.aborted.is_set():
            raise ConnectionGoneError
        self._sock.sendall(b"".join(self._h11.send(event) or b"" for event in events))


def _head(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {
        "status_code": status,
        "headers": encoded,
        "reason": http.client.responses.get(status, "").encode(),
    }


class HttpServer:
    """Listens on a port.

    :param handle: called with each request and the connection that takes the response.
    :param tls: for HTTPS; None: plain HTTP.
    """

    def __init__(
        self, handle: Callable[[HttpRequest, Connection], None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.handle = handle
        self.tls = tls
        self.host = ""
        self.port = 0
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        """Held while the server begins or ends listening: faults may do both at once."""
        self._connections: set[Connection] = set()
        self._socket: socket.socket
        self._holder: socket.socket
        """Bound to the port but never listening, so that the port stays taken while the server is away."""
        self._accepting: threading.Thread | None = None
        self._stopped = True

    def start(self, host: str, port: int) -> None:
        """Listen.

        :param port: 0 takes a free one; ``self.port`` says which.
        :raises OSError: if it cannot listen on the address.
        """
        self.host = host
        self._holder = _bound(host, port)
        # Only its own sockets can bind to the port from now on.
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port = self._holder.getsockname()[1]
        self._stopped = False
        try:
            self.open()
        except OSError:
            self.stop()
            raise

    def open(self) -> None:
        """Accept connections on the same port again; does nothing unless the server runs."""
        with self._opening:
            if self._accepting is None and not self._stopped:
                self._socket = _bound(self.host, self.port, is_held=True)
                self._socket.listen(_BACKLOG)
                self._accepting = threading.Thread(target=self._accept, name="arroyo-sandbox", daemon=True)
                self._accepting.start()

    def close(self) -> None:
        """Refuse connections, and reset the open ones except that of the calling thread.

        The port is kept, so no other process can take it.
        """
        with self._opening:
            thread, self._accepting = self._accepting, None
            if thread is not None:
                with contextlib.suppress(OSError):  # only Linux wakes the thread so
                    self._socket.shutdown(socket.SHUT_RDWR)
                thread.join()
                self._socket.close()
        with self._lock:
            connections = [one for one in self._connections if one.thread is not threading.current_thread()]
        for connection in connections:
            connection.abort()
        for connection in connections:
            connection.thread.join(_GONE_SECONDS)

    def stop(self) -> None:
        """Close for good."""
        self._stopped = True
        self.close()
        self._holder.close()

    def _accept(self) -> None:
        while self._accepting is threading.current_thread():
            try:
                sock, _ = self._socket.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # also a timeout without a connection
                continue
            connection = Connection(self, sock)
            with self._lock:
                self._connections.add(connection)
            connection.thread.start()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        with self._lock:
            self._connections.discard(connection)


def server_context(
    cert: Path | str | None, key: Path | str | None, client_ca: Path | str | None
) -> ssl.SSLContext | None:
    """Return the context for HTTPS; None: there is no certificate, so plain HTTP is served.

    :param client_ca: the CA that must have signed the clients' certificates; None: none are requested.
    :raises ValueError: if a file is missing or cannot be read.
    """
    if cert is None:
        if key is not None or client_ca is not None:
            raise ValueError("tls_key and tls_client_ca need tls_cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password, OpenSSL would prompt for that of an encrypted key.
        context.load_cert_chain(cert, key, password="")
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        words = "cannot be read (a key must not be encrypted)"
        raise ValueError(f"tls_cert, tls_key, tls_client_ca: {words}: {error}") from error
    return context


def _bound(host: str, port: int, *, is_held: bool = False) -> socket.socket:
    """Return a socket that is bound to an address.

    :param host, port: the address.
    :param is_held: whether another socket of this server is bound to it, default False.
    :raises OSError: if it is taken.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Connections of an earlier server may linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, is_held)
        sock.settimeout(_NOTICE_SECONDS)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
