"""Sets up TLS from the settings, explains TLS errors, and probes a port that closed the connection.

A server that refuses a client certificate, or plain HTTP, often closes the connection without reading the request,
and the operating system then drops the reason. Without a request, the reason arrives.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import certifi

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoSettingsError

log = logging.getLogger(__name__)

_HOSTNAME_MISMATCH, _IP_MISMATCH = 62, 64
_NOT_YET_VALID, _EXPIRED = 9, 10

_PLAIN_PORT = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_CERTIFICATE_WANTED = ("CERTIFICATE_REQUIRED",)
_CERTIFICATE_REFUSED = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_DECRYPT_ERROR",
    "ALERT_HANDSHAKE_FAILURE",
)
_WANTS_TLS = (
    "plain http request was sent to https port",
    "client sent an http request to an https server",
    "speaking plain http to an ssl-enabled server port",
)
_WANTS_CERTIFICATE = ("no required ssl certificate was sent", "the ssl certificate error")
_VERSIONS = ("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE")


PROBE_SECONDS = 2.0
"""How long a probe may take, in seconds."""

_WAITS = 4
"""How often a probe may wait for the port: to connect or shake hands, and to receive something, twice."""

_REQUEST = b"GET /api/v1/ping HTTP/1.0\r\n\r\n"

PLAIN_PORT = (
    "{url} does not speak TLS: the port responds in plain text. "
    "Set the scheme to http, or use the port that has TLS."
)
TLS_PORT = "The port of {url} expects TLS, but plain HTTP was sent. Set the scheme to https."


def make_ssl_context(settings: ClientSettings) -> ssl.SSLContext:
    """Return the TLS context for the settings. Takes some milliseconds and reads files.

    If ``ca_cert`` is set, only that is trusted; otherwise the bundle that ``REQUESTS_CA_BUNDLE`` or
    ``CURL_CA_BUNDLE`` names; otherwise the system's CA certificates and those of ``certifi``.

    :raises ArroyoSettingsError: if a file cannot be used; names the setting.
    """
    context = _trusting(settings)
    if not settings.verify:
        log.warning("The certificate of %s is not checked, since verify is off", settings.shown_url)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert is not None:
        # OpenSSL does not say which of the two files is wrong.
        key = f" and client_key {settings.client_key!r}" if settings.client_key else ""
        with _named(f"client_cert {settings.client_cert!r}{key}: not a PEM certificate with its own key"):
            context.load_cert_chain(settings.client_cert, settings.client_key, password=_no_password)
    return context


def _trusting(settings: ClientSettings) -> ssl.SSLContext:
    if settings.ca_cert is not None:
        with _named(f"ca_cert: {settings.ca_cert!r} contains no PEM certificates"):
            return ssl.create_default_context(cafile=settings.ca_cert)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := os.environ.get(variable):
            with _named(f"environment variable {variable}: cannot use {bundle!r}"):
                if Path(bundle).is_dir():
                    return ssl.create_default_context(capath=bundle)
                return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Name the setting in the error for a file that cannot be used."""
    try:
        yield
    except OSError as err:
        reason = getattr(err, "reason", None) or err.strerror or err
        raise ArroyoSettingsError(f"{what}: {reason}") from err


def _no_password() -> str:
    # Otherwise OpenSSL would prompt for it on the terminal.
    raise ArroyoSettingsError(
        "client_key: is encrypted, which is not supported; decrypt it, or store it unencrypted"
    )


def explain_tls(error: ssl.SSLError, settings: ClientSettings) -> str | None:
    """Return what a TLS error means and what to do; None if it may be temporary, such as a broken handshake.

    :param error: found by this machine, or an alert of the server.
    :param settings: the settings used.
    """
    base_url = settings.shown_url
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, settings)
    reason = error_reason(error)
    if reason.endswith(_PLAIN_PORT):
        return PLAIN_PORT.format(url=base_url)
    if settings.client_cert is None and reason.endswith((*_CERTIFICATE_WANTED, *_CERTIFICATE_REFUSED)):
        return f"{base_url} requires a client certificate, but none was sent. Set client_cert and client_key."
    if reason.endswith(_CERTIFICATE_WANTED):
        return (
            f"{base_url} requires a client certificate, but did not accept the one in client_cert "
            f"{settings.client_cert!r}, perhaps because it does not trust the authority that signed it."
        )
    if reason.endswith(_CERTIFICATE_REFUSED):
        return (
            f"{base_url} refuses the client certificate {settings.client_cert!r} ({reason}). "
            "Check that the server trusts the authority that signed it, and that it has not expired."
        )
    if reason.endswith(_VERSIONS):
        return f"{base_url} and this machine have no TLS version in common ({reason})."
    return None


def _explain_certificate(error: ssl.SSLCertVerificationError, settings: ClientSettings) -> str:
    base_url, words = settings.shown_url, error.verify_message
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_MISMATCH):
        return (
            f"The certificate of {base_url} is for another name: {words} "
            "Use the name that the certificate has, or give the server one for this name."
        )
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        return (
            f"The certificate of {base_url} is not valid at this time: {words}. "
            "Renew it, or correct the clock of this machine."
        )
    trusted = "the authorities that this machine trusts"
    if settings.ca_cert is not None:
        trusted = f"the authorities in ca_cert {settings.ca_cert!r}"
    return (
        f"The certificate of {base_url} is not signed by any of {trusted}: {words}. "
        "Set ca_cert to the file with the authority that signed it."
    )


def explain_plain_refusal(text: str) -> str | None:
    """Return what is wrong with TLS, as the body of a server's response with status 400 says; None if nothing."""
    words = " ".join(text.lower().split())
    if any(part in words for part in _WANTS_TLS):
        return "The port expects TLS, but plain HTTP was sent. Set the scheme to https"
    if any(part in words for part in _WANTS_CERTIFICATE):
        return "The server requires a client certificate that it trusts. Check client_cert and client_key"
    return None


def error_reason(error: BaseException) -> str:
    """Return OpenSSL's name for an error, such as ``TLSV13_ALERT_CERTIFICATE_REQUIRED``; empty if it has none."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    found = re.search(r"\[SSL: (\w+)\]", str(error))
    return found[1] if found else ""


class Finding(NamedTuple):
    """What is wrong with TLS at an address.

    :param message: the problem, and what to do about it.
    :param is_certain: False if it may also be a proxy whose backend is down.
    """

    message: str
    is_certain: bool = True


def find_tls_problem(
    settings: ClientSettings, context: ssl.SSLContext | None, timeout_seconds: float
) -> Finding | None:
    """Return what is wrong with TLS at the settings' address; None if nothing is found. Blocks.

    :param settings: the address. No credentials are sent, except the client certificate.
    :param context: the TLS context to use; None for plain HTTP.
    :param timeout_seconds: how long it may take.
    """
    timeout = timeout_seconds / _WAITS
    if context is None:
        return Finding(TLS_PORT.format(url=settings.shown_url)) if _speaks_tls(settings, timeout) else None
    try:
        # Once may be a server that is just shutting down; it does not shake hands again, but a proxy without its
        # backend does.
        if all(_closes_after_handshake(settings, context, timeout) for _ in range(2)):
            likely = "it requires a client certificate, but none was sent: set client_cert and client_key."
            if settings.client_cert is not None:
                refused = f"it refuses the client certificate {settings.client_cert!r}"
                likely = f"{refused}: check which authorities it trusts."
            return Finding(
                "The server closes the connection right after the TLS handshake, before any request: either "
                f"Arroyo is down behind a proxy, or {likely}",
                is_certain=False,
            )
    except ssl.SSLError as err:
        if message := explain_tls(err, settings):
            return Finding(message)
    except OSError:
        pass
    else:
        return None
    return (
        Finding(PLAIN_PORT.format(url=settings.shown_url)) if _speaks_plain_http(settings, timeout) else None
    )


def _closes_after_handshake(settings: ClientSettings, context: ssl.SSLContext, timeout: float) -> bool:
    """Return whether the server completes the handshake and then closes, before any request.

    :raises OSError: if there is no handshake, or the server says why it closes.
    """
    with (
        _connect(settings, timeout) as plain,
        context.wrap_socket(plain, server_hostname=_address(settings)[0]) as secure,
    ):
        try:
            # With TLS 1.3, the server comments on our certificate only now.
            return secure.recv(1) == b""
        except TimeoutError:
            return False
        except (ssl.SSLEOFError, ConnectionError):
            return True


def _speaks_tls(settings: ClientSettings, timeout: float) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _connect(settings, timeout) as plain,
            context.wrap_socket(plain, server_hostname=_address(settings)[0]),
        ):
            return True
    except ssl.SSLError as err:
        # Only a TLS server sends an alert.
        return "ALERT" in (err.reason or "")
    except OSError:
        return False


def _speaks_plain_http(settings: ClientSettings, timeout: float) -> bool:
    try:
        with _connect(settings, timeout) as plain:
            plain.sendall(_REQUEST)
            # TLS ports often respond to plain text with 400, in plain text.
            return re.match(rb"HTTP/\d\.\d (?!400)\d", _start_of_response(plain, timeout)) is not None
    except OSError:
        return False


def _start_of_response(plain: socket.socket, timeout: float) -> bytes:
    start, ends_at = b"", time.monotonic() + timeout
    while len(start) < len(b"HTTP/1.1 400") and time.monotonic() < ends_at and (more := plain.recv(64)):
        start += more
    return start


def _address(settings: ClientSettings) -> tuple[str, int]:
    parts = urlsplit(settings.base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _connect(settings: ClientSettings, timeout: float) -> socket.socket:
    return socket.create_connection(_address(settings), timeout)
