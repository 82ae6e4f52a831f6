from __future__ import annotations

import pytest

from airflow_provider_arroyo.hooks.clients import forget_clients


@pytest.fixture(autouse=True)
def _clients_of_its_own() -> None:
    """Let no test have a client that an earlier one used: a sandbox may come to listen on the same port."""
    forget_clients()
