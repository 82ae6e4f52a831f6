"""From the fields of an Airflow connection to the settings of a client, with errors that name the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_arroyo.arroyo.settings import DEFAULT_PORT, ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoSettingsError

_EXTRAS = (
    "base_path",
    "console_url",
    "verify",
    "ca_cert",
    "client_cert",
    "client_key",
    "headers",
    "proxies",
    "connect_timeout",
    "read_timeout",
)


class ConnectionFields(Protocol):
    """The fields of an Airflow connection that are read here."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    password: str | None


class _Fields:
    """Reads fields of one connection and says which one is wrong."""

    def __init__(self, conn_id: str, extra: Mapping[str, Any]) -> None:
        self._conn_id = conn_id
        self._extra = extra

    def wrong(self, field: str, what: str) -> ArroyoSettingsError:
        return ArroyoSettingsError(f"Airflow connection {self._conn_id!r}, field {field!r}: {what}")

    def text(self, name: str) -> str | None:
        value = self._extra.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.wrong(name, f"must be a text, got {type(value).__name__}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._extra.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise self.wrong(name, f"must be true or false, got {value!r}")

    def seconds(self, name: str, default: float) -> float:
        value = self._extra.get(name)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except (TypeError, ValueError) as err:
            raise self.wrong(name, f"must be a number of seconds above 0, got {value!r}") from err
        if not 0 < number < float("inf"):
            raise self.wrong(name, f"must be a number of seconds above 0, got {value!r}")
        return number

    def text_map(self, name: str) -> dict[str, str]:
        value = self._extra.get(name)
        if value is None or value == "":
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as err:
                # The value may hold a secret, so only the place is told.
                raise self.wrong(name, f"must be a JSON object of texts: {err}") from None
        if not isinstance(value, Mapping) or not all(
            isinstance(key, str) and isinstance(item, str) for key, item in value.items()
        ):
            raise self.wrong(name, "must be a JSON object that maps texts to texts")
        return dict(value)


def settings_from(connection: ConnectionFields, extra: Mapping[str, Any]) -> ClientSettings:
    """Return the settings that a connection describes.

    :param connection: host (a name, or an address with scheme, port and path; default ``localhost``), port
        (default 5115, or the scheme's own where the host is an address), schema (``http``, the default, or
        ``https``), password (the API key).
    :param extra: ``base_path, console_url, verify, ca_cert, client_cert, client_key, headers, proxies,
        connect_timeout, read_timeout`` (seconds). Mappings may come as JSON text, as the form sends them.
    :raises ArroyoSettingsError: a ``ValueError`` that names the connection, the field, and what it may be.
    """
    fields = _Fields(connection.conn_id, extra)
    unknown = sorted(set(extra) - set(_EXTRAS))
    if unknown:
        raise fields.wrong(f"extra.{unknown[0]}", f"is not known; known: {', '.join(_EXTRAS)}")
    base_url = _base_url(connection, fields)
    console_url = fields.text("console_url")
    if console_url is not None and urlsplit(console_url).scheme not in ("http", "https"):
        raise fields.wrong("console_url", f"must begin with http:// or https://, got {console_url!r}")
    if fields.text("client_key") and not fields.text("client_cert"):
        raise fields.wrong("client_key", "needs client_cert")
    try:
        return ClientSettings(
            base_url=base_url,
            api_key=connection.password or None,
            verify=fields.flag("verify", True),
            ca_cert=fields.text("ca_cert"),
            client_cert=fields.text("client_cert"),
            client_key=fields.text("client_key"),
            headers=fields.text_map("headers"),
            proxies=fields.text_map("proxies"),
            connect_timeout_seconds=fields.seconds("connect_timeout", 5.0),
            read_timeout_seconds=fields.seconds("read_timeout", 30.0),
            console_url=console_url,
        )
    except ValueError as err:
        raise ArroyoSettingsError(f"Airflow connection {connection.conn_id!r}: {err}") from err


def _base_url(connection: ConnectionFields, fields: _Fields) -> str:
    scheme = (connection.schema or "").lower() or None
    if scheme not in (None, "http", "https"):
        raise fields.wrong("schema", f"must be 'http' or 'https', got {connection.schema!r}")
    host, port, path = connection.host or "localhost", connection.port, ""
    if "://" in host:
        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise fields.wrong("host", f"must be a host name or http(s)://host[:port][/path], got {host!r}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise fields.wrong("host", "must not hold credentials, a query or a fragment")
        try:
            own_port = parts.port
        except ValueError as err:
            raise fields.wrong("host", str(err)) from err
        if scheme and scheme != parts.scheme:
            raise fields.wrong("schema", f"is {scheme!r}, but host begins with {parts.scheme}://")
        scheme, path = parts.scheme, parts.path
        host = parts.hostname
        # An address without a port means the scheme's own, as it does everywhere else.
        port = port or own_port or (443 if scheme == "https" else 80)
    elif any(sign in host for sign in "/?#@ "):
        raise fields.wrong("host", f"must be a host name or http(s)://host[:port][/path], got {host!r}")
    port = port or DEFAULT_PORT
    if not 0 < port < 65536:
        raise fields.wrong("port", f"must be from 1 to 65535, got {port!r}")
    base_path = fields.text("base_path") or path
    if base_path and not base_path.startswith("/"):
        base_path = f"/{base_path}"
    base_path = base_path.rstrip("/").removesuffix("/api/v1")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{scheme or 'http'}://{host}:{port}{base_path}"
