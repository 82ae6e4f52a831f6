"""Where an Arroyo API is, and how to talk to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from airflow_provider_arroyo.exceptions import ArroyoSettingsError

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
    :param client_cert, client_key: paths of the certificate, and its key, for a server that asks for one;
        ``client_key`` may be None when the certificate's file holds the key too.
    :param headers: sent with every request, for gateways that need their own.
    :param proxies: ``{"http": url, "https": url}``, addresses of HTTP proxies by the scheme of ``base_url``;
        empty uses the environment's (``http_proxy``, ``https_proxy``, ``no_proxy``).
    :param connect_timeout_seconds: how long a connection may take, default 5.
    :param read_timeout_seconds: how long a response may take, default 30.
    :param console_url: where people open the console; None is ``base_url``.
    :param namespace: what distinguishes the caller's pipelines from those of other callers of the same Arroyo; never
        sent by itself, only within ownership labels. Empty where nobody said.
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
    namespace: str = ""

    def __post_init__(self) -> None:
        if "@" in self.base_url or "?" in self.base_url or "#" in self.base_url:
            raise ValueError("base_url must not hold credentials, a query or a fragment")
        if not _is_http_address(self.base_url):
            raise ValueError(f"base_url must be http(s)://host[:port][/path], got {self.base_url!r}")
        if self.base_url.endswith("/"):
            raise ValueError("base_url must not end with a slash")
        for name in ("connect_timeout_seconds", "read_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")
        if self.api_key is not None:
            _check_header_value("api_key", self.api_key)
        for name, value in self.headers.items():
            if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
                raise ValueError(f"headers: {name!r} is not the name of a header")
            _check_header_value(f"headers[{name!r}]", value)
        for scheme, address in self.proxies.items():
            if scheme not in ("http", "https"):
                raise ValueError(f"proxies must be for 'http' or 'https', got {scheme!r}")
            if not _is_http_address(address):
                # The address may hold a password, so it is not shown.
                raise ValueError(f"proxies[{scheme!r}] must be http(s)://host:port")

    def check_files(self) -> None:
        """Check that the files of certificates and keys can be read.

        :raises ArroyoSettingsError: names the setting and the path.
        """
        for name in ("ca_cert", "client_cert", "client_key"):
            path = getattr(self, name)
            if path is None:
                continue
            try:
                with Path(path).open("rb"):
                    pass
            except OSError as err:
                raise ArroyoSettingsError(f"{name}: cannot read {path!r}: {err.strerror or err}") from err

    @property
    def request_headers(self) -> dict[str, str]:
        """The headers of every request that come from the settings. Holds secrets."""
        headers = dict(self.headers)
        if self.api_key is not None:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers

    @property
    def credentials_headers(self) -> str:
        """The names of the headers that may hold credentials, for messages; empty where none is sent."""
        return ", ".join(self.request_headers)

    def redact(self, text: str) -> str:
        """Return ``text`` with every secret of these settings replaced by ``***``."""
        secrets = {self.api_key or "", *self.headers.values()}
        secrets |= {urlsplit(address).password or "" for address in self.proxies.values()}
        # The longest first: one secret may be part of another.
        for secret in sorted(secrets - {""}, key=len, reverse=True):
            text = text.replace(secret, "***")
        # The login in an address, such as that of a proxy of the environment.
        return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)

    @property
    def api_url(self) -> str:
        """The address that the paths of requests are appended to."""
        return self.base_url + API_PREFIX

    def pipeline_console_url(self, pipeline_id: str) -> str:
        """Return the console's page of a pipeline."""
        base = (self.console_url or self.base_url).rstrip("/")
        return f"{base}/pipelines/{quote(pipeline_id, safe='')}"


def _is_http_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Only reading the port checks it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_header_value(name: str, value: str) -> None:
    """Check that a value can be sent in a header.

    :raises ValueError: names the setting; never shows the value, which may be a secret.
    """
    if not value or value != value.strip():
        raise ValueError(f"{name} must not be empty, nor begin or end with white space or a line break")
    if not all(" " <= c <= "~" or c == "\t" for c in value):
        raise ValueError(f"{name} must hold only printable ASCII characters, on one line")
