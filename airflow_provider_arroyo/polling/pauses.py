"""How the coroutines of a poller pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_BATCH = 10


async def sleep_or_wake(seconds: float, wake: asyncio.Event) -> None:
    """Sleep, or until the event is set if that comes first."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


async def in_batches(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items; other coroutines of the event loop get their turn in between."""
    for count, item in enumerate(items, 1):
        yield item
        if count % _BATCH == 0:
            await asyncio.sleep(0)
