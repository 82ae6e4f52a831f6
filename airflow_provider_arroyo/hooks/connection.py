"""From the fields of an Airflow connection to the settings of a client, with errors that name the field."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from airflow_provider_arroyo.client.checks import check_number
from airflow_provider_arroyo.client.settings import (
    API_PREFIX,
    DEFAULT_PORT,
    MAX_TIMEOUT_SECONDS,
    ClientSettings,
    shown_address,
    split_address,
)
from airflow_provider_arroyo.exceptions import ArroyoNoConnectionError, ArroyoSettingsError
from airflow_provider_arroyo.get_provider_info import get_provider_info

_EXTRAS = tuple(get_provider_info()["connection-types"][0]["conn-fields"])

_FIELD_OF_SETTING = {
    "api_key": "password",
    "base_url": "host",
    "connect_timeout_seconds": "connect_timeout",
    "read_timeout_seconds": "read_timeout",
}
"""Settings whose name differs from that of the connection's field."""

_TYPES = ("arroyo", "http", "https", "generic")
"""The types of connections that may describe an Arroyo; ``generic`` is what Airflow stores if none is given."""

MAX_NAMESPACE = 100
"""Maximum length of a namespace, in characters."""

_HOST_FORMS = "must be a host name, an IP address, host:port, or http(s)://host[:port][/path]"


class ConnectionFields(Protocol):
    """The fields of an Airflow connection that are read here."""

    conn_id: str
    conn_type: str | None
    host: str | None
    port: int | None
    schema: str | None
    password: str | None
    extra: str | None


class _Fields:
    """Reads the fields of one connection; errors name the field."""

    def __init__(self, conn_id: str, extra: Mapping[str, Any]) -> None:
        self._conn_id = conn_id
        self._extra = extra

    def wrong(self, field: str, what: str) -> ArroyoSettingsError:
        return ArroyoSettingsError(f"Airflow connection {self._conn_id!r}, field {field!r}: {what}")

    def _given(self, name: str) -> Any:
        """Return the value of a field; None if it was left empty."""
        value = self._extra.get(name)
        return (value.strip() or None) if isinstance(value, str) else value

    def text(self, name: str) -> str | None:
        value = self._given(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, f"must be a string, got {type(value).__name__}")

    def flag(self, name: str, default: bool) -> bool:
        value = self._given(name)
        if value is None:
            return default
        if str(value).lower() not in ("true", "false"):
            raise self.wrong(name, f"must be true or false, got {value!r}")
        return str(value).lower() == "true"

    def seconds(self, name: str, default: float) -> float:
        value = self._given(name)
        if value is None:
            return default
        try:
            return check_number(value, name, more_than=0, most=MAX_TIMEOUT_SECONDS, may_be_text=True)
        except ValueError as err:
            what = str(err).removeprefix(f"{name} ").replace("a number,", "a number of seconds,", 1)
            raise self.wrong(name, what) from None

    def names(self, name: str) -> tuple[str, ...]:
        value = self._given(name)
        if isinstance(value, str):
            value = [one.strip(' \t\n"') for one in value.strip("[]").split(",")]
        if not isinstance(value, list | None) or not all(isinstance(one, str) for one in value or ()):
            raise self.wrong(name, "must be names, separated by commas, or a JSON list of them")
        return tuple(one for one in value or () if one)

    def text_map(self, name: str) -> dict[str, str]:
        value = self._given(name)
        if value is None:
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as err:
                # The value may hold a secret, so only the position is shown.
                raise self.wrong(name, f"must be a JSON object of strings: {err}") from None
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(name, "must be a JSON object that maps strings to strings")
        return dict(value)


def settings_from(connection: ConnectionFields) -> ClientSettings:
    """Return the settings that a connection describes.

    :param connection: host (a name, an IP address, ``host:port``, or an address with scheme, port and path; default
        ``localhost``), port (default 5115, or the default of the scheme if the host has one), schema (``http``, the
        default, or ``https``), password (the API key). Extra: ``base_path, console_url, verify, ca_cert,
        client_cert, client_key, headers, secret_headers, proxies, connect_timeout, read_timeout`` (seconds),
        ``namespace``; mappings and lists may be JSON text, as the form sends them.
    :raises ArroyoSettingsError: if a field is invalid; names the connection, the field, and its allowed values. Never
        shows a secret.
    """
    extra = _extra_of(connection.extra, connection.conn_id)
    if (connection.conn_type or "generic") not in _TYPES:
        raise ArroyoSettingsError(
            f"Airflow connection {connection.conn_id!r} has type {connection.conn_type!r}, and must have type "
            "'arroyo'. Set arroyo_conn_id to an Arroyo connection, or correct the type of this one."
        )
    fields = _Fields(connection.conn_id, extra)
    unknown = sorted(set(extra) - set(_EXTRAS))
    if unknown:
        raise fields.wrong(f"extra.{unknown[0]}", f"is unknown; known: {', '.join(_EXTRAS)}")
    base_url = _base_url(connection, fields)
    try:
        return ClientSettings(
            base_url=base_url,
            api_key=connection.password or None,
            verify=fields.flag("verify", True),
            ca_cert=fields.text("ca_cert"),
            client_cert=fields.text("client_cert"),
            client_key=fields.text("client_key"),
            headers=fields.text_map("headers"),
            secret_headers=fields.names("secret_headers"),
            proxies=fields.text_map("proxies"),
            connect_timeout_seconds=fields.seconds("connect_timeout", 5.0),
            read_timeout_seconds=fields.seconds("read_timeout", 30.0),
            console_url=fields.text("console_url"),
            namespace=_namespace(fields),
        )
    except ArroyoSettingsError:
        raise
    except ValueError as err:
        raise settings_error(connection.conn_id, err) from err


def settings_error(conn_id: str, error: ValueError) -> ArroyoSettingsError:
    """Return the error of a connection, from the error of its settings.

    :param conn_id: id of the Airflow connection.
    :param error: an error whose text begins with the name of the setting.
    """
    text = str(error)
    setting = re.split(r"\W", text, maxsplit=1)[0]
    field = _FIELD_OF_SETTING.get(setting, setting)
    if field not in (*_EXTRAS, *_FIELD_OF_SETTING.values()):
        return ArroyoSettingsError(f"Airflow connection {conn_id!r}: {text}")
    return _Fields(conn_id, {}).wrong(field, text.removeprefix(setting).lstrip(": "))


def default_namespace(address: str | None) -> str:
    """Return the default namespace: the host of an Airflow's address; empty for a local address.

    :param address: Airflow's ``[api] base_url``.
    """
    parts = split_address(address or "")
    host = (parts.hostname or "").rstrip(".") if parts is not None else ""
    if host.rpartition(".")[2] in ("localhost", "localdomain"):
        return ""
    with suppress(ValueError):
        ip = ipaddress.ip_address(host)
        return "" if ip.is_loopback or ip.is_unspecified or ip.is_link_local else host
    return host


def _namespace(fields: _Fields) -> str:
    name = fields.text("namespace") or ""
    if len(name) > MAX_NAMESPACE or not name.isprintable():
        raise fields.wrong("namespace", f"must be at most {MAX_NAMESPACE} printable characters, got {name!r}")
    return name


def _base_url(connection: ConnectionFields, fields: _Fields) -> str:
    scheme = (connection.schema or "").strip().lower() or None
    if scheme is None and connection.conn_type == "https":
        # As Airflow reads https://host: otherwise the key would be sent in plain text.
        scheme = "https"
    if scheme not in (None, "http", "https"):
        raise fields.wrong("schema", f"must be 'http' or 'https', got {shown_address(scheme)}")
    given_port = _port(connection.port, fields)
    address = (connection.host or "").strip() or "localhost"
    has_scheme = "://" in address
    parts = split_address(address if has_scheme else f"//{_bracketed(address)}")
    if parts is None or (has_scheme and parts.scheme not in ("http", "https")) or not parts.hostname:
        raise fields.wrong("host", f"{_HOST_FORMS}, got {shown_address(address)}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise fields.wrong("host", "must not hold credentials, a query or a fragment")
    if parts.path and not has_scheme:
        raise fields.wrong("host", f"{_HOST_FORMS}, got {shown_address(address)}")
    if parts.port == 0:
        raise fields.wrong("host", "must have a port from 1 to 65535, got 0")
    if has_scheme and scheme and scheme != parts.scheme:
        raise fields.wrong("schema", f"is {scheme!r}, but host begins with {parts.scheme}://")
    scheme = scheme or parts.scheme or "http"
    if given_port and parts.port and given_port != parts.port:
        raise fields.wrong("port", f"is {given_port}, but host has {parts.port}")
    # An address with a scheme and without a port has the default port of the scheme, as everywhere.
    own = {"http": 80, "https": 443}[scheme] if has_scheme else DEFAULT_PORT
    port = given_port or parts.port or own
    path = _base_path(parts.path.rstrip("/"), fields)
    return f"{scheme}://{_bracketed(parts.hostname)}:{port}{path}"


def _bracketed(host: str) -> str:
    """Return a host as it is written in an address: a bare IPv6 address needs brackets."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return f"[{host}]"


def _port(value: Any, fields: _Fields) -> int | None:
    if value is None or value == "":
        return None
    port = 0
    with suppress(OverflowError, TypeError, ValueError):
        port = int(value)
    if not 0 < port < 65536:
        shown = shown_address(value) if isinstance(value, str) else repr(value)
        raise fields.wrong("port", f"must be from 1 to 65535, got {shown}")
    return port


def _base_path(path_of_host: str, fields: _Fields) -> str:
    path = _without_api(path_of_host)
    text = fields.text("base_path")
    if text is None:
        return path
    if split_address(text) is None or any(sign in text for sign in ("?", "#", "://", "\\")):
        # It may hold a token, so it is not shown.
        raise fields.wrong(
            "base_path", r"must be a path such as /arroyo, without white space, ?, #, \ and ://"
        )
    base_path = _without_api("/" + text.strip("/"))
    if path and path != base_path:
        raise fields.wrong("base_path", "differs from the path that host ends with; set one of them")
    return base_path


def _without_api(path: str) -> str:
    return path.rstrip("/").removesuffix(API_PREFIX).rstrip("/")


def no_connection(conn_id: str) -> ArroyoNoConnectionError:
    """Return the error for a connection that cannot be looked up."""
    return ArroyoNoConnectionError(
        f"There is no Airflow connection {conn_id!r}, or Airflow could not look it up just now. "
        "Create one of type Arroyo, or set another arroyo_conn_id."
    )


def _extra_of(extra: str | None, conn_id: str) -> Mapping[str, Any]:
    """Return the JSON object of a connection's extra.

    :raises ArroyoSettingsError: if it is not a JSON object.
    """
    if not extra:
        return {}
    try:
        value = json.loads(extra)
    except ValueError:
        # The text may hold a secret, so neither it nor the parser's excerpt is shown.
        raise ArroyoSettingsError(f"Airflow connection {conn_id!r}, field 'extra': is not JSON") from None
    if not isinstance(value, dict):
        raise ArroyoSettingsError(f"Airflow connection {conn_id!r}, field 'extra': must be a JSON object")
    return value
