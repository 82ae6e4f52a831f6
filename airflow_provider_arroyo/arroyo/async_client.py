"""The asynchronous client, on ``aiohttp``."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import aiohttp
from tenacity import AsyncRetrying
from yarl import URL

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.answers import interpret, interpret_event
from airflow_provider_arroyo.arroyo.call import Answer, Call, Exchange
from airflow_provider_arroyo.arroyo.details import ConnectionTable, JobError, OutputBatch, Page
from airflow_provider_arroyo.arroyo.listing import Item, PageWalk
from airflow_provider_arroyo.arroyo.output import STREAM_IDLE_SECONDS, OutputParser
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.arroyo.probe import LOOK_SECONDS, find_tls_trouble
from airflow_provider_arroyo.arroyo.retry import Attempts, Clock, RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.tls import make_ssl_context
from airflow_provider_arroyo.arroyo.transport import (
    PortLooks,
    Trouble,
    explain,
    proxy_for,
    request_headers,
    without_login,
)
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError

P = ParamSpec("P")
T = TypeVar("T")


def _bind(
    make: Callable[P, Call[T]],
) -> Callable[Concatenate[ArroyoAsyncClient, P], Coroutine[Any, Any, T]]:
    """Make a method of a function that describes a call."""

    @wraps(make)
    async def method(client: ArroyoAsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.call(make(*args, **kwargs))

    return method


class ArroyoAsyncClient:
    """Talks to one Arroyo API from an event loop. Every call of ``arroyo.api`` is a method, too.

    A call fails with an :class:`~airflow_provider_arroyo.exceptions.ArroyoError`; what passes is tried again
    as the policy says, with a warning each time. The session is opened by the first call, on its loop.

    :param settings: where it is, and how to talk to it.
    :param retry: how failed calls are tried again.
    :param session: a session to use instead of an own one; it is not closed here.
    :param sleep: how to wait, in seconds.
    :param clock: tells the time that deadlines are in, in seconds.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        retry: RetryPolicy | None = None,
        session: aiohttp.ClientSession | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self.settings = settings
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._given_session = session
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ssl_context: ssl.SSLContext | None = None
        proxy = proxy_for(settings)
        # aiohttp repeats a proxy's address in its errors, so the login goes into a header instead.
        self._proxy: str | None = None
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None:
            self._proxy, self._proxy_headers = without_login(proxy)
        self._is_tls = settings.base_url.startswith("https:")
        self._looks = PortLooks(settings, own_session=session is None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless the session was given. A later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- calls -----------------------------------------------------------------------------------------------------

    async def call(self, call: Call[T], *, deadline: float | None = None) -> T:
        """Make a call and return what it answers.

        :param call: from ``arroyo.api``.
        :param deadline: no attempt and no wait goes past this moment of the clock (``time.monotonic``
            seconds); None leaves it to the timeouts and the policy.
        :raises ArroyoError: says what to do next.
        :raises ValueError: where the call cannot be sent.
        """
        return (await self.exchange(call, deadline=deadline)).value

    async def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]:
        """Make a call and return what it answers, with what came beside it. As :meth:`call` otherwise."""
        attempts = Attempts(call, self._retry, deadline=deadline, clock=self._clock)
        try:
            retrying = AsyncRetrying(sleep=self._sleep, **attempts.options)
            return replace(await retrying(self._attempt, call, attempts), retries=attempts.retries)
        except ArroyoNotFoundError as err:
            if not attempts.is_done_already(err):
                raise
            return Exchange(call.read(Answer(200, {}, b"", "")))

    async def pages(self, call: Call[Page[Item]], *, deadline: float | None = None) -> AsyncIterator[Item]:
        """Yield the items of a list, asking for the next page only when it is needed.

        :param call: the first page.
        :param deadline: as for :meth:`call`.
        """
        walk = PageWalk(call)
        while (following := walk.call) is not None:
            for item in walk.take(await self.call(following, deadline=deadline)):
                yield item

    def iter_pipelines(self, *, page_size: int = 100) -> AsyncIterator[Pipeline]:
        """Yield the server's pipelines, newest first, previews left out.

        :param page_size: pipelines in one answer, default 100.
        """
        return self.pages(api.list_pipelines(limit=page_size))

    def iter_job_errors(
        self, pipeline_id: str, job_id: str, *, page_size: int = 100
    ) -> AsyncIterator[JobError]:
        """Yield the errors of a job, newest first.

        :param pipeline_id, job_id: of which.
        :param page_size: errors in one answer, default 100.
        """
        return self.pages(api.job_errors(pipeline_id, job_id, limit=page_size))

    def iter_connection_tables(self, *, page_size: int = 100) -> AsyncIterator[ConnectionTable]:
        """Yield the connection tables.

        :param page_size: tables in one answer, default 100.
        """
        return self.pages(api.list_connection_tables(limit=page_size))

    async def stream_output(
        self, pipeline_id: str, job_id: str, *, deadline: float | None = None
    ) -> AsyncIterator[OutputBatch]:
        """Yield the output of a preview from now on, until it ends.

        Rows made before are lost; the batches' ``start_id`` tells how many. Opening the stream is tried again
        as for any call, what comes after is not.

        :param pipeline_id, job_id: of which; the job must be running.
        :param deadline: as for :meth:`call`; past it, the stream ends with an error.
        """
        call = api.output(pipeline_id, job_id)
        attempts = Attempts(call, self._retry, deadline=deadline, clock=self._clock)
        response: aiohttp.ClientResponse = await AsyncRetrying(sleep=self._sleep, **attempts.options)(
            self._open_stream, call, attempts
        )
        parser = OutputParser()
        async with self._explained(call, attempts), response:
            async for chunk in response.content.iter_any():
                attempts.limit(STREAM_IDLE_SECONDS)
                for batch in interpret_event(parser, chunk, call, str(response.url), self.settings):
                    yield batch

    ping = _bind(api.ping)
    validate_query = _bind(api.validate_query)
    create_pipeline = _bind(api.create_pipeline)
    put_pipeline = _bind(api.put_pipeline)
    preview = _bind(api.preview)
    list_pipelines = _bind(api.list_pipelines)
    get_pipeline = _bind(api.get_pipeline)
    patch_pipeline = _bind(api.patch_pipeline)
    restart_pipeline = _bind(api.restart_pipeline)
    delete_pipeline = _bind(api.delete_pipeline)
    pipeline_jobs = _bind(api.pipeline_jobs)
    list_jobs = _bind(api.list_jobs)
    job_errors = _bind(api.job_errors)
    checkpoints = _bind(api.checkpoints)
    operator_checkpoints = _bind(api.operator_checkpoints)
    metrics = _bind(api.metrics)
    list_udfs = _bind(api.list_udfs)
    create_udf = _bind(api.create_udf)
    validate_udf = _bind(api.validate_udf)
    delete_udf = _bind(api.delete_udf)
    list_connectors = _bind(api.list_connectors)
    list_connection_tables = _bind(api.list_connection_tables)
    create_connection_table = _bind(api.create_connection_table)
    delete_connection_table = _bind(api.delete_connection_table)
    list_connection_profiles = _bind(api.list_connection_profiles)
    create_connection_profile = _bind(api.create_connection_profile)
    delete_connection_profile = _bind(api.delete_connection_profile)

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def _attempt(self, call: Call[T], attempts: Attempts) -> Exchange[T]:
        read_seconds = max(self.settings.read_timeout_seconds, call.min_read_timeout_seconds)
        total = self.settings.connect_timeout_seconds + read_seconds
        async with self._explained(call, attempts):
            response = await self._send(call, attempts, read_seconds, total)
            async with response:
                answer = _answer(response, await response.read())
        return interpret(call, answer, self.settings)

    async def _open_stream(self, call: Call[Any], attempts: Attempts) -> aiohttp.ClientResponse:
        async with self._explained(call, attempts):
            response = await self._send(call, attempts, STREAM_IDLE_SECONDS, None)
            try:
                # A refusal has a body to read; the stream is still to come.
                body = b"" if response.status == 200 else await response.read()
                interpret(call, _answer(response, body), self.settings)
            except BaseException:
                response.close()
                raise
        return response

    async def _send(
        self, call: Call[Any], attempts: Attempts, read_seconds: float, total_seconds: float | None
    ) -> aiohttp.ClientResponse:
        session = await self._connected()
        content = call.content()
        connect = attempts.limit(self.settings.connect_timeout_seconds)
        return await session.request(
            call.method,
            URL(self.settings.api_url + call.target, encoded=True),
            # As a file, since aiohttp warns of a large body in one piece.
            data=None if content is None else io.BytesIO(content),
            # Through a tunnel the proxy sees its own request alone, else the server's.
            headers=request_headers(call, self.settings) | ({} if self._is_tls else self._proxy_headers),
            timeout=aiohttp.ClientTimeout(
                total=attempts.left() if total_seconds is None else attempts.limit(total_seconds),
                connect=connect,
                sock_connect=connect,
                sock_read=attempts.limit(read_seconds),
            ),
            allow_redirects=False,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers if self._is_tls else None,
            ssl=self._ssl_context or True,
        )

    async def _connected(self) -> aiohttp.ClientSession:
        if self._ssl_context is None and self._is_tls:
            # It reads files and takes milliseconds. Calls that race here build it twice, and no harm is done.
            self._ssl_context = await asyncio.to_thread(make_ssl_context, self.settings)
        if self._given_session is not None:
            return self._given_session
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            if self._session is not None:
                # Its loop has gone, and its connections with it.
                self._session.detach()
            # Without trust_env, since a login of ~/.netrc would collide with the API key.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            # It would repeat GET, PUT and DELETE once by itself, unseen: no warning, and a DELETE whose answer
            # was lost would look like one of a pipeline that never was. Their own test client says it so, too.
            self._session._retry_connection = False
            self._loop = loop
        return self._session

    @asynccontextmanager
    async def _explained(self, call: Call[Any], attempts: Attempts) -> AsyncIterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            trouble = _trouble(err)
            error = explain(err, trouble, call, self.settings)
            if self._looks.is_worth_it(error, trouble):
                rest = attempts.rest(LOOK_SECONDS)
                self._looks.saw(
                    await asyncio.to_thread(find_tls_trouble, self.settings, self._ssl_context, rest)
                )
            raise self._looks.explain(error, trouble, call) from err
        self._looks.answered()


def _answer(response: aiohttp.ClientResponse, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, body, str(response.url))


_TROUBLES: tuple[tuple[Trouble, tuple[type[BaseException], ...]], ...] = (
    (
        Trouble.PROXY,
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL),
    ),
    (Trouble.CONNECT_TIMEOUT, (aiohttp.ConnectionTimeoutError,)),
    (Trouble.DNS, (aiohttp.ClientConnectorDNSError,)),
    (Trouble.CONNECT, (aiohttp.ClientConnectorError, aiohttp.ClientConnectorCertificateError)),
    (Trouble.READ_TIMEOUT, (TimeoutError,)),
    (Trouble.CUT_SHORT, (aiohttp.ClientPayloadError,)),
    (Trouble.NOT_HTTP, (aiohttp.ClientResponseError,)),
)
"""What the library's errors mean. The first that fits counts."""


def _trouble(error: BaseException) -> Trouble:
    for trouble, classes in _TROUBLES:
        if isinstance(error, classes):
            return trouble
    return Trouble.BROKEN
