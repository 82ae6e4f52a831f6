"""Random network faults: a seed decides which requests to the sandbox fail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.sandbox.fault_types import Fault, parse

CHANGES_FAULTY = 0.3
"""The share of changing requests that fail: they are rare, and matter most."""

READS_FAULTY = 0.04

LATE_SECONDS = 1.8
"""The longest time before a delayed request takes effect."""


def _fault(kind: str, **fields: Any) -> Fault:
    return parse({"kind": kind, **fields})


_KINDS: tuple[tuple[str, int, Callable[[random.Random], Fault]], ...] = (
    ("reset before", 4, lambda draw: _fault("reset")),
    ("reset after", 5, lambda draw: _fault("reset", after_effect=True)),
    ("500 before", 2, lambda draw: _fault("status", status=500, error="Something went wrong")),
    (
        "500 after",
        2,
        lambda draw: _fault("status", status=500, error="Something went wrong", after_effect=True),
    ),
    ("502/503/504 before", 4, lambda draw: _fault("status", status=draw.choice((502, 503, 504)))),
    (
        "502/503/504 after",
        3,
        lambda draw: _fault("status", status=draw.choice((502, 503, 504)), after_effect=True),
    ),
    ("503 with Retry-After", 1, lambda draw: _fault("status", status=503, retry_after=1)),
    ("429", 1, lambda draw: _fault("status", status=429, error="slow down")),
    ("429 with Retry-After", 1, lambda draw: _fault("status", status=429, error="slow down", retry_after=1)),
    ("hang before", 1, lambda draw: _fault("hang")),
    ("hang after", 2, lambda draw: _fault("hang", after_effect=True)),
    ("cut short", 2, lambda draw: _fault("cut_short")),
    ("garbage", 1, lambda draw: _fault("not_json")),
    # The client gives up after a second, and its request takes effect a moment later.
    ("late effect", 2, lambda draw: _fault("latency", seconds=draw.uniform(0.2, LATE_SECONDS), times=1)),
)


class NetworkFaults:
    """Injects faults into the requests to a sandbox.

    :param sandbox: the sandbox.
    :param seed: decides which request gets which fault; the same for the same order of requests.
    """

    def __init__(self, sandbox: ArroyoSandbox, seed: str) -> None:
        self._draw = random.Random(seed)
        self._is_off = False
        self.count: Counter[str] = Counter()
        injected = sandbox.faults.matching

        def matching(method: str, path: str) -> list[Fault]:
            return injected(method, path) or self._draw_fault(method)

        # Instead of the sandbox's list of faults: any of thousands of requests may get one.
        sandbox.faults.matching = matching  # type: ignore[method-assign]  # see above

    def switch_off(self) -> None:
        """Inject no more faults."""
        self._is_off = True

    def _draw_fault(self, method: str) -> list[Fault]:
        share = READS_FAULTY if method == "GET" else CHANGES_FAULTY
        if self._is_off or self._draw.random() >= share:
            return []
        weights = [weight for _, weight, _ in _KINDS]
        ((name, _, make),) = self._draw.choices(_KINDS, weights)
        self.count[name] += 1
        return [make(self._draw)]
