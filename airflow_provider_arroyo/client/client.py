"""The client: a method for every endpoint, and one way to send requests."""

from __future__ import annotations

import copy
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from tenacity import Retrying, retry_if_exception

from airflow_provider_arroyo.client import catalog, endpoints, lists
from airflow_provider_arroyo.client.catalog import ConnectionTable
from airflow_provider_arroyo.client.details import OutputBatch
from airflow_provider_arroyo.client.failed_sql import error_of_sql
from airflow_provider_arroyo.client.link import Counts, Link
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.output import iter_batches
from airflow_provider_arroyo.client.request import HttpResponse, Request, Response, without_none
from airflow_provider_arroyo.client.responses import interpret
from airflow_provider_arroyo.client.retry import Clock, Limits, Tries
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.transport import OpenStream, Transport
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    Disposition,
)

P = ParamSpec("P")
T = TypeVar("T")

PAGE_SIZE = 100
NAMED_PAGE_SIZE = 1000

_ARROYOS_OWN = (ArroyoNotFoundError, ArroyoConflictError, ArroyoQueryError)
"""Errors in which Arroyo itself refuses a request."""


def _method(make: Callable[P, Request[T]]) -> Callable[Concatenate[ArroyoClient, P], T]:
    """Return a method that sends the request made by a function, with a signature for help() and the docs."""

    @wraps(make)
    def method(client: ArroyoClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(make(*args, **kwargs)).value

    made = inspect.signature(make)
    taken = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *made.parameters.values()]
    value = str(made.return_annotation).removeprefix("Request[").removesuffix("]")
    vars(method)["__signature__"] = made.replace(parameters=taken, return_annotation=value)
    return method


class ArroyoClient:
    """Sends requests to one Arroyo API on one pooled session: a method for every endpoint.

    A method raises an :class:`~airflow_provider_arroyo.exceptions.ArroyoError`. A request that fails temporarily is
    repeated, if that is safe, for as long as the limits allow: with a warning for the first retry, and one line when
    the outage ends. After 401, 403 and 407, the settings are loaded once more. Threads may share a client.

    :param settings: where the API is, and how to reach it.
    :param limits: how long a request may take with its retries, default 15 seconds.
    :param reload: loads the settings again, in case a key was rotated; default None keeps them.
    :param log: logs retries, and what the caller does with the client.
    :param sleep: waits for a number of seconds.
    :param clock: a monotonic clock in seconds; deadlines are times of this clock.
    :raises ArroyoSettingsError: if a file in the settings cannot be used; names the setting.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        limits: Limits | None = None,
        reload: Callable[[], ClientSettings] | None = None,
        log: Any = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self.log = log or logging.getLogger(__name__)
        self.sleep = sleep
        self.clock = clock
        self._link = Link(Transport(settings, clock=clock), reload, clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings.shown_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def settings(self) -> ClientSettings:
        """Where the API is, and how to reach it."""
        return self._link.transport.settings

    @property
    def has_responded(self) -> bool:
        """Whether Arroyo itself has responded to this client."""
        return self._link.has_responded

    @property
    def server_ahead_seconds(self) -> float:
        """By how much the server's clock is ahead of this machine's, by the last response; 0 if they agree."""
        return self._link.server_ahead_seconds

    @property
    def counts(self) -> Counts:
        """Counts of this client and of all clients derived from it."""
        return self._link.counts

    def expect_arroyo(self) -> None:
        """Assume that Arroyo has responded at this address before, for example in an earlier process."""
        self._link.has_responded = True

    def close(self) -> None:
        """Close the connections."""
        self._link.transport.close()

    def with_limits(
        self,
        *,
        max_elapsed_seconds: float | None = None,
        first_try_seconds: float | None = None,
        deadline: float | None = None,
        log: Any = None,
    ) -> Self:
        """Return a client with other limits on the same connections. None keeps a value.

        :param max_elapsed_seconds, first_try_seconds, deadline: see :class:`.Limits`.
        :param log: see :class:`ArroyoClient`.
        """
        other = copy.copy(self)
        changed = without_none(
            max_elapsed_seconds=max_elapsed_seconds, first_try_seconds=first_try_seconds, deadline=deadline
        )
        other.limits = replace(self.limits, **changed)
        other.log = log or self.log
        return other

    def with_short_limit(self, seconds: float) -> Self:
        """Return a client with a short limit, for what only explains or proves something.

        :param seconds: how long a request may take in total, even if it is slow.
        """
        return self.with_limits(
            max_elapsed_seconds=min(seconds, self.limits.max_elapsed_seconds), first_try_seconds=seconds
        )

    def reload(self) -> None:
        """Load the settings again, and use them from now on if they have changed.

        :raises ArroyoSettingsError: if they lead to another server, or cannot be used.
        """
        self._link.reload()

    # -- requests ----------------------------------------------------------------------------------------------

    def send(self, request: Request[T]) -> Response[T]:
        """Send a request within the limits, repeat it if that is safe, and return the response.

        :param request: from ``endpoints`` or ``catalog``.
        :raises ArroyoError: if it fails; says what to do next.
        :raises ValueError: if the request cannot be sent.
        """
        tries = self._tries(request)
        try:
            return self._repeat(request, tries, self._try)
        except ArroyoNotFoundError:
            if not tries.is_done_already():
                raise
            return Response(request.read(HttpResponse(200, {}, b"", "")))

    def _tries(self, request: Request[Any]) -> Tries:
        try_seconds = self.settings.try_seconds
        return Tries(request, self.limits, try_seconds=try_seconds, clock=self.clock, log=self.log)

    def _repeat(
        self, request: Request[Any], tries: Tries, send_once: Callable[[Request[Any], Tries], T]
    ) -> T:
        tries.has_responded = self._link.has_responded
        retrying = Retrying(
            sleep=self.sleep,
            retry=retry_if_exception(tries.is_retryable),
            wait=tries.wait_seconds,
            stop=tries.is_exhausted,
            before_sleep=tries.before_sleep,
            reraise=True,
        )
        try:
            result: T = retrying(self._link.send, partial(send_once, request, tries))
        except ArroyoError as err:
            final = tries.final_error(err)
            if final is err:
                is_refusal = isinstance(err, ArroyoApiError) and err.disposition is Disposition.PERMANENT
                if is_refusal and not isinstance(err, _ARROYOS_OWN):
                    # This also ends an outage, although the response may not be Arroyo's.
                    tries.log_success()
                raise
            raise final from err
        finally:
            self.counts.retries += tries.retries
        return result

    def _try(self, request: Request[T], tries: Tries) -> Response[T]:
        try:
            response = self._send_once(request, tries)
        except ArroyoNotFoundError as err:
            self._check_gone(request, tries, err.status)
            raise
        except ArroyoError as err:
            if of_sql := error_of_sql(request, err, partial(self._probe, tries), self.settings):
                raise of_sql from err
            raise
        if request.method == "DELETE" and request.proof is not None:
            tries.note_effect()
            with suppress(ArroyoNotFoundError):
                self._send_once(request.proof, tries)
                raise request.not_proved()
        return response

    def _check_gone(self, request: Request[Any], tries: Tries, status: int) -> None:
        """Ask again whether something is gone, after a response with this status that says so.

        :raises ArroyoForeignResponseError: if it is still there.
        """
        if (again := request.again) is not None:
            with suppress(ArroyoNotFoundError):
                self._probe(tries, again)
                raise request.contradicted(status)

    def _send_once(self, request: Request[T], tries: Tries) -> Response[T]:
        return self._interpret(request, self._link.transport.send(request, tries.seconds_left), tries)

    def _probe(self, tries: Tries, request: Request[Any]) -> Any:
        # It ends no outage: what it is about still fails.
        return interpret(request, self._link.transport.send(request, tries.seconds_left), self.settings).value

    def _interpret(self, request: Request[T], response: HttpResponse, tries: Tries) -> Response[T]:
        try:
            value = interpret(request, response, self.settings)
        except _ARROYOS_OWN:
            self._note_response(response, tries)
            raise
        if response.body or request.path.endswith("/output"):
            self._note_response(response, tries)
        else:
            # As for a DELETE: an empty response may come from anything.
            tries.log_success()
        return value

    def _note_response(self, response: HttpResponse, tries: Tries) -> None:
        self._link.note_response(response)
        tries.has_responded = True
        tries.log_success()

    def iter_pipelines(self, *, name: str | None = None, page_size: int | None = None) -> Iterator[Pipeline]:
        """Yield the server's pipelines, newest first, without previews; pages are requested as needed.

        :param name: only pipelines of this name; default None: all.
        :param page_size: pipelines per response, default 100; with a name 1,000, since the others are not parsed.
        """
        limit = page_size or (PAGE_SIZE if name is None else NAMED_PAGE_SIZE)
        found = lists.iter_pages(self.send, endpoints.list_pipelines(limit=limit, name=name))
        return found if name is None else lists.with_name(found, name)

    def iter_connection_tables(self, *, page_size: int = PAGE_SIZE) -> Iterator[ConnectionTable]:
        """Yield the connection tables; pages are requested as needed.

        :param page_size: tables per response, default 100.
        """
        return lists.iter_pages(self.send, catalog.list_connection_tables(limit=page_size))

    def stream_output(self, pipeline_id: str, job_id: str) -> Iterator[OutputBatch]:
        """Yield the output of a preview from now on, until it ends.

        Earlier rows are lost; the batches' ``start_id`` tells how many. Opening the stream is retried like any
        request; reading it is not. After the client's deadline, the stream ends with an error, at the next batch
        at the latest.

        :param pipeline_id, job_id: the pipeline and its job, which must be running.
        """
        request = endpoints.output(pipeline_id, job_id)
        tries = self._tries(request)
        response, stream = self._repeat(request, tries, self._open_stream)
        chunks = self._link.transport.read_stream(stream, request, tries.deadline_seconds_left)
        yield from iter_batches(chunks, request, response, self.settings)

    def _open_stream(self, request: Request[Any], tries: Tries) -> tuple[HttpResponse, OpenStream]:
        response, stream = self._link.transport.open_stream(request, tries.seconds_left)
        try:
            self._interpret(request, response, tries)
        except ArroyoError:
            stream.response.close()
            raise
        return response, stream

    ping = _method(endpoints.ping)
    validate_query = _method(endpoints.validate_query)
    create_pipeline = _method(endpoints.create_pipeline)
    put_pipeline = _method(endpoints.put_pipeline)
    preview_query = _method(endpoints.preview_query)
    list_pipelines = _method(endpoints.list_pipelines)
    get_pipeline = _method(endpoints.get_pipeline)
    patch_pipeline = _method(endpoints.patch_pipeline)
    restart_pipeline = _method(endpoints.restart_pipeline)
    delete_pipeline = _method(endpoints.delete_pipeline)
    get_job = _method(endpoints.get_job)
    list_jobs = _method(endpoints.list_jobs)
    list_job_errors = _method(endpoints.list_job_errors)
    list_checkpoints = _method(endpoints.list_checkpoints)
    list_operator_checkpoints = _method(endpoints.list_operator_checkpoints)
    list_metrics = _method(endpoints.list_metrics)
    list_udfs = _method(catalog.list_udfs)
    create_udf = _method(catalog.create_udf)
    validate_udf = _method(catalog.validate_udf)
    delete_udf = _method(catalog.delete_udf)
    list_connectors = _method(catalog.list_connectors)
    list_connection_tables = _method(catalog.list_connection_tables)
    create_connection_table = _method(catalog.create_connection_table)
    delete_connection_table = _method(catalog.delete_connection_table)
    list_connection_profiles = _method(catalog.list_connection_profiles)
    create_connection_profile = _method(catalog.create_connection_profile)
    delete_connection_profile = _method(catalog.delete_connection_profile)
