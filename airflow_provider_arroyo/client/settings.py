"""Where an Arroyo API is, and how to reach it."""

from __future__ import annotations

import binascii
import os
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow_provider_arroyo.client.checks import check_number
from airflow_provider_arroyo.client.headers import check_header_name, check_header_value
from airflow_provider_arroyo.exceptions import ArroyoSettingsError

API_PREFIX = "/api/v1"
DEFAULT_PORT = 5115

MAX_TIMEOUT_SECONDS = 86_400.0
"""The longest timeout, in seconds: a day. Sockets of the operating system do not support a month."""

MIN_SECRET_LENGTH = 8
"""Shorter header values are not masked: they are as likely to be words or numbers of the surrounding text."""

_MIN_KEY_LENGTH = 4
"""Shorter keys and passwords are not masked: they protect nothing, and masking them would garble every text."""

_MAX_HOST_LENGTH, _MAX_LABEL_LENGTH = 253, 63
"""The limits of DNS for a name, and for each part between its dots."""

_FILES = ("ca_cert", "client_cert", "client_key")

_MAX_SHOWN_PATH = 255
"""A longer value may be the contents of a file instead of its path."""

_SECRET_HEADER = re.compile("auth|token|key|secret|cookie|password|signature", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClientSettings:
    """How to reach one Arroyo API.

    :param base_url: scheme, host, port and a proxy's base path, without ``/api/v1``:
        ``http://localhost:5115`` or ``https://gate.example/arroyo``. No trailing slash.
    :param api_key: static API key, sent as ``Authorization: Bearer``; None sends none.
    :param verify: whether the server's certificate is checked.
    :param ca_cert: path of a file with the authorities to trust instead of the machine's own.
    :param client_cert, client_key: paths of the certificate, and its key, for a server that asks for one;
        ``client_key`` may be None when the certificate's file holds the key too.
    :param headers: sent with every request, for gateways that need their own. Headers that frame a request or change
        its meaning, such as ``Host``, are refused, unless the client sends the same itself, such as ``Accept:
        application/json``. Values of those whose names contain auth, token, key, secret, cookie, password or
        signature are masked in whatever is shown.
    :param secret_headers: names of further headers whose values are masked.
    :param proxies: ``{"http": url, "https": url}``, addresses of HTTP proxies by the scheme of ``base_url``;
        empty uses the environment's (``http_proxy``, ``https_proxy``, ``no_proxy``).
    :param connect_timeout_seconds: how long a connection may take to open, default 5.
    :param read_timeout_seconds: how long a response may take, default 30.
    :param console_url: address of the console for users; default None: ``base_url``, with ``***`` for segments of its
        path that look like secrets.
    :param namespace: separates the caller's pipelines from those of other callers of the same Arroyo. It is sent only
        within ownership labels. Default empty: none.
    """

    base_url: str = f"http://localhost:{DEFAULT_PORT}"
    api_key: str | None = None
    verify: bool = True
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: tuple[str, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    console_url: str | None = None
    namespace: str = ""

    def __post_init__(self) -> None:
        for name in ("base_url", "console_url"):
            address = getattr(self, name) or self.base_url
            if not _is_http_address(address):
                what = f"{name} must be http(s)://host[:port][/path], got {shown_address(address)}"
                raise ValueError(what)
            if any(sign in address for sign in "@?#"):
                raise ValueError(f"{name} must not hold credentials, a query or a fragment")
        if self.base_url.endswith("/"):
            raise ValueError("base_url must not end with a slash")
        for name in ("connect_timeout_seconds", "read_timeout_seconds"):
            check_number(getattr(self, name), name, more_than=0, most=MAX_TIMEOUT_SECONDS)
        for name in _FILES:
            path = getattr(self, name) or ""
            if not path.isprintable() or "-----BEGIN" in path:
                # It may be the key itself, so it is not shown.
                raise ValueError(f"{name} must be the path of a file, not its contents")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")
        if self.api_key is not None:
            check_header_value("api_key", self.api_key)
        for name, value in self.headers.items():
            check_header_name(name, value)
            check_header_value(f"headers[{name!r}]", value)
        if len({name.lower() for name in self.headers}) < len(self.headers):
            raise ValueError("headers: a name occurs twice; upper and lower case make no difference")
        for number, name in enumerate(self.secret_headers, start=1):
            if name.lower() not in {one.lower() for one in self.headers}:
                # It may be the secret itself, so it is not shown.
                raise ValueError(
                    f"secret_headers must be names of headers, but number {number} is not one of them: "
                    f"{', '.join(self.headers) or 'there are none'}"
                )
        for scheme, address in self.proxies.items():
            if scheme not in ("http", "https"):
                raise ValueError(f"proxies must be for 'http' or 'https', got {shown_address(scheme)}")
            if not _is_http_address(address):
                # The address may hold a password, so it is not shown.
                raise ValueError(f"proxies[{scheme!r}] must be http(s)://host:port")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.shown_url!r})"

    def check_files(self) -> tuple[int, ...]:
        """Return when each of the files of certificates and keys was last changed, in nanoseconds.

        :raises ArroyoSettingsError: if one is not readable; names the setting and the path.
        """
        changed = []
        for name in _FILES:
            path = getattr(self, name)
            if path is None:
                continue
            try:
                with Path(path).open("rb") as file:
                    changed.append(os.fstat(file.fileno()).st_mtime_ns)
            except OSError as err:
                shown = repr(path) if len(path) <= _MAX_SHOWN_PATH else f"a path of {len(path)} characters"
                raise ArroyoSettingsError(f"{name}: cannot read {shown}: {err.strerror or err}") from err
        return tuple(changed)

    @property
    def try_seconds(self) -> float:
        """How long one try of a request may take."""
        return self.connect_timeout_seconds + self.read_timeout_seconds

    @property
    def request_headers(self) -> dict[str, str]:
        """The headers that the settings add to every request. Contains secrets."""
        headers = dict(self.headers)
        if self.api_key is not None:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers

    @property
    def credentials_headers(self) -> str:
        """The names of the headers that may contain credentials, for messages; empty if none is sent."""
        return ", ".join(name for name in self.request_headers if self._is_secret_header(name))

    def _is_secret_header(self, name: str) -> bool:
        from airflow_provider_arroyo.client.secret_names import is_secret_name

        further = {one.lower() for one in self.secret_headers}
        return bool(_SECRET_HEADER.search(name)) or is_secret_name(name) or name.lower() in further

    @property
    def secrets(self) -> frozenset[str]:
        """Texts that must never be shown: the key, values of headers and parts of them, passwords of proxies.

        Also segments in the path of the address that look like secrets.
        """
        parts = zip(*(path.split("/") for path in self._path_and_shown), strict=True)
        found = {self.api_key or "", *(part for part, shown in parts if part != shown)}
        for address in self.proxies.values():
            password = urlsplit(address).password or ""
            found |= {password, unquote(password)}
        for name, value in self.request_headers.items():
            if self._is_secret_header(name):
                found |= {one for one in _parts(value) if len(one) >= MIN_SECRET_LENGTH}
        return frozenset(found - {""})

    def redact(self, text: str) -> str:
        """Return ``text`` with every secret of these settings replaced by ``***``, even if it is encoded."""
        from airflow_provider_arroyo.client.secret_names import encoded

        path, shown = self._path_and_shown
        if path != shown:
            text = text.replace(path, shown)
        forms = {form for secret in self.secrets for form in encoded(secret)}
        # The longest first: one secret may be part of another.
        for form in sorted(forms, key=len, reverse=True):
            if len(form) >= MIN_SECRET_LENGTH:
                text = text.replace(form, "***")
            elif len(form) >= _MIN_KEY_LENGTH:
                # It may be part of any word.
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "***", text)
        # The login in an address, such as that of a proxy of the environment.
        return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)

    @property
    def shown_url(self) -> str:
        """The address as it may be shown and stored: segments of its path that look like secrets are ``***``."""
        path, shown = self._path_and_shown
        return self.base_url.removesuffix(path) + shown

    @property
    def server(self) -> str:
        """Identifies the server, and may be stored: the address as it may be shown.

        If a part of it is masked, a digest follows, which is too short to reveal that part.
        """
        shown, digest = self.shown_url, sha256(self.base_url.encode()).hexdigest()[:4]
        return shown if shown == self.base_url else f"{shown}#{digest}"

    def check_same_server(self, server: str, led: str) -> None:
        """Check that these settings lead to the same server as earlier ones.

        :param server: their :attr:`server`.
        :param led: the beginning of the message: that a connection led there.
        :raises ArroyoSettingsError: if they lead to another server.
        """
        if self.server != server:
            # A secret part may be the name of another tenant, as well as a new token for the same.
            masked = ", or has another secret in its path" if "***" in self.server else ""
            raise ArroyoSettingsError(
                f"{led}, and now leads to {self.server}, which is another server{masked}. "
                "Clear the task to start over there."
            )

    @property
    def _path_and_shown(self) -> tuple[str, str]:
        path = urlsplit(self.base_url).path
        parts = path.split("/")
        shown = ("***" if _is_secret(*pair) else pair[1] for pair in zip(["", *parts], parts, strict=False))
        return path, "/".join(shown)

    @property
    def api_url(self) -> str:
        """The base address of all requests."""
        return self.base_url + API_PREFIX

    def pipeline_console_url(self, pipeline_id: str) -> str:
        """Return the console's page of a pipeline. Everyone who sees a task sees it, so it contains no secret."""
        base = (self.console_url or self.shown_url).rstrip("/")
        return f"{base}/pipelines/{quote(pipeline_id, safe='')}"


def _is_secret(before: str, part: str) -> bool:
    """Return whether a segment in the path of the server's address is masked.

    Words and tenant ids are not: masking them would break every link to Arroyo's console.
    """
    from airflow_provider_arroyo.client.secret_names import is_secret_part, is_uuid, names_secret

    if names_secret(before):
        return len(part) >= MIN_SECRET_LENGTH
    return re.search(r"\d", part) is not None and is_secret_part(part) and not is_uuid(part)


def shown_address(address: str) -> str:
    """Return an address for a message, quoted: only its scheme, host and port.

    Any other part may be a secret in the wrong place: a login, a token in the path or query, a password instead of
    the port.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,9})?://", address)
    rest = address[scheme.end() :] if scheme else address
    place = re.match(r"(\[[\da-fA-F:.]*\]?|[\w.-]*)(:\d*)?", "" if "@" in rest else rest)
    shown = (scheme[0] if scheme else "") + (place[0] if place else "")
    return repr(shown if shown == address else f"{shown}…")


def _parts(value: str) -> Iterator[str]:
    """Yield the secret parts of a header's value: ``X`` of ``Bearer X``, and what follows ``=`` in a cookie."""
    parts = [part for part in re.split(r"[\s,;]+", value) if len(part) >= MIN_SECRET_LENGTH]
    yield from parts or [value]
    for part in parts:
        yield part.partition("=")[2]
    if value.lower().startswith("basic "):
        try:
            login = b64decode(value[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield login
        yield login.partition(":")[2]


def split_address(text: str) -> SplitResult | None:
    """Return the parts of an address; None if it is not one."""
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        return None
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # only reading the port validates it
    except ValueError:
        return None
    return parts


def _is_http_address(text: str) -> bool:
    parts = split_address(text)
    if parts is None or parts.scheme not in ("http", "https") or parts.port == 0:
        return False
    host = (parts.hostname or "").removesuffix(".")
    return len(host) <= _MAX_HOST_LENGTH and all(
        0 < len(label) <= _MAX_LABEL_LENGTH for label in host.split(".")
    )
