"""An event loop that has nothing to do: what holds it up is the machine, not a trigger.

Prints a line for each time that it was held up: when (seconds since the epoch) and for how long.
"""

from __future__ import annotations

import asyncio
import time

INTERVAL_SECONDS = 0.1
# Far less than what the triggerer reports: one that works is held up much longer than one that rests.
HELD_UP_SECONDS = 0.01


async def watch() -> None:
    """Sleep again and again, and print when waking up late."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(INTERVAL_SECONDS)
        late = time.monotonic() - began - INTERVAL_SECONDS
        if late > HELD_UP_SECONDS:
            print(time.time(), late, flush=True)  # noqa: T201 - its output is read by the test


if __name__ == "__main__":
    asyncio.run(watch())
