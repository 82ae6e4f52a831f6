"""The clients of this process: one for each connection and its settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.client.request import Request
    from airflow_provider_arroyo.client.settings import ClientSettings

_MOST = 8
"""Maximum number of clients; beyond it, the least recently used one is dropped."""


_shared: list[tuple[tuple[Any, ...], ArroyoClient]] = []
"""Connection id, settings and file times, with their client; a list, because settings are not hashable."""

_lock = threading.Lock()


def shared_client(
    conn_id: str, settings: ClientSettings, reload: Callable[[], ClientSettings]
) -> ArroyoClient:
    """Return this process's client for a connection, so that its HTTP session is reused.

    Other settings, or changed contents of the files that they name, get another client: an old client never
    serves an edited connection.

    :param conn_id: id of the Airflow connection.
    :param settings: the settings of the connection.
    :param reload: looks up the connection again.
    :raises ArroyoSettingsError: if the file of a setting cannot be used; names the setting.
    """
    from airflow_provider_arroyo.client.client import ArroyoClient

    key = conn_id, settings, settings.check_files()
    with _lock:
        known = [one for one in _shared if one[0] == key]
        one = known[0] if known else (key, ArroyoClient(settings, reload=reload))
        _shared[:] = [*(other for other in _shared if other is not one), one][-_MOST:]
    return one[1]


def version_of(client: ArroyoClient) -> str:
    """Return `` 0.15`` or `` 0.16 or later``; empty if it does not tell. No endpoint names the version."""
    from airflow_provider_arroyo.client import endpoints
    from airflow_provider_arroyo.client.reading import object_of
    from airflow_provider_arroyo.exceptions import ArroyoError

    # What is wrong with SQL is a list of strings on 0.15, and of objects on 0.16.
    request: Request[Any] = endpoints.validate_query("SELECT")
    request = replace(request, read=lambda response: object_of(response.body))
    try:
        errors = client.send(request).value.get("errors")
    except ArroyoError:
        return ""
    if not isinstance(errors, list) or not errors:
        return ""
    return " 0.15" if isinstance(errors[0], str) else " 0.16 or later"


def forget_clients() -> None:
    """Forget all clients, so that the next caller gets a new one."""
    # A forked child must not use its parent's connections, nor a lock that another thread held.
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=forget_clients)
