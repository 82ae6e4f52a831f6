"""A look at a port that broke off: does it speak TLS, and does it take our certificate?

A server that refuses a client certificate, or plain HTTP, often hangs up on a request that it has not read, and
the operating system then drops the reason. Without a request in flight, the reason arrives.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import NamedTuple
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


class Finding(NamedTuple):
    """What is wrong about TLS at an address.

    :param message: what, and what to do about it.
    :param is_certain: False where it may also be a server behind that is away for a while.
    """

    message: str
    is_certain: bool = True


def find_tls_trouble(
    settings: ClientSettings, context: ssl.SSLContext | None, timeout_seconds: float
) -> Finding | None:
    """Return what is wrong about TLS at the settings' address; None where nothing is found. Blocks.

    :param settings: where to look. No credentials are sent, but for the client certificate.
    :param context: how TLS is spoken to it; None for plain HTTP.
    :param timeout_seconds: how long it may take.
    """
    if timeout_seconds <= 0:
        return None
    timeout = timeout_seconds / _WAITS
    if context is None:
        return Finding(plain_to_tls(settings.base_url)) if _speaks_tls(settings, timeout) else None
    try:
        # Once may be a server that is just going down. One that is does not shake hands again; but what only
        # passes on, and finds nobody there to pass it on to, does.
        if _hangs_up(settings, context, timeout) and _hangs_up(settings, context, timeout):
            return Finding(hangs_up_after_handshake(settings), is_certain=False)
    except ssl.SSLError as err:
        if message := explain_tls(err, settings):
            return Finding(message)
    except OSError:
        pass
    else:
        return None
    return Finding(plain_port(settings.base_url)) if _speaks_plain_http(settings, timeout) else None


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
            # Ports with TLS often answer 400 in plain text to whoever does not speak it.
            return re.match(rb"HTTP/\d\.\d (?!400)\d", _begin_of_answer(plain)) is not None
    except OSError:
        return False


def _begin_of_answer(plain: socket.socket) -> bytes:
    begin = b""
    while len(begin) < len(b"HTTP/1.1 400") and (more := plain.recv(64)):
        begin += more
    return begin


def _address(settings: ClientSettings) -> tuple[str, int]:
    parts = urlsplit(settings.base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _connect(settings: ClientSettings, timeout: float) -> socket.socket:
    return socket.create_connection(_address(settings), timeout)
