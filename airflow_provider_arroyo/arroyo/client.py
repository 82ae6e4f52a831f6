"""The synchronous client, on ``requests``."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import requests
import urllib3
from tenacity import Retrying

from airflow_provider_arroyo.arroyo import api, listing
from airflow_provider_arroyo.arroyo.answers import interpret, interpret_event
from airflow_provider_arroyo.arroyo.call import Answer, Call, Exchange
from airflow_provider_arroyo.arroyo.details import ConnectionTable, JobError, OutputBatch, Page
from airflow_provider_arroyo.arroyo.output import STREAM_IDLE_SECONDS, OutputParser
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
from airflow_provider_arroyo.arroyo.probe import LOOK_SECONDS, find_tls_trouble
from airflow_provider_arroyo.arroyo.requests_transport import (
    LIBRARY_ERRORS,
    answer_of,
    chunks,
    new_session,
    trouble_of,
)
from airflow_provider_arroyo.arroyo.retry import Attempts, Clock, RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.arroyo.tls import make_ssl_context
from airflow_provider_arroyo.arroyo.transport import (
    PortLooks,
    explain,
    proxy_for,
    request_headers,
)
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError

P = ParamSpec("P")
T = TypeVar("T")


def _bind(make: Callable[P, Call[T]]) -> Callable[Concatenate[ArroyoClient, P], T]:
    """Make a method of a function that describes a call."""

    @wraps(make)
    def method(client: ArroyoClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.call(make(*args, **kwargs))

    return method


class ArroyoClient:
    """Talks to one Arroyo API, on one pooled session. Every call of ``arroyo.api`` is a method, too.

    A call fails with an :class:`~airflow_provider_arroyo.exceptions.ArroyoError`; what passes is tried again
    as the policy says, with a warning each time.

    :param settings: where it is, and how to talk to it.
    :param retry: how failed calls are tried again.
    :param session: a session to use instead of an own one; TLS is then as the session has it, and it is not
        closed here.
    :param sleep: how to wait, in seconds.
    :param clock: tells the time that deadlines are in, in seconds.
    :raises ArroyoSettingsError: names the setting whose file cannot be used.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        retry: RetryPolicy | None = None,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self.settings = settings
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._clock = clock
        self._owns_session = session is None
        self._ssl_context: ssl.SSLContext | None = None
        if session is None:
            settings.check_files()
            if settings.base_url.startswith("https:"):
                self._ssl_context = make_ssl_context(settings)
        self._session = session or new_session(self._ssl_context)
        self._looks = PortLooks(settings, own_session=session is None)
        proxy = proxy_for(settings)
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless the session was given."""
        if self._owns_session:
            self._session.close()

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, call: Call[T], *, deadline: float | None = None) -> T:
        """Make a call and return what it answers.

        :param call: from ``arroyo.api``.
        :param deadline: no attempt and no wait goes past this moment of the clock (``time.monotonic``
            seconds); None leaves it to the timeouts and the policy.
        :raises ArroyoError: says what to do next.
        :raises ValueError: where the call cannot be sent.
        """
        return self.exchange(call, deadline=deadline).value

    def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]:
        """Make a call and return what it answers, with what came beside it. As :meth:`call` otherwise."""
        attempts = Attempts(call, self._retry, deadline=deadline, clock=self._clock)
        try:
            answer = Retrying(sleep=self._sleep, **attempts.options)(self._attempt, call, attempts)
            return replace(answer, retries=attempts.retries)
        except ArroyoNotFoundError as err:
            if not attempts.is_done_already(err):
                raise
            return Exchange(call.read(Answer(200, {}, b"", "")))

    def pages(
        self, call: Call[Page[listing.Item]], *, deadline: float | None = None
    ) -> Iterator[listing.Item]:
        """Yield the items of a list, asking for the next page only when it is needed.

        :param call: the first page.
        :param deadline: as for :meth:`call`.
        """
        walk = listing.PageWalk(call)
        while (following := walk.call) is not None:
            yield from walk.take(self.call(following, deadline=deadline))

    def iter_pipelines(self, *, page_size: int = 100) -> Iterator[Pipeline]:
        """Yield the server's pipelines, newest first, previews left out.

        :param page_size: pipelines in one answer, default 100.
        """
        return listing.iter_pipelines(self, page_size=page_size)

    def iter_job_errors(self, pipeline_id: str, job_id: str, *, page_size: int = 100) -> Iterator[JobError]:
        """Yield the errors of a job, newest first.

        :param pipeline_id, job_id: of which.
        :param page_size: errors in one answer, default 100.
        """
        return self.pages(api.job_errors(pipeline_id, job_id, limit=page_size))

    def iter_connection_tables(self, *, page_size: int = 100) -> Iterator[ConnectionTable]:
        """Yield the connection tables.

        :param page_size: tables in one answer, default 100.
        """
        return self.pages(api.list_connection_tables(limit=page_size))

    def stream_output(
        self, pipeline_id: str, job_id: str, *, deadline: float | None = None
    ) -> Iterator[OutputBatch]:
        """Yield the output of a preview from now on, until it ends.

        Rows made before are lost; the batches' ``start_id`` tells how many. Opening the stream is tried again
        as for any call, what comes after is not.

        :param pipeline_id, job_id: of which; the job must be running.
        :param deadline: as for :meth:`call`; past it, the stream ends with an error, at the next batch at the
            latest.
        """
        call = api.output(pipeline_id, job_id)
        attempts = Attempts(call, self._retry, deadline=deadline, clock=self._clock)
        response = Retrying(sleep=self._sleep, **attempts.options)(self._open_stream, call, attempts)
        parser = OutputParser()
        with response, self._explained(call, attempts):
            for chunk in chunks(response):
                attempts.limit(STREAM_IDLE_SECONDS)
                yield from interpret_event(parser, chunk, call, response.url, self.settings)

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

    def _attempt(self, call: Call[T], attempts: Attempts) -> Exchange[T]:
        read_seconds = max(self.settings.read_timeout_seconds, call.min_read_timeout_seconds)
        began = self._clock()
        allowed = attempts.limit(self.settings.connect_timeout_seconds + read_seconds)
        with self._explained(call, attempts), self._send(call, attempts, read_seconds) as response:
            body = bytearray()
            for chunk in chunks(response):
                body += chunk
                if self._clock() - began > allowed:
                    raise requests.exceptions.ReadTimeout("the answer came too slowly")
            answer = answer_of(response, bytes(body))
        return interpret(call, answer, self.settings)

    def _open_stream(self, call: Call[Any], attempts: Attempts) -> requests.Response:
        with self._explained(call, attempts):
            response = self._send(call, attempts, STREAM_IDLE_SECONDS)
            try:
                # A refusal has a body to read; the stream is still to come.
                body = b"" if response.status_code == 200 else response.content
                interpret(call, answer_of(response, body), self.settings)
            except BaseException:
                response.close()
                raise
        return response

    def _send(self, call: Call[Any], attempts: Attempts, read_seconds: float) -> requests.Response:
        # The total bounds both together where a deadline leaves less than their sum.
        total = attempts.limit(self.settings.connect_timeout_seconds + read_seconds)
        timeout = urllib3.Timeout(
            total=total,
            connect=min(self.settings.connect_timeout_seconds, total),
            read=min(read_seconds, total),
        )
        return self._session.request(
            call.method,
            self.settings.api_url + call.target,
            data=call.content(),
            headers=request_headers(call, self.settings),
            timeout=timeout,  # type: ignore[arg-type]  # requests passes it on to urllib3 as it is
            allow_redirects=False,
            stream=True,
            proxies=self._proxies,
            verify=self.settings.verify,
        )

    @contextmanager
    def _explained(self, call: Call[Any], attempts: Attempts) -> Iterator[None]:
        try:
            yield
        except LIBRARY_ERRORS as err:
            trouble = trouble_of(err)
            error = explain(err, trouble, call, self.settings)
            if self._looks.is_worth_it(error, trouble):
                rest = attempts.rest(LOOK_SECONDS)
                self._looks.saw(find_tls_trouble(self.settings, self._ssl_context, rest))
            raise self._looks.explain(error, trouble, call) from err
        self._looks.answered()
