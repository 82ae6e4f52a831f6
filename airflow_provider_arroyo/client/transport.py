"""One HTTP session to one Arroyo API: TLS, proxies, timeouts, and errors that say what went wrong."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import requests.adapters
import urllib3

import airflow_provider_arroyo
from airflow_provider_arroyo.client.connection_errors import (
    LIBRARY_ERRORS,
    Failure,
    NotSentError,
    explain,
    failure_of,
)
from airflow_provider_arroyo.client.connections import POOLS, Deadline, within
from airflow_provider_arroyo.client.proxies import proxy_for
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.tls import PROBE_SECONDS, Finding, find_tls_problem, make_ssl_context
from airflow_provider_arroyo.exceptions import (
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoTlsError,
)

USER_AGENT = f"airflow-provider-arroyo/{airflow_provider_arroyo.__version__}"

MAX_RESPONSE_BYTES = 100_000_000
"""The largest body that is read, in bytes once decoded: a list of thousands of pipelines with large graphs. Half a
megabyte of gzip can be far more, and would take the memory and time of every wait of a triggerer.
"""

_CHUNK_BYTES = 65536
_MAX_PROBES = 3

SecondsLeft = Callable[[float], float]
"""Given a number of seconds, returns how many of them a try may still take; raises if its time is over."""


class OpenStream(NamedTuple):
    """A response whose body has not been read yet, and the deadline for reading it."""

    response: requests.Response
    deadline: Deadline


class Transport:
    """Sends requests on one pooled session. Takes all its settings from ``settings``, nothing from ``~/.netrc``.

    Threads may share it.

    :param settings: where the API is, and how to reach it.
    :param clock: a monotonic clock in seconds.
    :raises ArroyoSettingsError: if a file in the settings cannot be used; names the setting.
    """

    def __init__(self, settings: ClientSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self.files_changed_at = settings.check_files()
        is_tls = settings.base_url.startswith("https:")
        self._ssl_context = make_ssl_context(settings) if is_tls else None
        self._session = _new_session(self._ssl_context)
        proxy = proxy_for(settings)
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}
        # A port that does not respond is not probed for longer; behind a proxy, there is no port to probe.
        self._probes_left = _MAX_PROBES if proxy is None else 0
        self._finding: Finding | None = None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, request: Request[Any], seconds_left: SecondsLeft) -> HttpResponse:
        """Send a request once and return the whole response.

        :param request: the request.
        :param seconds_left: limits the try.
        :raises ArroyoError: if no complete response came.
        """
        read_seconds = max(self.settings.read_timeout_seconds, request.min_read_timeout_seconds)
        content = request.content()
        began = self._clock()
        allowed = seconds_left(self.settings.connect_timeout_seconds + read_seconds)
        with (
            self._explained(request, seconds_left),
            self._open(request, content, read_seconds, allowed).response as response,
        ):
            body = self._read_body(request, response, began + allowed)
            return _http_response(response, body, self._clock() - began)

    def open_stream(
        self, request: Request[Any], seconds_left: SecondsLeft
    ) -> tuple[HttpResponse, OpenStream]:
        """Send a request once; return the response, without its body if the status is 200, and the open stream.

        :param request: the request; its minimum read timeout is how long the body may pause.
        :param seconds_left: limits the try.
        :raises ArroyoError: if no response came.
        """
        content, idle_seconds = request.content(), request.min_read_timeout_seconds
        began = self._clock()
        allowed = seconds_left(self.settings.connect_timeout_seconds + idle_seconds)
        with self._explained(request, seconds_left):
            stream = self._open(request, content, idle_seconds, allowed)
            body = b""
            if stream.response.status_code != 200:
                with stream.response:
                    body = self._read_body(request, stream.response, began + allowed)
        return _http_response(stream.response, body), stream

    def read_stream(
        self, stream: OpenStream, request: Request[Any], seconds_left: SecondsLeft
    ) -> Iterator[bytes]:
        """Yield what arrives on a stream, then close it.

        :param stream, request, seconds_left: see :meth:`open_stream`.
        :raises ArroyoError: if the stream breaks, or its time is over.
        """
        with self._explained(request, seconds_left), stream.response:
            while True:
                stream.deadline.move(seconds_left(request.min_read_timeout_seconds))
                if not (chunk := _read(stream.response)):
                    return
                seconds_left(request.min_read_timeout_seconds)
                yield chunk

    def _read_body(self, request: Request[Any], response: requests.Response, ends_at: float) -> bytes:
        """Return the whole body, decoded.

        :param request, response: the request, and its response.
        :param ends_at: until when the body may come, by the transport's clock.
        :raises ArroyoForeignResponseError: if it is larger than any of Arroyo's.
        """
        body = bytearray()
        while chunk := _read(response):
            if self._clock() > ends_at:
                raise requests.exceptions.ReadTimeout("the response came too slowly")
            if len(body) + len(chunk) > MAX_RESPONSE_BYTES:
                raise ArroyoForeignResponseError(
                    f"{request} got a response of more than {MAX_RESPONSE_BYTES:,} bytes from "
                    f"{self.settings.shown_url}, so it is not Arroyo's. Check any gateway in between.",
                    status=response.status_code,
                    **request.where,
                )
            body += chunk
        return bytes(body)

    def _open(
        self, request: Request[Any], content: bytes | None, read_seconds: float, total: float
    ) -> OpenStream:
        # If a deadline leaves less than their sum, the total limits both together.
        timeout = urllib3.Timeout(
            total=total,
            connect=min(self.settings.connect_timeout_seconds, total),
            read=min(read_seconds, total),
        )
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json, text/event-stream;q=0.9",
            "Cache-Control": "no-cache",
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        deadline = Deadline(total)
        try:
            with within(deadline):
                response = self._session.request(
                    request.method,
                    self.settings.api_url + request.target,
                    data=content,
                    headers={**headers, **self.settings.request_headers},
                    timeout=timeout,  # type: ignore[arg-type]  # requests passes it on to urllib3 as it is
                    allow_redirects=False,
                    stream=True,
                    proxies=self._proxies,
                    verify=self.settings.verify,
                )
        except LIBRARY_ERRORS as err:
            if deadline.has_sent:
                raise
            raise NotSentError from err
        return OpenStream(response, deadline)

    @contextmanager
    def _explained(self, request: Request[Any], seconds_left: SecondsLeft) -> Iterator[None]:
        try:
            yield
        except ArroyoError:
            raise
        except LIBRARY_ERRORS as err:
            failure = failure_of(err)
            error = explain(err, failure, request, self.settings)
            # The library's own words name the whole address.
            is_shown = self.settings.redact(text := repr(err)) == text
            raise self._probed(error, failure, request, seconds_left) from (err if is_shown else None)
        # TLS works, so later failures have other causes.
        self._probes_left, self._finding = 0, None

    def _probed(
        self, error: ArroyoError, failure: Failure, request: Request[Any], seconds_left: SecondsLeft
    ) -> ArroyoError:
        """Return the error, or what a probe of the port finds if the error may hide a TLS problem."""
        if type(error) is not ArroyoConnectionError:
            return error
        is_broken = failure is Failure.BROKEN
        may_be_tls = is_broken or self.settings.base_url.startswith("https:")
        if self._probes_left and may_be_tls and failure not in (Failure.DNS, Failure.CUT_SHORT):
            self._probes_left -= 1
            with suppress(ArroyoConnectionError):
                left = seconds_left(PROBE_SECONDS)
                self._finding = find_tls_problem(self.settings, self._ssl_context, left)
        finding = self._finding
        if finding is None:
            return error
        if finding.is_certain:
            self._finding = None
            return ArroyoTlsError(finding.message, **request.where)
        if not is_broken:
            return error
        # The request itself may have got through, and the server may have gone down since.
        message = f"{error} {finding.message}"
        return ArroyoConnectionError(
            message, disposition=error.disposition, is_hang_up=error.is_hang_up, **request.where
        )


class _Adapter(requests.adapters.HTTPAdapter):
    """Uses our own connections and TLS context, so that requests does not add CA certificates of its own."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self._ssl_context = ssl_context
        # Keeps as many idle connections as there are threads; each is opened when needed.
        super().__init__(pool_maxsize=100)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._ssl_context)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._ssl_context)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the login in a proxy's address as UTF-8, which requests does not support."""
        parts = urlsplit(proxy)
        if not parts.username:
            return {}
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": "Basic " + b64encode(login.encode()).decode()}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the context unchanged."""


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing. Otherwise requests would replace the API key by a login from ``~/.netrc``."""
    return request


class _Session(requests.Session):
    """Never resolves a redirect: requests would do so even without following it, and fail on an invalid address."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _new_session(ssl_context: ssl.SSLContext | None) -> requests.Session:
    session = _Session()
    # proxy_for chooses the proxy, and make_ssl_context the CA certificates.
    session.trust_env = False
    session.auth = _keep_headers
    # Otherwise a gateway's cookie would be sent with every later request, whatever it contains.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(ssl_context)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _read(response: requests.Response) -> bytes:
    """Return the part of the body that has arrived, without waiting for a full chunk; empty at its end."""
    chunk: bytes = response.raw.read1(_CHUNK_BYTES, decode_content=True)
    return chunk


def _http_response(response: requests.Response, body: bytes, took_seconds: float = 0.0) -> HttpResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(response.status_code, headers, body, response.url, took_seconds)
