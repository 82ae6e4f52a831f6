"""Where an Arroyo API is and how to talk to it, for both clients alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

API_PREFIX = "/api/v1"
DEFAULT_PORT = 5115


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How to reach one Arroyo API.

    :param base_url: scheme, host, port and a proxy's base path, without ``/api/v1``:
        ``http://localhost:5115`` or ``https://gate.example/arroyo``. No trailing slash.
    :param api_key: static API key, sent as ``Authorization: Bearer``; None sends none.
    :param verify: whether the server's certificate is checked.
    :param ca_cert: path of a file with the authorities to trust instead of the machine's own.
    :param client_cert, client_key: paths of the certificate, and its key, to show to a server that asks;
        ``client_key`` may be None when the certificate's file holds the key too.
    :param headers: sent with every call, for gateways that ask for their own.
    :param proxies: ``{"http": url, "https": url}``; empty uses the environment's.
    :param connect_timeout_seconds: how long a connection may take, default 5.
    :param read_timeout_seconds: how long an answer may take, default 30.
    :param console_url: where people see the console; None takes ``base_url``.
    """

    base_url: str = f"http://localhost:{DEFAULT_PORT}"
    api_key: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    console_url: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url must be http(s)://host[:port][/path], got {self.base_url!r}")
        if self.base_url.endswith("/"):
            raise ValueError("base_url must not end with a slash")
        for name in ("connect_timeout_seconds", "read_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")

    @property
    def api_url(self) -> str:
        """The address that paths of calls are appended to."""
        return self.base_url + API_PREFIX

    def pipeline_console_url(self, pipeline_id: str) -> str:
        """Return the console's page of a pipeline."""
        base = (self.console_url or self.base_url).rstrip("/")
        return f"{base}/pipelines/{quote(pipeline_id, safe='')}"
