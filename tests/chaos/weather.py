"""Faults at every call: each request to the sandbox may be befallen by one, as a seed says."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.orders import (
    CutShort,
    Hang,
    Latency,
    NotJson,
    OnRequest,
    Reset,
    Status,
)

CHANGES_BEFALLEN = 0.3
"""How many of the calls that change something are befallen: the interesting ones, and the rare ones."""

READS_BEFALLEN = 0.04

LATE_SECONDS = 1.8
"""How long a call may be under way at most before it takes effect."""

_KINDS: tuple[tuple[str, int, Callable[[random.Random], OnRequest]], ...] = (
    ("reset before", 4, lambda draw: Reset()),
    ("reset after", 5, lambda draw: Reset(after_effect=True)),
    ("500 before", 2, lambda draw: Status(status=500, error="Something went wrong")),
    ("500 after", 2, lambda draw: Status(status=500, error="Something went wrong", after_effect=True)),
    ("502/503/504 before", 4, lambda draw: Status(status=draw.choice((502, 503, 504)))),
    ("502/503/504 after", 3, lambda draw: Status(status=draw.choice((502, 503, 504)), after_effect=True)),
    ("503 with Retry-After", 1, lambda draw: Status(status=503, retry_after=1)),
    ("429", 1, lambda draw: Status(status=429, error="slow down")),
    ("429 with Retry-After", 1, lambda draw: Status(status=429, error="slow down", retry_after=1)),
    ("hang before", 1, lambda draw: Hang()),
    ("hang after", 2, lambda draw: Hang(after_effect=True)),
    ("cut short", 2, lambda draw: CutShort()),
    ("garbage", 1, lambda draw: NotJson()),
    # The client gives up after a second; what it asked for happens all the same, a moment later.
    ("late effect", 2, lambda draw: Latency(seconds=draw.uniform(0.2, LATE_SECONDS), times=1)),
)


class Weather:
    """Decides what befalls each request to a sandbox.

    :param sandbox: the sandbox.
    :param seed: what is drawn from it repeats itself for the same order of requests.
    """

    def __init__(self, sandbox: ArroyoSandbox, seed: str) -> None:
        self._draw = random.Random(seed)
        self._is_calm = False
        self.count: Counter[str] = Counter()
        ordered = sandbox.faults.befalling

        def befalling(method: str, path: str) -> list[OnRequest]:
            return ordered(method, path) or self._befalling(method)

        # The sandbox keeps a list of orders; a fault at any of thousands of calls is no list.
        sandbox.faults.befalling = befalling  # type: ignore[method-assign]  # see above

    def calm_down(self) -> None:
        """Let nothing befall requests any more."""
        self._is_calm = True

    def _befalling(self, method: str) -> list[OnRequest]:
        share = READS_BEFALLEN if method == "GET" else CHANGES_BEFALLEN
        if self._is_calm or self._draw.random() >= share:
            return []
        weights = [weight for _, weight, _ in _KINDS]
        ((name, _, make),) = self._draw.choices(_KINDS, weights)
        self.count[name] += 1
        return [make(self._draw)]
