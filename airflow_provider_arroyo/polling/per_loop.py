"""What the waits of one event loop share, from the first that comes to the last one out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary


class Shareable(Protocol):
    """What counts its users, and is closed when there are none."""

    users: int

    async def aclose(self) -> None:
        """Close it."""


T = TypeVar("T", bound=Shareable)


class PerLoop(Generic[T]):
    """Keeps one of a kind for each event loop and key, for as long as somebody uses it."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, T]] = WeakKeyDictionary()

    @asynccontextmanager
    async def join(self, key: Hashable, make: Callable[[], T]) -> AsyncIterator[T]:
        """Join those who use it, and leave them; the first one makes it, the last one out closes it.

        :param key: what it is of.
        :param make: returns a new one.
        """
        kept = self._loops.setdefault(asyncio.get_running_loop(), {})
        if key not in kept:
            kept[key] = make()
        one = kept[key]
        one.users += 1
        try:
            yield one
        finally:
            one.users -= 1
            if not one.users:
                del kept[key]
                await one.aclose()
