from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.hooks.clients import forget_clients


@pytest.fixture(autouse=True)
def _clients_of_its_own() -> None:
    """Let no test have a client that an earlier one used: a sandbox may come to listen on the same port."""
    forget_clients()


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the connections that were looked up in Airflow since the test began."""
    # Here, since some tests run where there is no Airflow.
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

    seen: list[str] = []
    look = ArroyoHook.get_connection

    def counted(conn_id: str) -> Any:
        seen.append(conn_id)
        return look(conn_id)

    monkeypatch.setattr(ArroyoHook, "get_connection", staticmethod(counted))
    return seen
