"""A client that crashes at a given request of a thread, which ends the thread's try of the task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

from airflow_provider_arroyo.client import client
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.request import Request, Response
from tests.support import KilledError

T = TypeVar("T")


class _Limit(threading.local):
    requests_left: int | None = None
    crashes_after_response = False


_limit = _Limit()


@contextmanager
def crash_at(request: int | None, *, after_response: bool = False) -> Iterator[None]:
    """Crash at this thread's n-th request.

    :param request: counted from 1; None never crashes.
    :param after_response: whether it crashes after the response, instead of before the request is sent.
    """
    _limit.requests_left, _limit.crashes_after_response = request, after_response
    try:
        yield
    finally:
        _limit.requests_left = None


class CrashingClient(ArroyoClient):
    """Raises :class:`KilledError` at the request that :func:`crash_at` names, and at every later one."""

    def send(self, request: Request[T]) -> Response[T]:
        """Send a request, or crash."""
        if _limit.requests_left is None:
            return super().send(request)
        _limit.requests_left -= 1
        if _limit.requests_left > 0:
            return super().send(request)
        if _limit.requests_left == 0 and _limit.crashes_after_response:
            super().send(request)
        raise KilledError(f"during {request}")


@contextmanager
def crashing_clients() -> Iterator[None]:
    """Make hooks use this client."""
    with mock.patch.object(client, "ArroyoClient", CrashingClient):
        yield
