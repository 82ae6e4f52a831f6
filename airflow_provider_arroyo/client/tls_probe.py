"""Probes a port that closed the connection: does it use TLS, and does it accept our certificate?

A server that refuses a client certificate, or plain HTTP, often closes the connection without reading the request,
and the operating system then drops the reason. Without a request, the reason arrives.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.tls import closes_after_handshake, explain_tls, plain_port, plain_to_tls

PROBE_SECONDS = 2.0
"""How long a probe may take, in seconds."""

_WAITS = 4
"""How often a probe may wait for the port: to connect or shake hands, and to receive something, twice."""

_REQUEST = b"GET /api/v1/ping HTTP/1.0\r\n\r\n"


class Finding(NamedTuple):
    """What is wrong with TLS at an address.

    :param message: the problem, and what to do about it.
    :param is_certain: False if it may also be a proxy whose backend is down.
    """

    message: str
    is_certain: bool = True


def find_tls_problem(
    settings: ClientSettings, context: ssl.SSLContext | None, timeout_seconds: float
) -> Finding | None:
    """Return what is wrong with TLS at the settings' address; None if nothing is found. Blocks.

    :param settings: the address. No credentials are sent, except the client certificate.
    :param context: the TLS context to use; None for plain HTTP.
    :param timeout_seconds: how long it may take.
    """
    if timeout_seconds <= 0:
        return None
    timeout = timeout_seconds / _WAITS
    if context is None:
        return Finding(plain_to_tls(settings.shown_url)) if _speaks_tls(settings, timeout) else None
    try:
        # Once may be a server that is just shutting down; it does not shake hands again, but a proxy without its
        # backend does.
        if all(_closes_after_handshake(settings, context, timeout) for _ in range(2)):
            return Finding(closes_after_handshake(settings), is_certain=False)
    except ssl.SSLError as err:
        if message := explain_tls(err, settings):
            return Finding(message)
    except OSError:
        pass
    else:
        return None
    return Finding(plain_port(settings.shown_url)) if _speaks_plain_http(settings, timeout) else None


def _closes_after_handshake(settings: ClientSettings, context: ssl.SSLContext, timeout: float) -> bool:
    """Return whether the server completes the handshake and then closes, before any request.

    :raises OSError: if there is no handshake, or the server says why it closes.
    """
    with (
        _connect(settings, timeout) as plain,
        context.wrap_socket(plain, server_hostname=_address(settings)[0]) as secure,
    ):
        try:
            # With TLS 1.3, the server comments on our certificate only now.
            return secure.recv(1) == b""
        except TimeoutError:
            return False
        except (ssl.SSLEOFError, ConnectionError):
            return True


def _speaks_tls(settings: ClientSettings, timeout: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _connect(settings, timeout) as plain,
            context.wrap_socket(plain, server_hostname=_address(settings)[0]),
        ):
            return True
    except ssl.SSLError as err:
        # Only a TLS server sends an alert.
        return "ALERT" in (err.reason or "")
    except OSError:
        return False


def _speaks_plain_http(settings: ClientSettings, timeout: float) -> bool:
    try:
        with _connect(settings, timeout) as plain:
            plain.sendall(_REQUEST)
            # TLS ports often respond to plain text with 400, in plain text.
            return re.match(rb"HTTP/\d\.\d (?!400)\d", _start_of_response(plain, timeout)) is not None
    except OSError:
        return False


def _start_of_response(plain: socket.socket, timeout: float) -> bytes:
    start, ends_at = b"", time.monotonic() + timeout
    while len(start) < len(b"HTTP/1.1 400") and time.monotonic() < ends_at and (more := plain.recv(64)):
        start += more
    return start


def _address(settings: ClientSettings) -> tuple[str, int]:
    parts = urlsplit(settings.base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _connect(settings: ClientSettings, timeout: float) -> socket.socket:
    return socket.create_connection(_address(settings), timeout)
