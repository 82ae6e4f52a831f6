from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.clients import forget_clients
from tests import profiles as profiles  # how all property tests draw


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the type checkers, which take longest: at the end, everything else would wait for them."""
    items.sort(key=lambda item: item.path.parent.name != "typing")


@pytest.fixture(autouse=True)
def _new_clients() -> None:
    """Let no test have a client that an earlier one used: a sandbox may listen on the same port again."""
    forget_clients()


@pytest.fixture(autouse=True)
def _no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deferred tasks resume at once: no worker's process is left behind here. Tests of the hold set their own."""
    monkeypatch.setenv("AIRFLOW__ARROYO__DEFERRAL_HOLD", "0")


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the connections that were looked up in Airflow since the test began."""
    # Here, since some tests run where there is no Airflow.
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

    seen: list[str] = []
    get = ArroyoHook.get_connection
    get_async = getattr(ArroyoHook, "aget_connection", None)

    def counted(conn_id: str) -> Any:
        seen.append(conn_id)
        return get(conn_id)

    def counted_async(conn_id: str) -> Awaitable[Any]:
        assert get_async is not None
        seen.append(conn_id)
        connection: Awaitable[Any] = get_async(conn_id)
        return connection

    monkeypatch.setattr(ArroyoHook, "get_connection", staticmethod(counted))
    if get_async is not None:
        monkeypatch.setattr(ArroyoHook, "aget_connection", staticmethod(counted_async))
    return seen
