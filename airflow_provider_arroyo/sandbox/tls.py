"""TLS as on real servers: a failed handshake says why."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

_HANDSHAKE_BYTE = b"\x16"
_DECODE_ERROR = b"\x15\x03\x03\x00\x02\x02\x32"
"""A fatal alert: this is not TLS."""


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


def wrapped(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a socket for the TLS handshake.

    :raises OSError: if the client does not speak TLS; it was sent an alert that says so.
    """
    if sock.recv(1, socket.MSG_PEEK) != _HANDSHAKE_BYTE:
        # If the client does not speak TLS, OpenSSL sends nothing, but Arroyo sends an alert.
        sock.sendall(_DECODE_ERROR)
        raise OSError("not TLS")
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
