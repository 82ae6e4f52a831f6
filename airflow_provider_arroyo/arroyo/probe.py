"""A look at a port that broke off: does it speak TLS, and does it take our certificate?

A server that refuses a client certificate, or plain HTTP, often hangs up on a request that it has not read, and
the operating system then drops the reason. Without a request in flight, the reason arrives.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.tls import (
    explain_tls,
    hangs_up_after_handshake,
    plain_port,
    plain_to_tls,
)

LOOK_SECONDS = 2.0
"""How long a look may take."""

_WAITS = 4
"""How often a look waits for the port at most: to shake hands or connect, and to hear something, twice."""

_QUESTION = b"GET /api/v1/ping HTTP/1.0\r\n\r\n"


def find_tls_trouble(
    settings: ClientSettings, context: ssl.SSLContext | None, timeout_seconds: float
) -> str | None:
    """Return what is wrong about TLS at the settings' address; None where nothing is found. Blocks.

    :param settings: where to look. No credentials are sent, but for the client certificate.
    :param context: how TLS is spoken to it; None for plain HTTP.
    :param timeout_seconds: how long it may take.
    """
    if timeout_seconds <= 0:
        return None
    timeout = timeout_seconds / _WAITS
    if context is None:
        return plain_to_tls(settings.base_url) if _speaks_tls(settings, timeout) else None
    try:
        # Once may be a server that is just going down. One that is does not shake hands again.
        if _hangs_up(settings, context, timeout) and _hangs_up(settings, context, timeout):
            return hangs_up_after_handshake(settings)
    except ssl.SSLError as err:
        if message := explain_tls(err, settings):
            return message
    except OSError:
        pass
    else:
        return None
    return plain_port(settings.base_url) if _speaks_plain_http(settings, timeout) else None


def _hangs_up(settings: ClientSettings, context: ssl.SSLContext, timeout: float) -> bool:
    """Return whether the server shakes hands, and then goes without having been asked anything.

    :raises OSError: where there is no handshake, or the server says why it goes.
    """
    with (
        _connect(settings, timeout) as plain,
        context.wrap_socket(plain, server_hostname=_address(settings)[0]) as secure,
    ):
        try:
            # TLS 1.3 tells only now what the server makes of our certificate.
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
        # Only somebody who speaks it sends an alert.
        return "ALERT" in (err.reason or "")
    except OSError:
        return False


def _speaks_plain_http(settings: ClientSettings, timeout: float) -> bool:
    try:
        with _connect(settings, timeout) as plain:
            plain.sendall(_QUESTION)
            return plain.recv(5) == b"HTTP/"
    except OSError:
        return False


def _address(settings: ClientSettings) -> tuple[str, int]:
    parts = urlsplit(settings.base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _connect(settings: ClientSettings, timeout: float) -> socket.socket:
    return socket.create_connection(_address(settings), timeout)
