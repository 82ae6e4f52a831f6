"""The judgement of answers: a value, or the error that says what to do next. The same for both clients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from airflow_provider_arroyo.arroyo.call import Answer, Call, Exchange, http_date
from airflow_provider_arroyo.arroyo.details import OutputBatch, SqlDiagnostic
from airflow_provider_arroyo.arroyo.diagnosis import with_place
from airflow_provider_arroyo.arroyo.output import OutputParser
from airflow_provider_arroyo.arroyo.reading import NotJsonError, json_of
from airflow_provider_arroyo.arroyo.settings import ClientSettings
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoResponseError,
    ArroyoTlsError,
    shorten,
)

T = TypeVar("T")

MAX_BODY_BYTES = 2 * 1024 * 1024
"""The largest request that Arroyo takes."""

_NO_JOBS = ("There are no jobs for the pipeline", "No jobs for pipeline")
"""What a PATCH (0.15) and a restart say, with 400, where there is no such pipeline."""

_FIELD_MISSING = re.compile(r"field \w+ must be set")
"""Of the call, not of the SQL: there it is "'format' must be set for Kafka connection" and its like."""

_NOT_ABOUT_SQL = (
    "checkpoint_interval_micros must be between",
    "already exists",
    "failed to parse the request body",
    "failed to deserialize",
)

_SERVERS_OWN = (500, 502, 503, 504)
"""What a page of HTML may come with, and still be the word of whoever serves Arroyo."""

_WANTS_TLS = (
    "plain http request was sent to https port",
    "client sent an http request to an https server",
    "speaking plain http to an ssl-enabled server port",
)
_WANTS_CERTIFICATE = ("no required ssl certificate was sent", "the ssl certificate error")


def interpret(call: Call[T], answer: Answer, settings: ClientSettings) -> Exchange[T]:
    """Return what an answer says.

    :param call: what was asked.
    :param answer: what came back.
    :param settings: how it was asked, for messages; nothing secret of it is repeated.
    :raises ArroyoError: that names the call, the server's words, and what to do next.
    """
    return _Judge(call, answer, settings).exchange()


def interpret_event(
    parser: OutputParser, chunk: bytes, call: Call[Any], url: str, settings: ClientSettings
) -> Iterator[OutputBatch]:
    """Yield the batches that some bytes of an output stream complete.

    :param parser: has the bytes before.
    :param chunk: the bytes.
    :param call, url, settings: what was asked, and how, for messages.
    :raises ArroyoResponseError: where they are not Arroyo's.
    """
    try:
        yield from parser.feed(chunk)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise ArroyoResponseError(
            f"{call.method} {url} sent an event that is not Arroyo's: {shorten(settings.redact(repr(chunk)))}",
            status=200,
            method=call.method,
            path=call.path,
        ) from err


def diagnostics_of(message: str) -> tuple[SqlDiagnostic, ...]:
    """Return what a refusal in text says of the SQL, one for each of its points."""
    head, *points = message.split("\n * ")
    return tuple(with_place(SqlDiagnostic(text.strip())) for text in (points or [head]))


class _Judge:
    def __init__(self, call: Call[Any], answer: Answer, settings: ClientSettings) -> None:
        self._call = call
        self._answer = answer
        self._settings = settings

    # Read only where an answer says no: one that says yes can be a list of megabytes, ten times a second.

    @cached_property
    def _own_words(self) -> str | None:
        return _error_text(self._answer)

    @cached_property
    def _said_words(self) -> str:
        """The server's words as they came: what they mean is judged by these, and shown are the others."""
        return (self._answer.text if self._own_words is None else self._own_words).strip()

    @cached_property
    def _words(self) -> str:
        return self._settings.redact(self._said_words)

    def exchange(self) -> Exchange[Any]:
        status = self._answer.status
        if 200 <= status < 300:
            return self._value()
        if 300 <= status < 400:
            raise self._redirect()
        raise self._refusal()

    # -- answers that say yes --------------------------------------------------------------------------------------

    def _value(self) -> Exchange[Any]:
        try:
            return Exchange(self._call.read(self._answer), self._answer.headers)
        except NotJsonError as err:
            raise self._not_json() from err
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            reason = f"field {err} is missing" if isinstance(err, KeyError) else str(err)
            what = "HTML" if self._is_html() else f"something that is not Arroyo's ({shorten(reason, 100)})"
            raise self._foreign(what) from err

    def _not_json(self) -> ArroyoError:
        if not self._looks_like_json():
            return self._foreign("HTML" if self._is_html() else "something that is not JSON")
        if self._call.changes:
            return ArroyoConnectionError(
                f"The answer to {self._call} broke off, so it is not known whether it took effect. "
                f"It began: {self._shown()}",
                method=self._call.method,
                path=self._call.path,
            )
        return self._foreign("JSON that breaks off", is_cut_short=True)

    def _looks_like_json(self) -> bool:
        start = self._answer.body.lstrip()[:1]
        return not self._is_html() and (
            start in (b"{", b"[", b'"') or self._answer.content_type == "application/json"
        )

    def _is_html(self) -> bool:
        start = self._answer.body.lstrip()[:9].lower()
        return self._answer.content_type == "text/html" or start.startswith((b"<!doctype", b"<html"))

    # -- answers that say no ---------------------------------------------------------------------------------------

    def _redirect(self) -> ArroyoError:
        target = self._settings.redact(self._answer.headers.get("location", "")) or "nowhere"
        return self._foreign(f"a redirect to {shorten(target)}, which is not followed")

    def _refusal(self) -> ArroyoError:
        status = self._answer.status
        if self._answer.status == 400 and (tls := self._tls_refusal()):
            return tls
        rules: dict[int, Callable[[], ArroyoError]] = {
            401: self._unauthorized,
            403: self._forbidden,
            404: self._not_found,
            405: self._not_allowed,
            407: self._proxy_refusal,
            413: self._too_large,
            429: lambda: self._api_error(ArroyoApiError, "has had too many calls (429). Ask less often."),
        }
        if status in rules:
            return rules[status]()
        if status >= 500 and (status in _SERVERS_OWN or not self._is_html()):
            return self._server_error()
        if self._own_words is None and (self._is_html() or self._looks_like_json()):
            return self._foreign("HTML" if self._is_html() else "JSON that is not Arroyo's")
        if status == 400 and self._said_words in _NO_JOBS:
            return self._no_such_thing()
        if status == 409 or (status == 400 and "already exists" in self._said_words):
            return self._api_error(ArroyoConflictError, "refuses because of what is there already.")
        if status == 400 and self._call.carries_sql and self._is_about_sql():
            return ArroyoQueryError(
                f"Arroyo refused the SQL: {shorten(self._words, 2000)}",
                diagnostics=diagnostics_of(self._words),
                **self._data(),
            )
        return self._api_error(ArroyoApiError, "refuses the call. Mend what it names.")

    def _is_about_sql(self) -> bool:
        words = self._said_words.lower()
        if not words or _FIELD_MISSING.fullmatch(words):
            return False
        return not any(sign in words for sign in _NOT_ABOUT_SQL)

    def _tls_refusal(self) -> ArroyoTlsError | None:
        words = " ".join(self._said_words.lower().split())
        if any(sign in words for sign in _WANTS_TLS):
            what = "The port wants TLS, and plain HTTP was sent. Set the scheme to https"
        elif any(sign in words for sign in _WANTS_CERTIFICATE):
            what = "The server wants a client certificate that it trusts. Check client_cert and client_key"
        else:
            return None
        return ArroyoTlsError(
            f"{what} ({self._where()} said: {self._shown()}).",
            method=self._call.method,
            path=self._call.path,
        )

    def _unauthorized(self) -> ArroyoError:
        header = self._settings.credentials_headers
        if not header:
            what = (
                "wants credentials (401) and none were sent: "
                "set the API key (the connection's password), which goes into the header Authorization"
            )
        else:
            what = (
                f"does not accept (401) the credentials sent in header {header}: "
                "check the API key (the connection's password)"
            )
        return self._auth_error(what)

    def _forbidden(self) -> ArroyoError:
        header = self._settings.credentials_headers
        sent = (
            "no credentials were sent"
            if not header
            else f"the credentials sent in header {header} do not allow it"
        )
        return self._auth_error(f"forbids this (403): {sent}. Check the API key and any gateway in between")

    def _auth_error(self, what: str) -> ArroyoAuthError:
        return ArroyoAuthError(f"{self._where()} {what}.{self._said()}", **self._data())

    def _proxy_refusal(self) -> ArroyoError:
        return self._auth_error("answered through a proxy that wants credentials (407). Check proxies")

    def _not_found(self) -> ArroyoError:
        if self._own_words is None:
            what = "HTML" if self._is_html() else "a 404 that is not Arroyo's"
            return self._foreign(what)
        if self._own_words == "Route not found":
            return self._api_error(
                ArroyoApiError,
                "does not know this path. Check the connection's base_path, and the server's version.",
            )
        return self._no_such_thing()

    def _no_such_thing(self) -> ArroyoError:
        subject = self._call.subject or "what was asked for"
        return ArroyoNotFoundError(
            f"Arroyo at {self._settings.base_url} does not have {subject}: "
            f"it was deleted, or belongs to another server.{self._said()}",
            **self._data(),
        )

    def _not_allowed(self) -> ArroyoError:
        if self._call.method == "PUT" and "allow" in self._answer.headers:
            return self._api_error(
                ArroyoApiError, "has no PUT (405): it is Arroyo 0.15, which chooses ids itself; use POST."
            )
        return self._api_error(
            ArroyoApiError, "does not know this call (405). Check the server's version, and base_path."
        )

    def _too_large(self) -> ArroyoError:
        return too_large(self._call, self._settings, **{**self._data(), "server_message": self._words})

    def _server_error(self) -> ArroyoError:
        status = self._answer.status
        if status in (502, 503, 504):
            return self._api_error(ArroyoApiError, f"is not available at the moment ({status}).")
        return self._api_error(ArroyoApiError, f"failed inside ({status}). Look at the server's log.")

    # -- parts -----------------------------------------------------------------------------------------------------

    def _where(self) -> str:
        return f"Arroyo at {self._settings.base_url}"

    def _said(self) -> str:
        if not self._words:
            return f" ({self._call} was answered without a word.)"
        return f" ({self._call} was answered: {shorten(self._words)})"

    def _shown(self) -> str:
        return repr(shorten(self._settings.redact(self._answer.text))) if self._answer.body else "nothing"

    def _api_error(self, cls: type[ArroyoApiError], what: str) -> ArroyoApiError:
        wait = retry_after_seconds(self._answer)
        asks = "" if wait is None else f" It asks to wait {wait:g} s."
        return cls(f"{self._where()} {what}{asks}{self._said()}", **self._data())

    def _foreign(self, what: str, *, is_cut_short: bool = False) -> ArroyoResponseError:
        advice = (
            "The connection or a proxy broke it off."
            if is_cut_short
            else "Check that the connection's host, port and base_path lead to Arroyo, and past any login page."
        )
        return ArroyoResponseError(
            f"{self._call.method} {self._answer.url} was answered with status {self._answer.status} and {what}. "
            f"{advice} It began: {self._shown()}",
            is_cut_short=is_cut_short,
            **self._data(),
        )

    def _data(self) -> dict[str, Any]:
        return {
            "status": self._answer.status,
            "method": self._call.method,
            "path": self._call.path,
            "server_message": shorten(self._words, 2000) if self._is_html() else self._words,
            "retry_after_seconds": retry_after_seconds(self._answer),
        }


def too_large(call: Call[Any], settings: ClientSettings, **data: Any) -> ArroyoApiError:
    """Return the error for a request that is larger than the server takes."""
    size = len(call.content() or b"")
    limit = "which takes 2 MB (2,097,152 bytes) at most"
    if size <= MAX_BODY_BYTES:
        limit += "; this is less, so a proxy in between has a lower limit"
    said = data.get("server_message")
    return ArroyoApiError(
        f"{call} is too large for Arroyo at {settings.base_url}, {limit}: its body has {size:,} bytes. "
        f"Make the SQL or the UDFs smaller.{f' (It said: {shorten(said)})' if said else ''}",
        **data,
    )


def retry_after_seconds(answer: Answer) -> float | None:
    """Return how long the server asks to wait; None where it does not."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    until = http_date(value)
    if until is None:
        return None
    # Against the server's own clock, which need not agree with ours.
    return max(0.0, (until - (answer.server_date or datetime.now(UTC))).total_seconds())


def _error_text(answer: Answer) -> str | None:
    """Return the text of Arroyo's own ``{"error": text}``; None where the body is something else."""
    try:
        value = json_of(answer)
    except NotJsonError:
        return None
    if isinstance(value, dict) and isinstance(value.get("error"), str):
        return str(value["error"])
    return None
