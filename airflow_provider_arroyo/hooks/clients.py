"""The synchronous clients of this process: one for each place that connections lead to."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.client import ArroyoClient
    from airflow_provider_arroyo.arroyo.settings import ClientSettings

_MOST = 8
"""More servers than one process talks to; those beyond are forgotten, the longest unused first."""


@dataclass(frozen=True)
class _Shared:
    settings: ClientSettings
    files: tuple[int, ...]
    client: ArroyoClient


_shared: list[_Shared] = []
_lock = threading.Lock()


def shared_client(settings: ClientSettings) -> ArroyoClient:
    """Return the client of this process for these settings, so that its connections are kept and used again.

    Other settings, or other files where the settings say, are another client: who edits a connection is not
    answered from the old one.

    :raises ArroyoSettingsError: names the setting whose file cannot be used.
    """
    from airflow_provider_arroyo.arroyo.client import ArroyoClient

    settings.check_files()
    files = tuple(
        Path(path).stat().st_mtime_ns
        for path in (settings.ca_cert, settings.client_cert, settings.client_key)
        if path
    )
    with _lock:
        for one in _shared:
            if (one.settings, one.files) == (settings, files):
                _shared.remove(one)
                break
        else:
            one = _Shared(settings, files, ArroyoClient(settings))
        _shared.append(one)
        del _shared[:-_MOST]
    return one.client


def forget_clients() -> None:
    """Let whoever asks next have a new client."""
    # A child must neither talk on its parent's connections nor find a lock that another thread held.
    global _lock
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=forget_clients)
