"""TLS as real servers end it: a handshake that fails says why.

The TLS of asyncio drops the alert with which a failed handshake should end, so a client could not tell a
missing certificate from a broken connection. This one sends it. It is no faster and knows no more than it
must to stand between a socket and the HTTP server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

_CHUNK = 65536
_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"
"""A fatal alert: this is not TLS."""


class TlsProtocol(asyncio.Protocol):
    """Stands between a connection and the protocol of the server behind it.

    :param context: certificates, and what is asked of clients.
    :param behind: makes the protocol that gets what was decrypted.
    """

    def __init__(self, context: ssl.SSLContext, behind: Callable[[], asyncio.BaseProtocol]) -> None:
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._make_behind = behind
        self._behind: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's greeting."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or pass on what was sent."""
        self._received.write(data)
        try:
            if self._behind is None:
                self.tls.do_handshake()
                self._behind = cast("asyncio.Protocol", self._make_behind())
                self._behind.connection_made(TlsTransport(self))
            self._pass_on()
        except ssl.SSLWantReadError:
            self.flush()
        except ssl.SSLError:
            # What is left to send is the alert. To what is no TLS at all OpenSSL says nothing; Arroyo does.
            if not self._to_send.pending and self._behind is None:
                self.transport.write(_DECODE_ERROR)
            self.flush()
            self.transport.close()

    def _pass_on(self) -> None:
        while self._behind is not None:
            data = self.tls.read(_CHUNK)
            if not data:
                self.flush()
                if not self._behind.eof_received() and self._transport is not None:
                    self._transport.close()
                return
            self._behind.data_received(data)

    def flush(self) -> None:
        """Send what was encrypted."""
        if self._transport is not None and (data := self._to_send.read()):
            self._transport.write(data)

    def eof_received(self) -> bool | None:
        """Let the connection close."""
        return self._behind.eof_received() if self._behind is not None else None

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the protocol behind."""
        if self._behind is not None:
            self._behind.connection_lost(error)

    def pause_writing(self) -> None:
        """Let the protocol behind wait."""
        if self._behind is not None:
            self._behind.pause_writing()

    def resume_writing(self) -> None:
        """Let the protocol behind go on."""
        if self._behind is not None:
            self._behind.resume_writing()

    @property
    def transport(self) -> asyncio.Transport:
        """The connection, once it is made."""
        if self._transport is None:
            raise RuntimeError("there is no connection yet")
        return self._transport


class TlsTransport(asyncio.Transport):
    """The connection as the protocol behind sees it: plain text goes in."""

    def __init__(self, protocol: TlsProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if data and not self._protocol.transport.is_closing():
            self._protocol.tls.write(data)
            self._protocol.flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Encrypt and send."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Say goodbye and close."""
        if not self._protocol.transport.is_closing():
            # The client has not said goodbye yet; nobody waits for it.
            with contextlib.suppress(ssl.SSLError):
                self._protocol.tls.unwrap()
            self._protocol.flush()
        self._protocol.transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._protocol.transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        if name == "ssl_object":
            return self._protocol.tls
        if name == "sslcontext":
            return self._protocol.tls.context
        return self._protocol.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether the connection is closing or closed."""
        return self._protocol.transport.is_closing()

    def is_reading(self) -> bool:
        """Return whether data is taken."""
        return self._protocol.transport.is_reading()

    def pause_reading(self) -> None:
        """Take no more data for now."""
        self._protocol.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take data again."""
        self._protocol.transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol behind has to wait."""
        self._protocol.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how much waits to be sent."""
        return self._protocol.transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return False: half of a TLS connection cannot be closed."""
        return False
