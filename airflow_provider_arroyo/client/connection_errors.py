"""What it means when no response comes: from the HTTP library's error to ours, with what to do about it."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import Any

import requests
import urllib3.exceptions

from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.responses import MAX_BODY_BYTES, too_large
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.tls import error_reason, explain_tls, plain_to_tls
from airflow_provider_arroyo.exceptions import (
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
)
"""What a request can fail with. Reading a body raises what requests does not wrap."""

_TLS_RECORDS = ("\\x15\\x03", "\x15\x03", "\\x16\\x03", "\x16\x03")
"""How the first bytes of TLS, an alert or a handshake, appear in an error's text."""


class Failure(Enum):
    """What went wrong, as far as the library's error tells."""

    CONNECT_TIMEOUT = "connect timeout"
    READ_TIMEOUT = "read timeout"
    CONNECT = "connect"
    DNS = "name resolution"
    PROXY = "proxy"
    NOT_HTTP = "not HTTP"
    CUT_SHORT = "cut short"
    BROKEN = "broken"


_FAILURES: tuple[tuple[Failure, tuple[type[BaseException], ...]], ...] = (
    (
        Failure.PROXY,
        (requests.exceptions.ProxyError, requests.exceptions.InvalidURL, urllib3.exceptions.ProxyError),
    ),
    # These two are kinds of ConnectTimeoutError, whatever happened.
    (Failure.DNS, (urllib3.exceptions.NameResolutionError,)),
    (Failure.CONNECT, (urllib3.exceptions.NewConnectionError,)),
    (Failure.CONNECT_TIMEOUT, (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)),
    (
        Failure.READ_TIMEOUT,
        (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError),
    ),
    # A kind of BadStatusLine, but nothing came at all.
    (Failure.BROKEN, (http.client.RemoteDisconnected,)),
    (Failure.NOT_HTTP, (http.client.BadStatusLine, http.client.UnknownProtocol)),
    (
        Failure.CUT_SHORT,
        (
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
            urllib3.exceptions.DecodeError,
            http.client.IncompleteRead,
        ),
    ),
)
"""What the library's errors mean. The first that is found among an error's causes counts."""

_BROKE_OFF = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionAbortedError, ConnectionResetError)
"""What only an established connection can do. urllib3 calls it an error of the proxy, where there is one."""


def failure_of(error: BaseException) -> Failure:
    """Return what an error means, or one of its causes."""
    chain = list(causes(error))
    for failure, classes in _FAILURES:
        if any(isinstance(cause, classes) for cause in chain):
            broke_off = any(isinstance(cause, _BROKE_OFF) for cause in chain)
            return Failure.BROKEN if failure is Failure.PROXY and broke_off else failure
    return Failure.BROKEN


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes, outermost first, also those that a library keeps aside."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def tls_error(message: str, request: Request[Any]) -> ArroyoTlsError:
    """Return the error for a request that TLS stands in the way of."""
    return ArroyoTlsError(message, method=request.method, path=request.path)


def explain(
    error: BaseException, failure: Failure, request: Request[Any], settings: ClientSettings
) -> ArroyoError:
    """Return the error to raise where no response came.

    :param error: the library's error, whose causes count, too.
    :param failure: what it means.
    :param request: what was requested.
    :param settings: how; nothing secret of it is repeated.
    """
    return _Explanation(error, failure, request, settings).error()


class _Explanation:
    def __init__(
        self, error: BaseException, failure: Failure, request: Request[Any], settings: ClientSettings
    ) -> None:
        self._causes = list(causes(error))
        self._failure = failure
        self._request = request
        self._settings = settings

    def error(self) -> ArroyoError:
        base_url, failure = self._settings.base_url, self._failure
        if failure is Failure.PROXY:
            return self._not_sent(
                f"The proxy for {base_url} cannot be used ({self._detail()}). "
                "Check the setting proxies, or http_proxy and https_proxy in the environment."
            )
        if (tls := self._tls()) is not None:
            return tls
        if failure is Failure.NOT_HTTP:
            return self._not_http()
        if failure is Failure.CONNECT_TIMEOUT:
            return self._not_sent(
                f"{base_url} did not accept a connection within "
                f"{self._settings.connect_timeout_seconds:g} s (connect_timeout). "
                "Check host, port and any firewall in between."
            )
        if failure is Failure.DNS or self._has(socket.gaierror):
            return self._not_sent(
                f"The host name in {base_url} cannot be resolved ({self._detail()}). "
                "Check its spelling, and the DNS of this machine."
            )
        if self._has(ConnectionRefusedError):
            return self._not_sent(
                f"{base_url} refused the connection. Check that Arroyo runs there, and host and port."
            )
        if failure is Failure.CONNECT:
            return self._not_sent(f"{base_url} cannot be reached ({self._detail()}). Check host and port.")
        if failure is Failure.READ_TIMEOUT:
            return self._sent(f"{base_url} did not respond to {self._request} in time.")
        if len(self._request.content() or b"") > MAX_BODY_BYTES:
            # A server that refuses so large a body may hang up before it reads it, and its response is lost.
            return too_large(self._request, self._settings, status=413, **self._where())
        if failure is Failure.CUT_SHORT:
            return self._sent(f"The response of {base_url} to {self._request} was cut short.")
        return self._sent(
            f"{base_url} closed the connection before it responded to {self._request} ({self._detail()})."
        )

    def _tls(self) -> ArroyoError | None:
        found = [cause for cause in self._causes if isinstance(cause, ssl.SSLError)]
        for cause in found:
            if message := explain_tls(cause, self._settings):
                return tls_error(message, self._request)
        if found and self._failure is Failure.CONNECT:
            return self._not_sent(
                f"The TLS handshake with {self._settings.base_url} failed ({self._detail()}). "
                "Check that this port speaks TLS."
            )
        return None

    def _not_http(self) -> ArroyoError:
        text = " ".join(str(cause) for cause in self._causes)
        if any(record in text for record in _TLS_RECORDS):
            return tls_error(plain_to_tls(self._settings.base_url), self._request)
        return ArroyoForeignResponseError(
            f"{self._settings.base_url} does not speak HTTP. "
            f"Check that the connection's host and port lead to Arroyo. It sent: {self._detail()}",
            **self._where(),
        )

    def _has(self, cls: type[BaseException]) -> bool:
        return any(isinstance(cause, cls) for cause in self._causes)

    def _detail(self) -> str:
        innermost = self._causes[-1]
        words = (
            getattr(innermost, "strerror", None) or error_reason(innermost) or str(innermost).strip()
        ) or type(innermost).__name__
        return shorten(self._settings.redact(words), 120)

    def _where(self) -> dict[str, str]:
        return {"method": self._request.method, "path": self._request.path}

    def _not_sent(self, message: str) -> ArroyoConnectionError:
        return ArroyoConnectionError(message, disposition=Disposition.RETRY, **self._where())

    def _sent(self, message: str) -> ArroyoConnectionError:
        if not self._request.is_idempotent:
            message += " It may have taken effect all the same: check before you repeat it."
        return ArroyoConnectionError(message, **self._where())
