"""What it means when no answer comes: one judgement of both libraries' errors."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import airflow_provider_arroyo
from airflow_provider_arroyo.arroyo.answers import MAX_BODY_BYTES, too_large
from airflow_provider_arroyo.arroyo.call import Call, Repeat
from airflow_provider_arroyo.arroyo.probe import Finding
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.tls import error_reason, explain_tls, plain_to_tls
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoResponseError,
    ArroyoTlsError,
    shorten,
)

USER_AGENT = f"airflow-provider-arroyo/{airflow_provider_arroyo.__version__}"

_TLS_RECORDS = ("\\x15\\x03", "\x15\x03", "\\x16\\x03", "\x16\x03")
"""How the first bytes of TLS, an alert or a handshake, look inside an error's text."""


class Trouble(Enum):
    """What went wrong, as far as the library's error tells."""

    CONNECT_TIMEOUT = "connect timeout"
    READ_TIMEOUT = "read timeout"
    CONNECT = "connect"
    DNS = "name resolution"
    PROXY = "proxy"
    NOT_HTTP = "not HTTP"
    CUT_SHORT = "cut short"
    BROKEN = "broken"


def request_headers(call: Call[Any], settings: ClientSettings) -> dict[str, str]:
    """Return the headers to send with a call. They hold secrets."""
    headers = {"User-Agent": USER_AGENT, "Accept": "application/json, text/event-stream;q=0.9"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return {**headers, **settings.request_headers}


def proxy_for(settings: ClientSettings) -> str | None:
    """Return the address of the proxy to go through; None to go straight.

    The settings' own proxies count alone where there are any; else the environment's, less ``no_proxy``.
    """
    parts = urlsplit(settings.base_url)
    if settings.proxies:
        return settings.proxies.get(parts.scheme)
    host = parts.hostname
    if not host or proxy_bypass(parts.netloc) or proxy_bypass(host) or _is_in_network(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    # As curl reads it: where it says no scheme, it is a proxy that speaks HTTP.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _is_in_network(host: str) -> bool:
    """Return whether a host is an address in one of the networks that ``no_proxy`` names, as ``10.0.0.0/8``."""
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in entries.split(","):
        # Most hosts are names, and most entries are no networks.
        with suppress(ValueError):
            if "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(
                entry.strip(), strict=False
            ):
                return True
    return False


def without_login(proxy: str) -> tuple[str, dict[str, str]]:
    """Return a proxy's address without its login, and the header that carries the login instead."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return proxy, {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return address, {"Proxy-Authorization": f"Basic {b64encode(login).decode()}"}


def explain(error: BaseException, trouble: Trouble, call: Call[Any], settings: ClientSettings) -> ArroyoError:
    """Return what the caller is told when no answer came.

    :param error: the library's error, whose causes are looked at too.
    :param trouble: what the library says of it.
    :param call: what was asked.
    :param settings: how it was asked; nothing secret of it is repeated.
    """
    return _Explanation(error, trouble, call, settings).error()


class PortLooks:
    """Says when a failed call is worth a look at the port (``probe.py``), which may tell what the failure hid.

    :param settings: how calls are made.
    :param own_session: whether they are made as the settings say, and not in a session of the caller's.
    """

    def __init__(self, settings: ClientSettings, *, own_session: bool) -> None:
        self._settings = settings
        # An address that just does not answer is not worth more.
        self._left = 3 if own_session and proxy_for(settings) is None else 0
        self._found: Finding | None = None

    def answered(self) -> None:
        """Take note of an answer: what TLS needs is there, so later failures have other causes."""
        self._left, self._found = 0, None

    def is_worth_it(self, error: ArroyoError, trouble: Trouble) -> bool:
        """Return whether to look after a failure; counts the look."""
        if self._left == 0 or type(error) is not ArroyoConnectionError:
            return False
        if trouble in (Trouble.DNS, Trouble.CUT_SHORT):
            return False
        if trouble is not Trouble.BROKEN and not self._settings.base_url.startswith("https:"):
            return False
        self._left -= 1
        return True

    def saw(self, found: Finding | None) -> None:
        """Take note of what was seen at the port."""
        self._found = found

    def explain(self, error: ArroyoError, trouble: Trouble, call: Call[Any]) -> ArroyoError:
        """Return what a failed call comes to, in the light of what was seen at the port."""
        found = self._found
        if found is None or type(error) is not ArroyoConnectionError:
            return error
        if found.is_certain:
            self._found = None
            return _tls_error(found.message, call)
        if trouble is not Trouble.BROKEN:
            return error
        # The call itself may have got through, and what answered it may have gone since.
        return ArroyoConnectionError(
            f"{error} {found.message}", was_sent=error.was_sent, method=call.method, path=call.path
        )


def _tls_error(message: str, call: Call[Any]) -> ArroyoTlsError:
    """Return the error for a call that TLS stands in the way of."""
    return ArroyoTlsError(message, was_sent=False, method=call.method, path=call.path)


class _Explanation:
    def __init__(
        self, error: BaseException, trouble: Trouble, call: Call[Any], settings: ClientSettings
    ) -> None:
        self._causes = list(causes(error))
        self._trouble = trouble
        self._call = call
        self._settings = settings
        self._base_url = settings.base_url

    def error(self) -> ArroyoError:
        if self._trouble is Trouble.PROXY:
            return self._unsent(
                f"The proxy on the way to {self._base_url} cannot be used ({self._detail()}). "
                "Check the setting proxies, or the environment's http_proxy and https_proxy."
            )
        if (tls := self._tls()) is not None:
            return tls
        if self._trouble is Trouble.NOT_HTTP:
            return self._not_http()
        if self._trouble is Trouble.CONNECT_TIMEOUT:
            return self._unsent(
                f"{self._base_url} did not take a connection in time (connect timeout "
                f"{self._settings.connect_timeout_seconds:g} s). Check host, port and any firewall in between."
            )
        if self._trouble is Trouble.DNS or self._find(socket.gaierror):
            return self._unsent(
                f"The host name in {self._base_url} cannot be resolved ({self._detail()}). "
                "Check its spelling, and the DNS of this machine."
            )
        if self._find(ConnectionRefusedError):
            return self._unsent(
                f"{self._base_url} refused the connection. "
                "Check that Arroyo runs there, and that host and port are right."
            )
        if self._trouble is Trouble.CONNECT:
            return self._unsent(
                f"{self._base_url} cannot be reached ({self._detail()}). Check host and port."
            )
        if self._trouble is Trouble.READ_TIMEOUT:
            return self._sent(f"{self._base_url} did not answer {self._call} in time.")
        if self._size() > MAX_BODY_BYTES:
            # A server that refuses so large a body may hang up before it is read, and its answer is lost.
            return too_large(
                self._call, self._settings, status=413, method=self._call.method, path=self._call.path
            )
        if self._trouble is Trouble.CUT_SHORT:
            return self._sent(f"The answer of {self._base_url} to {self._call} was cut short.")
        return self._sent(
            f"{self._base_url} broke the connection before it answered {self._call} ({self._detail()})."
        )

    def _tls(self) -> ArroyoError | None:
        found = [cause for cause in self._causes if isinstance(cause, ssl.SSLError)]
        for cause in found:
            if message := explain_tls(cause, self._settings):
                return _tls_error(message, self._call)
        if found and self._trouble is Trouble.CONNECT:
            return self._unsent(
                f"The TLS handshake with {self._base_url} broke off ({self._detail()}). "
                "Check that this port speaks TLS."
            )
        return None

    def _not_http(self) -> ArroyoError:
        text = " ".join(str(cause) for cause in self._causes)
        if any(sign in text for sign in _TLS_RECORDS):
            return _tls_error(plain_to_tls(self._base_url), self._call)
        return ArroyoResponseError(
            f"What listens at {self._base_url} does not speak HTTP. "
            f"Check that the connection's host and port lead to Arroyo. It said: {self._detail()}",
            status=0,
            method=self._call.method,
            path=self._call.path,
        )

    # -- parts -----------------------------------------------------------------------------------------------------

    def _find(self, cls: type[BaseException]) -> bool:
        return any(isinstance(cause, cls) for cause in self._causes)

    def _size(self) -> int:
        return len(self._call.content() or b"")

    def _detail(self) -> str:
        innermost = self._causes[-1]
        words = (
            getattr(innermost, "strerror", None) or error_reason(innermost) or str(innermost).strip()
        ) or type(innermost).__name__
        return shorten(self._settings.redact(words), 120)

    def _where(self) -> dict[str, str]:
        return {"method": self._call.method, "path": self._call.path}

    def _unsent(self, message: str) -> ArroyoConnectionError:
        return ArroyoConnectionError(message, was_sent=False, **self._where())

    def _sent(self, message: str) -> ArroyoConnectionError:
        if self._call.repeat is Repeat.UNSENT_ONLY:
            message += " It may have taken effect all the same: look before it is made again."
        return ArroyoConnectionError(message, was_sent=True, **self._where())


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and whatever it was made of, outermost first, also where a library kept it aside."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [
            *current.args,
            getattr(current, "reason", None),
            getattr(current, "os_error", None),
            getattr(current, "certificate_error", None),
            current.__cause__,
            current.__context__,
        ]
