"""Clients that die: the n-th call of a thread is the last thing that its try does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from airflow_provider_arroyo.arroyo import async_client, client
from airflow_provider_arroyo.arroyo.api import Call, Exchange
from airflow_provider_arroyo.arroyo.async_client import ArroyoAsyncClient
from airflow_provider_arroyo.arroyo.client import ArroyoClient
from airflow_provider_arroyo.arroyo.retry import RetryPolicy
from airflow_provider_arroyo.arroyo.settings import ClientSettings

T = TypeVar("T")

_QUICK = RetryPolicy(retries=3, first_wait_seconds=0.04, max_wait_seconds=0.3)
"""As the default, but in a hurry: thousands of calls are tried again here."""


class Killed(BaseException):
    """A try was killed."""


class _Life(threading.local):
    calls_left: int | None = None
    dies_after_the_call = False


_life = _Life()


@contextmanager
def mortal(calls: int | None, *, after: bool = False) -> Iterator[None]:
    """Let the thread's n-th call be its last.

    :param calls: how many calls it makes; None: as many as it wants.
    :param after: whether it dies when the last one was answered, rather than before it is made.
    """
    _life.calls_left, _life.dies_after_the_call = calls, after
    try:
        yield
    finally:
        _life.calls_left = None


class MortalClient(ArroyoClient):
    """Raises :class:`Killed` when the time has come, and ever after."""

    def __init__(self, settings: ClientSettings, *, retry: RetryPolicy | None = None, **more: Any) -> None:
        super().__init__(settings, retry=retry or _QUICK, **more)

    def exchange(self, call: Call[T], *, deadline: float | None = None) -> Exchange[T]:
        """Make a call, if there is one left."""
        if _life.calls_left is None:
            return super().exchange(call, deadline=deadline)
        _life.calls_left -= 1
        if _life.calls_left > 0:
            return super().exchange(call, deadline=deadline)
        if _life.calls_left == 0 and _life.dies_after_the_call:
            super().exchange(call, deadline=deadline)
        raise Killed(f"in the middle of {call}")


class HastyAsyncClient(ArroyoAsyncClient):
    """The triggers' client, in a hurry too."""

    def __init__(self, settings: ClientSettings, *, retry: RetryPolicy | None = None, **more: Any) -> None:
        super().__init__(settings, retry=retry or _QUICK, **more)


@contextmanager
def clients() -> Iterator[None]:
    """Let hooks make these clients."""
    with (
        mock.patch.object(client, "ArroyoClient", MortalClient),
        mock.patch.object(async_client, "ArroyoAsyncClient", HastyAsyncClient),
    ):
        yield
