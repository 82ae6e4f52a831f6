"""Explains failures without a response: turns an error of the HTTP library into ours, with advice."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import Any

import requests
import urllib3.exceptions

from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.tls import TLS_PORT, error_reason, explain_tls
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoTlsError,
    Disposition,
)
from airflow_provider_arroyo.text import shorten

LIBRARY_ERRORS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    LookupError,
)
"""The errors that a request can raise, including some that requests does not wrap."""

MAX_BODY_BYTES = 2 * 1024 * 1024
"""The largest request that Arroyo accepts."""

_TLS_RECORDS = ("\\x15\\x03", "\x15\x03", "\\x16\\x03", "\x16\x03")
"""How the first bytes of TLS, an alert or a handshake, appear in an error's text."""


class Failure(Enum):
    """What went wrong, as far as the library's error shows. The value is the message, with advice."""

    PROXY = (
        "The proxy for {url} cannot be used ({detail}). "
        "Check the setting proxies, or http_proxy and https_proxy in the environment."
    )
    DNS = (
        "The host name in {url} cannot be resolved ({detail}). "
        "Check its spelling, and the DNS of this machine."
    )
    REFUSED = "{url} refused the connection. Check that Arroyo runs there, and host and port."
    CONNECT = "{url} cannot be reached ({detail}). Check host and port."
    CONNECT_TIMEOUT = (
        "{url} did not accept a connection within {connect_timeout:g} s (connect_timeout). "
        "Check host, port and any firewall in between."
    )
    READ_TIMEOUT = "{url} did not respond to {request} in time."
    NOT_HTTP = (
        "{url} does not speak HTTP. Check that the connection's host and port lead to Arroyo. "
        "It sent: {detail}"
    )
    MALFORMED = (
        "The response of {url} to {request} is not valid HTTP ({detail}). "
        "Check any gateway in between, and that the connection's host and port lead to Arroyo."
    )
    CUT_SHORT = "The response of {url} to {request} was cut short."
    BROKEN = "{url} closed the connection before it responded to {request} ({detail})."


_NOT_SENT = (Failure.PROXY, Failure.DNS, Failure.REFUSED, Failure.CONNECT, Failure.CONNECT_TIMEOUT)
"""Failures that happen before a request is sent."""

_FAILURES: tuple[tuple[Failure, tuple[type[BaseException], ...]], ...] = (
    (
        Failure.PROXY,
        (requests.exceptions.ProxyError, requests.exceptions.InvalidURL, urllib3.exceptions.ProxyError),
    ),
    # NameResolutionError and NewConnectionError are subclasses of ConnectTimeoutError, whatever happened.
    (Failure.DNS, (urllib3.exceptions.NameResolutionError, socket.gaierror)),
    (Failure.REFUSED, (ConnectionRefusedError,)),
    (Failure.CONNECT, (urllib3.exceptions.NewConnectionError,)),
    (Failure.CONNECT_TIMEOUT, (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)),
    (
        Failure.READ_TIMEOUT,
        (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError),
    ),
    # A subclass of BadStatusLine, but nothing was received.
    (Failure.BROKEN, (http.client.RemoteDisconnected,)),
    (Failure.NOT_HTTP, (http.client.BadStatusLine, http.client.UnknownProtocol)),
    (Failure.CUT_SHORT, (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead)),
    (
        Failure.MALFORMED,
        (
            http.client.HTTPException,
            urllib3.exceptions.DecodeError,
            urllib3.exceptions.HeaderParsingError,
            urllib3.exceptions.InvalidHeader,
            ValueError,
            LookupError,
        ),
    ),
)
"""The meaning of the library's errors. The first match among an error's causes counts."""


_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (401|403|407)\b")
"""What Python says if a proxy refuses to connect to a server with TLS: its login, or this host or port."""


class NotSentError(OSError):
    """Wraps an error that occurred before any part of the request was sent."""


_BROKE_OFF = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionAbortedError, ConnectionResetError)
"""Errors that only an established connection can raise. With a proxy, urllib3 reports them as the proxy's."""


def failure_of(error: BaseException) -> Failure:
    """Return the meaning of an error or of one of its causes."""
    chain = list(_causes(error))
    for failure, classes in _FAILURES:
        if any(isinstance(cause, classes) for cause in chain):
            if failure is Failure.PROXY and any(isinstance(cause, _BROKE_OFF) for cause in chain):
                return Failure.BROKEN
            # Python reports a chunk's size that is no number as an incomplete response, like one that was cut off.
            if failure is Failure.CUT_SHORT and any(isinstance(cause, ValueError) for cause in chain):
                return Failure.MALFORMED
            return failure
    return Failure.BROKEN


def explain(
    error: BaseException, failure: Failure, request: Request[Any], settings: ClientSettings
) -> ArroyoError:
    """Return the error to raise if no response came.

    :param error: the library's error; its causes count too.
    :param failure: its meaning.
    :param request: the request.
    :param settings: the settings used; no secret of theirs is repeated.
    """
    chain = list(_causes(error))
    is_unsent = failure in _NOT_SENT or any(isinstance(cause, NotSentError) for cause in chain)
    if failure is not Failure.PROXY and (tls := _tls_message(chain, failure, settings)):
        return ArroyoTlsError(tls, is_unsent=is_unsent, **request.where)
    message = failure.value.format(
        url=settings.shown_url,
        request=request,
        detail=_detail(chain[-1], settings),
        connect_timeout=settings.connect_timeout_seconds,
    )
    if failure is Failure.PROXY and (refused := _REFUSED_TUNNEL.search(" ".join(map(str, chain)))):
        return ArroyoAuthError(message, status=int(refused[1]), **request.where)
    if failure in (Failure.NOT_HTTP, Failure.MALFORMED):
        return ArroyoForeignResponseError(message, **request.where)
    if is_unsent:
        return ArroyoConnectionError(message, disposition=Disposition.RETRY, **request.where)
    if failure is not Failure.READ_TIMEOUT and len(request.content() or b"") > MAX_BODY_BYTES:
        # A server may refuse a large body by closing the connection before it reads it all, and its response is lost.
        return too_large(request, settings, status=413, **request.where)
    if not request.is_idempotent:
        message += " It may have taken effect: check before you repeat it."
    return ArroyoConnectionError(message, is_hang_up=failure is Failure.BROKEN, **request.where)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes, outermost first, including those in attributes of the library."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def _tls_message(chain: list[BaseException], failure: Failure, settings: ClientSettings) -> str | None:
    """Return what is wrong with TLS, with advice; None if it is something else, or may be temporary."""
    for cause in chain:
        if isinstance(cause, ssl.SSLError) and (message := explain_tls(cause, settings)):
            return message
    text = " ".join(map(str, chain))
    if failure is Failure.NOT_HTTP and any(record in text for record in _TLS_RECORDS):
        return TLS_PORT.format(url=settings.shown_url)
    return None


def _detail(error: BaseException, settings: ClientSettings) -> str:
    words = getattr(error, "strerror", None) or error_reason(error) or str(error).strip()
    return shorten(settings.redact(words or type(error).__name__), 120)


def too_large(request: Request[Any], settings: ClientSettings, **data: Any) -> ArroyoApiError:
    """Return the error for a request that is larger than the server accepts."""
    size = len(request.content() or b"")
    limit = "which accepts 2 MB (2,097,152 bytes) at most"
    if size <= MAX_BODY_BYTES:
        limit += "; this is less, so a proxy in between has a lower limit"
    said = data.get("server_message")
    return ArroyoApiError(
        f"{request} is too large for Arroyo at {settings.shown_url}, {limit}: its body has {size:,} bytes. "
        f"Make the SQL or the UDFs smaller.{f' (It said: {shorten(said)})' if said else ''}",
        is_fatal=True,
        **data,
    )
