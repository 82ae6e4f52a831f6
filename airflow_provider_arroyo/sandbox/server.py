"""The sandbox on a port: HTTP as a real server speaks it, with the faults that were ordered."""

from __future__ import annotations

import asyncio
import hmac
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any

from aiohttp import web

from . import orders
from .api import Api
from .calls import Answer, BadQueryError, Call, Output, RefusedError
from .control import Control
from .faults import Faults
from .output import stream_output
from .request_log import Request, RequestLog
from .routes import PREFIX, Routes
from .tls import TlsProtocol

BODY_LIMIT = 2 * 1024 * 1024
_VARY_CORS = "origin, access-control-request-method, access-control-request-headers"
_VARY_ENCODING = "accept-encoding"
_COMPRESSIBLE = 32
"""From this size on a real server would compress an answer, and says so in ``vary``."""

_NOT_FOUND = RefusedError(404, "Route not found").answer
_TOO_LARGE = RefusedError(413, "Failed to buffer the request body: length limit exceeded").answer
_NO_LINGER = struct.pack("ii", 1, 0)


class _Abandoned(Exception):  # noqa: N818 - not an error: the connection was closed on purpose
    """There is nobody to answer any more."""


class Server:
    """Listens on a port and answers.

    :param api: who answers the calls.
    :param lock: held while the state is looked at or changed.
    :param api_key: the static key that every request must carry; None: anybody may call.
    :param tls: for HTTPS; None: plain HTTP.
    """

    def __init__(
        self,
        *,
        api: Api,
        log: RequestLog,
        lock: threading.RLock,
        rng: random.Random,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._api = api
        self.engine = api.engine
        self.store = api.store
        self._routes = Routes(api)
        self.log = log
        self._lock = lock
        self._rng = rng
        self._expected = None if api_key is None else f"Bearer {api_key}".encode()
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._returning: asyncio.Task[None] | None = None
        self._dated: tuple[int, str] = (0, "")
        self.thread_id: int | None = None
        """The thread of the event loop: there nothing may be waited for."""
        self.host = ""
        self.port = 0
        self.faults = Faults(engine=api.engine, store=api.store, api=api, gate=self, lock=lock)
        self.control: Control | None = None

    # -- coming and going ---------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> None:
        """Listen.

        :param port: 0 takes a free one; ``self.port`` says which.
        :raises OSError: where the address cannot be had.
        """
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._dress)
        # No access log, and no wait for open streams when it ends.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await self._listen(host, port)

    async def _listen(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        self.host, self.port = host, sock.getsockname()[1]
        if self._runner is None or self._runner.server is None:
            raise RuntimeError("the server was not started")
        factory: Callable[[], asyncio.BaseProtocol] = self._runner.server
        if self._tls is not None:
            factory = partial(TlsProtocol, self._tls, self._runner.server)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(factory, sock=sock, backlog=1024)

    async def stop(self) -> None:
        """Close everything."""
        if self._returning is not None:
            self._returning.cancel()
        self._stop_listening()
        self._reset_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self, until_micros: int | None) -> None:
        """Refuse connections and reset the open ones; see :class:`faults.Gate`."""
        self._on_loop(self._go_away(until_micros))

    def open(self) -> None:
        """Take connections again."""
        self._on_loop(self._come_back())

    def _on_loop(self, work: Any) -> None:
        if self._loop is None:
            raise RuntimeError("the server was not started")
        if threading.get_ident() == self.thread_id:
            self._loop.create_task(work)
            return
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _go_away(self, until_micros: int | None) -> None:
        self._stop_listening()
        self._reset_all()
        if until_micros is not None:
            self._returning = asyncio.get_running_loop().create_task(self._return_at(until_micros))

    async def _return_at(self, moment: int) -> None:
        await self.engine.sleep_until(moment)
        await self._come_back()

    async def _come_back(self) -> None:
        if self._listener is None:
            await self._listen(self.host, self.port)

    def _reset_all(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else []:
            if connection.transport is not None:
                _reset(connection.transport)

    # -- answering ----------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        try:
            if path.startswith("/sandbox") and self.control is not None:
                return await self.control.answer(request, path)
            return await self._answer(request, path, query)
        except _Abandoned:
            # The connection is gone; whatever is returned is not sent.
            return web.Response(status=500)

    async def _answer(self, request: web.Request, path: str, query: str) -> web.StreamResponse:
        try:
            body = await self._body(request)
        except ConnectionError as error:
            raise _Abandoned from error
        method = request.method
        is_api = path.startswith("/api")
        entry: Request | None = None
        befalling: list[orders.OnRequest] = []
        with self._lock:
            if is_api:
                self.engine.clock.looked_at()
            now = self.engine.advance()
            if is_api:
                headers = {name.lower(): value for name, value in request.headers.items()}
                entry = Request(method, path, query, headers, body or b"", now)
                self.log.add(entry)
                befalling = self.faults.befalling(method, path)
        if befalling and (answer := await self._befall(request, befalling)) is not None:
            if entry is not None:
                entry.status = answer.status
            return answer
        if self._expected is not None and not self._has_key(request):
            answer = web.Response(status=401)
        elif not is_api:
            answer = self._page(request)
        elif body is None:
            answer = _response(_TOO_LARGE)
        else:
            with self._lock:
                self.engine.advance()
                result = self._call(request, path, query, body)
            if isinstance(result, Output):
                if entry is not None:
                    entry.status = 200
                return await stream_output(request, result.job, self.engine, self._lock)
            answer = _response(result)
        if befalling:
            await self._befall_after(request, befalling, answer)
        if entry is not None:
            entry.status = answer.status
        return answer

    def _call(self, request: web.Request, path: str, query: str, body: bytes) -> Answer | Output:
        method = request.method
        if method == "OPTIONS":
            return _PREFLIGHT
        found = self._routes.find(method, path[len(PREFIX) :]) if path.startswith(PREFIX) else None
        if found is None or found.allowed is None:
            return _NOT_FOUND
        if found.handler is None:
            return Answer(405, b"", None, {"allow": found.allowed})
        content_type = request.headers.get("content-type", "")
        try:
            return found.handler(Call(method, found.ids, query, body, content_type))
        except (RefusedError, BadQueryError) as refused:
            return refused.answer

    def _page(self, request: web.Request) -> web.Response:
        if self.control is None or request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"allow": "GET,HEAD"})
        return self.control.page()

    async def _body(self, request: web.Request) -> bytes | None:
        """Return the body; None where it is larger than a real server takes."""
        if not request.body_exists:
            return b""
        parts, size = [], 0
        async for part in request.content.iter_chunked(65536):
            size += len(part)
            if size <= BODY_LIMIT:
                parts.append(part)
        return b"".join(parts) if size <= BODY_LIMIT else None

    def _has_key(self, request: web.Request) -> bool:
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        return self._expected is not None and hmac.compare_digest(given, self._expected)

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.pop("Server", None)
        second = self.engine.now // 1_000_000
        if self._dated[0] != second:
            self._dated = (second, formatdate(second, usegmt=True))
        headers["Date"] = self._dated[1]
        if response.content_length == 0:
            headers.pop("Content-Type", None)

    # -- faults -------------------------------------------------------------------------------------------

    async def _befall(self, request: web.Request, befalling: list[orders.OnRequest]) -> web.Response | None:
        for order in befalling:
            match order:
                case orders.Latency():
                    await asyncio.sleep(order.seconds + self._rng.random() * order.jitter_seconds)
                case orders.Reset(after_effect=False):
                    _abandon(request)
                case orders.Hang(after_effect=False):
                    await _hang(request)
                case orders.Status(after_effect=False):
                    return _ordered(order)
                case orders.NotJson():
                    return web.Response(
                        body=order.body.encode(), headers={"Content-Type": order.content_type}
                    )
        return None

    async def _befall_after(
        self, request: web.Request, befalling: list[orders.OnRequest], answer: web.Response
    ) -> None:
        for order in befalling:
            match order:
                case orders.Reset():
                    _abandon(request)
                case orders.Hang():
                    await _hang(request)
                case orders.Status():
                    replaced = _ordered(order)
                    answer.set_status(replaced.status)
                    answer.body = replaced.body
                    answer.headers.update(replaced.headers)
                case orders.CutShort():
                    await _cut_short(request, answer)


_PREFLIGHT = Answer(
    200, b"", None, {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}
)


def _response(answer: Answer) -> web.Response:
    long = len(answer.body) >= _COMPRESSIBLE
    headers = {
        "vary": _VARY_ENCODING if long else _VARY_CORS,
        "access-control-allow-origin": "*",
        **answer.headers,
    }
    if answer.content_type is not None:
        headers["content-type"] = answer.content_type
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def _ordered(order: orders.Status) -> web.Response:
    answer = Answer(order.status, b"", None)
    if order.error is not None:
        answer = RefusedError(order.status, order.error).answer
    response = _response(answer)
    if order.retry_after is not None:
        response.headers["retry-after"] = str(order.retry_after)
    return response


def _reset(transport: Any) -> None:
    # Without lingering, a close is a reset, not an orderly end.
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def _abandon(request: web.Request) -> None:
    if request.transport is not None:
        _reset(request.transport)
    raise _Abandoned


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _hang(request: web.Request) -> None:
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000000"})
    await response.prepare(request)
    await response.write(b'{"data":[')
    while not _gone(request):  # noqa: ASYNC110 - no event tells a handler that the client went away
        await asyncio.sleep(0.05)
    raise _Abandoned


async def _cut_short(request: web.Request, answer: web.Response) -> None:
    body = answer.body if isinstance(answer.body, bytes) else b""
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    headers["content-length"] = str(max(2, len(body)))
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    await response.write(body[: len(body) // 2] or b"{")
    if request.transport is not None:
        request.transport.close()
    raise _Abandoned
