"""An Arroyo API over real HTTP that needs no Arroyo. It needs the extra ``sandbox``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import ManualClock, RealClock
    from .sandbox import ArroyoSandbox

__all__ = ["ArroyoSandbox", "ManualClock", "RealClock"]

_MODULES = {"ArroyoSandbox": "sandbox", "ManualClock": "clock", "RealClock": "clock"}
_EXTRA = ("h11", "sqlglot")


def __getattr__(name: str) -> Any:
    # The extra is needed only by those who use a sandbox.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ImportError(
            f"the Arroyo sandbox needs {error.name}: pip install 'airflow-provider-arroyo[sandbox]'"
        ) from error
