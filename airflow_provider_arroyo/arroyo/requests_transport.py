"""What the synchronous client needs of ``requests``, and what its errors mean."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions

from airflow_provider_arroyo.arroyo.call import Answer
from airflow_provider_arroyo.arroyo.transport import Trouble, causes

_CHUNK_BYTES = 65536

LIBRARY_ERRORS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""What a call can fail with. Reading a body raises what requests does not wrap."""


class _Adapter(requests.adapters.HTTPAdapter):
    """Uses our own TLS context, so that both clients trust the same, and builds it once."""

    def __init__(self, ssl_context: ssl.SSLContext | None) -> None:
        self._ssl_context = ssl_context
        # Room for the idle connections of as many threads; each is opened when it is needed.
        super().__init__(pool_maxsize=100)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._ssl_context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._ssl_context)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the context as it is; requests would add its own authorities."""


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing. In its place, requests would put a login of ``~/.netrc`` over the API key."""
    return request


def new_session(ssl_context: ssl.SSLContext | None) -> requests.Session:
    """Return a session that takes everything from the settings, and nothing from its surroundings."""
    session = requests.Session()
    # Proxies are chosen by proxy_for and authorities by make_ssl_context.
    session.trust_env = False
    session.auth = _keep_headers
    adapter = _Adapter(ssl_context)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield what has come of the body, as it comes: nothing waits for a chunk to be full."""
    read1 = response.raw.read1
    while True:
        chunk = read1(_CHUNK_BYTES, decode_content=True)
        if not chunk:
            return
        yield chunk


def answer_of(response: requests.Response, body: bytes) -> Answer:
    """Return what came back, with its body read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body, response.url)


_TROUBLES: tuple[tuple[Trouble, tuple[type[BaseException], ...]], ...] = (
    (
        Trouble.PROXY,
        (
            requests.exceptions.ProxyError,
            requests.exceptions.InvalidURL,
            urllib3.exceptions.ProxyError,
        ),
    ),
    # These two are kinds of ConnectTimeoutError, whatever happened.
    (Trouble.DNS, (urllib3.exceptions.NameResolutionError,)),
    (Trouble.CONNECT, (urllib3.exceptions.NewConnectionError,)),
    (
        Trouble.CONNECT_TIMEOUT,
        (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError),
    ),
    (
        Trouble.READ_TIMEOUT,
        (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError),
    ),
    # A kind of BadStatusLine, but nothing came at all.
    (Trouble.BROKEN, (http.client.RemoteDisconnected,)),
    (Trouble.NOT_HTTP, (http.client.BadStatusLine, http.client.UnknownProtocol)),
    (
        Trouble.CUT_SHORT,
        (
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
            urllib3.exceptions.DecodeError,
            http.client.IncompleteRead,
        ),
    ),
)
"""What the libraries' errors mean. The first that is found among an error's causes counts."""


_BROKE_OFF = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionAbortedError, ConnectionResetError)
"""What only a connection that was there can do. urllib3 calls it an error of the proxy, where there is one."""


def trouble_of(error: BaseException) -> Trouble:
    """Return what an error means, or one that it was made of."""
    chain = list(causes(error))
    for trouble, classes in _TROUBLES:
        if any(isinstance(cause, classes) for cause in chain):
            broke_off = any(isinstance(cause, _BROKE_OFF) for cause in chain)
            return Trouble.BROKEN if trouble is Trouble.PROXY and broke_off else trouble
    return Trouble.BROKEN
