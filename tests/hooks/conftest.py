from __future__ import annotations

from collections.abc import Callable

import pytest

Connect = Callable[[str], str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Define the connection ``arroyo_tested`` by its URI or JSON, and return its id."""

    def define(text: str) -> str:
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_TESTED", text)
        return "arroyo_tested"

    return define
