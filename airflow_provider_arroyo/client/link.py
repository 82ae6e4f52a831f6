"""What a client and its copies share: the connection, what is known about the server, and counts for metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from airflow_provider_arroyo.client.request import HttpResponse, http_date, seconds_ahead
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.transport import Transport
from airflow_provider_arroyo.exceptions import (
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoNoConnectionError,
    ArroyoSettingsError,
    ArroyoTlsError,
)

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Counts:
    """Counters of a client, read at the end of a task.

    :param retries: requests that failed and were repeated.
    :param duplicates_removed: pipelines that were deleted because they had been created twice.
    """

    retries: int = 0
    duplicates_removed: int = 0

    def take(self) -> Self:
        """Return the counts since the last call."""
        taken = replace(self)
        self.retries = self.duplicates_removed = 0
        return taken


class Link:
    """The shared part of a client. Threads may share it.

    :param transport: sends the requests.
    :param load: loads the settings again, in case a key was rotated; None keeps them.
    :param clock: a monotonic clock in seconds.
    """

    def __init__(
        self, transport: Transport, load: Callable[[], ClientSettings] | None, clock: Callable[[], float]
    ) -> None:
        self.transport = transport
        self.has_responded = False
        """Whether Arroyo itself has responded."""
        self.counts = Counts()
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._dated: tuple[str | None, float] = None, 0.0

    @property
    def server_ahead_seconds(self) -> float:
        """By how much the server's clock is ahead of this machine's, by the last response; 0 if they agree."""
        text, read_at = self._dated
        date = http_date(text)
        return 0.0 if date is None else seconds_ahead(date, read_at)

    def note_response(self, response: HttpResponse) -> None:
        """Record that Arroyo itself has responded."""
        self._dated = response.headers.get("date"), time.time()
        self.has_responded = True

    def send(self, send_once: Callable[[], T]) -> T:
        """Send a request. If the connection fails, certificates that were renewed are used from the next request on.

        :param send_once: sends it on the current transport.
        """
        try:
            return self._send_with_reload(send_once)
        except ArroyoConnectionError as err:
            self._reload_files()
            if isinstance(err, ArroyoTlsError) and self.has_responded:
                raise err.as_outage() from err.__cause__
            raise

    def _send_with_reload(self, send_once: Callable[[], T]) -> T:
        """Send a request; once more if its credentials are refused and the settings have changed."""
        transport = self.transport
        try:
            return send_once()
        except ArroyoAuthError as err:
            # Another thread may have loaded the settings in the meantime.
            if self.transport is transport:
                try:
                    self.reload()
                except ArroyoNoConnectionError as unknown:
                    raise err.not_looked_up(unknown) from None
            if self.transport is transport:
                raise
        return send_once()

    def reload(self) -> None:
        """Load the settings again, and use them from now on if they, or the contents of their files, have changed.

        :raises ArroyoSettingsError: if they lead to another server, or cannot be used.
        """
        with self._lock:
            current = self.transport.settings
            settings = current if self._load is None else self._load()
            settings.check_same_server(current.server, f"The Airflow connection led to {current.server}")
            if settings != current:
                self._use(Transport(settings, clock=self._clock))
        self._reload_files()

    def _reload_files(self) -> None:
        """Use the certificates and keys as they are in their files now, if these have changed.

        What cannot be used, perhaps because it is just being written, changes nothing.
        """
        old = self.transport
        with suppress(ArroyoSettingsError):
            if old.settings.check_files() == old.files_changed_at:
                return  # without the lock, which a slow look-up may hold
            with self._lock:
                if self.transport is old:
                    self._use(Transport(old.settings, clock=self._clock))

    def _use(self, transport: Transport) -> None:
        old, self.transport = self.transport, transport
        old.close()
