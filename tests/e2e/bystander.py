"""An idle event loop: if it is delayed, the cause is the machine and not a trigger.

Prints a line for each delay: when it was noticed (seconds since the epoch), and its length.
"""

from __future__ import annotations

import asyncio
import time

INTERVAL_SECONDS = 0.1
# Far less than what the triggerer reports, since a busy loop is delayed much longer than an idle one.
DELAY_SECONDS = 0.01


async def watch() -> None:
    """Sleep again and again, and print when waking up late."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(INTERVAL_SECONDS)
        late = time.monotonic() - began - INTERVAL_SECONDS
        if late > DELAY_SECONDS:
            print(time.time(), late, flush=True)  # noqa: T201 - the test reads its output


if __name__ == "__main__":
    asyncio.run(watch())
