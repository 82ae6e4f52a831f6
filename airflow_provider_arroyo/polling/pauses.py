"""Pauses of a poller's coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_BATCH = 10


async def sleep_or_wake(seconds: float, wake: asyncio.Event) -> None:
    """Sleep until the time is over or the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


async def in_batches(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items in batches, between which other coroutines of the event loop can run."""
    for count, item in enumerate(items, 1):
        yield item
        if count % _BATCH == 0:
            await asyncio.sleep(0)
