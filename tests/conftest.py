from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.clients import forget_clients
from tests import profiles as profiles  # importing it sets Hypothesis's profile


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the type checkers first: they take longest, and everything would wait for them at the end."""
    items.sort(key=lambda item: item.path.parent.name != "typing")


@pytest.fixture(autouse=True)
def _same_random_waits() -> None:
    """Let the waits before retries, which are random, be the same in each run."""
    random.seed(5)


@pytest.fixture(autouse=True)
def _new_clients() -> None:
    """Forget the clients of earlier tests: a new sandbox may listen on the same port."""
    forget_clients()


@pytest.fixture(autouse=True)
def _no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deferred tasks resume at once, since no worker process is left behind. Tests of the hold set their own."""
    monkeypatch.setenv("AIRFLOW__ARROYO__DEFERRAL_HOLD", "0")


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the connections that were looked up in Airflow since the test began."""
    # Imported here, since some tests run without Airflow.
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
