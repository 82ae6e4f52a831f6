"""An Arroyo API over real HTTP that needs no Arroyo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import ManualClock, RealClock
    from .sandbox import ArroyoSandbox

__all__ = ["ArroyoSandbox", "ManualClock", "RealClock"]


def __getattr__(name: str) -> Any:
    # What this package needs is heavy, and its neighbours are imported where nobody wants a sandbox.
    if name == "ArroyoSandbox":
        from .sandbox import ArroyoSandbox

        return ArroyoSandbox
    if name in ("ManualClock", "RealClock"):
        from . import clock

        return getattr(clock, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
