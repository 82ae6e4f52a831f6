from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import settings

from airflow_provider_arroyo.hooks.clients import forget_clients

# The same examples in every run, so that no unrelated change fails by chance; ARROYO_FUZZ=1 draws new ones. A busy
# machine is not a failure, so there is no deadline.
settings.register_profile("ci", derandomize=True, deadline=None)
if not os.environ.get("ARROYO_FUZZ"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _new_clients() -> None:
    """Let no test have a client that an earlier one used: a sandbox may listen on the same port again."""
    forget_clients()


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
