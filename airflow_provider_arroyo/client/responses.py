"""Turns a response into its value, or into an error that says what to do next and whether a retry may help.

Only this module decides what Arroyo itself has said. "Gone" and "taken" are recognized by Arroyo's exact messages;
anything else from a gateway counts as an outage.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow_provider_arroyo.client.body_secrets import MAX_READ, redactor
from airflow_provider_arroyo.client.connection_errors import too_large
from airflow_provider_arroyo.client.lists import Listed
from airflow_provider_arroyo.client.reading import UNREADABLE, NotJsonError, json_of, reason
from airflow_provider_arroyo.client.request import HttpResponse, Request, Response
from airflow_provider_arroyo.client.settings import API_PREFIX, ClientSettings
from airflow_provider_arroyo.client.tls import explain_plain_refusal
from airflow_provider_arroyo.client.words import (
    CHECKPOINT_GONE,
    ID_TAKEN,
    NAME_TAKEN,
    UNKNOWN_CONNECTOR,
    is_about_request,
    is_about_sql,
    only_names_status,
    what_a_cache_says,
)
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoTlsError,
    ArroyoUnreadableItemError,
    Disposition,
    SqlDiagnostic,
)
from airflow_provider_arroyo.text import shorten

T = TypeVar("T")

_REFUSALS = (400, 404, 409, 422, 500, 502, 503)
"""The statuses with which Arroyo itself refuses a request in words."""

_UNAVAILABLE = (408, 502, 503, 504)

_MAX_PAGE = 12_000
"""How many characters of a response that is not Arroyo's are read for a message. Every poll may get a long page."""

_CHECK_THE_WAY = (
    "Check that the connection's host, port and base_path lead to Arroyo, and past any login page"
)

_METHODS_OF_PIPELINE = {"PATCH", "GET", "HEAD", "DELETE"}
"""The methods that Arroyo 0.15 allows for a pipeline, as its response to a PUT says."""


def interpret(request: Request[T], response: HttpResponse, settings: ClientSettings) -> Response[T]:
    """Return the value of a response.

    :param request: the request.
    :param response: its response.
    :param settings: the settings used, for messages; no secret of theirs is repeated.
    :raises ArroyoError: if it is an error; names the request, the server's message, and what to do next.
    """
    reader = _Interpreter(request, response, settings)
    if response.status == HTTPStatus.OK or reader.own_words is not None:
        reader.check_age()
    if response.status == HTTPStatus.OK:
        return Response(reader.value(), response.server_date)
    raise reader.refusal()


def diagnostics_of(message: str) -> tuple[SqlDiagnostic, ...]:
    """Return the messages of a refusal about SQL, one item each."""
    head, *points = message.split("\n * ")
    return tuple(SqlDiagnostic(text.strip()).with_place() for text in (points or [head]))


class _Interpreter:
    def __init__(self, request: Request[Any], response: HttpResponse, settings: ClientSettings) -> None:
        self._request = request
        self._response = response
        self._settings = settings

    # Evaluated for refusals only: a successful response can be megabytes long, ten times a second.

    @cached_property
    def own_words(self) -> str | None:
        """The text of Arroyo's ``{"error": text}``; None if the response is anything else."""
        if self._response.status not in _REFUSALS or self._response.content_type != "application/json":
            return None
        try:
            value = json_of(self._response.body)
        except NotJsonError:
            return None
        if not isinstance(value, dict) or set(value) != {"error"} or not isinstance(value["error"], str):
            return None
        words: str = value["error"].strip()
        return None if only_names_status(words) else words

    @cached_property
    def _words(self) -> str:
        """The server's message without secrets. Decisions use the unchanged text."""
        return self._redacted(self._text if self.own_words is None else self.own_words).strip()

    @cached_property
    def _text(self) -> str:
        """As much of the body as is read, as text, and a little more if there is more."""
        return self._response.body[: 4 * self._most_read + 4].decode("utf-8", "replace")

    @property
    def _most_read(self) -> int:
        return _MAX_PAGE if self.own_words is None else MAX_READ

    @cached_property
    def _redacted(self) -> Callable[[str], str]:
        return redactor(self._request.body, self._settings, most=self._most_read)

    def check_age(self) -> None:
        """Check that the response is current.

        :raises ArroyoForeignResponseError: if a cache sent it, so that the current state is unknown.
        """
        if age := what_a_cache_says(self._response):
            raise ArroyoForeignResponseError(
                f"{self._requested} got a response from a cache, {age}: the current state is unknown. The request "
                f"asked for a fresh one (Cache-Control: no-cache). Let the gateway cache nothing below {API_PREFIX}, "
                "or let the connection lead past it.",
                **self._data,
            )

    def value(self) -> Any:
        try:
            value = self._request.read(self._response)
        except NotJsonError as err:
            raise self._not_json(err) from None
        except UNREADABLE as err:
            raise self._foreign(f"something that is not Arroyo's ({shorten(reason(err))})") from err
        if isinstance(value, Listed) and value.error is not None:
            return replace(value, error=self._unreadable(value.error))
        return value

    def _unreadable(self, error: ArroyoUnreadableItemError) -> ArroyoUnreadableItemError:
        return ArroyoUnreadableItemError(
            f"{self._requested} returned items that cannot be read: {self._redacted(error.message)}. Repair or "
            "delete them in Arroyo, or check any gateway in between.",
            names=error.names,
            status=self._response.status,
            **self._request.where,
        )

    def _not_json(self, error: NotJsonError) -> ArroyoError:
        is_json = self._response.body.lstrip()[:1] in (b"{", b"[", b'"')
        if self._is_html or not is_json or not error.is_cut_short:
            what = "an empty response" if not self._response.body else "something that is not JSON"
            return self._foreign(what)
        effect = ", so it is not known whether it took effect" if self._request.changes else ""
        return ArroyoConnectionError(
            f"The response to {self._request} was cut short{effect}. It began: {self._shown}",
            **self._request.where,
        )

    @cached_property
    def _is_html(self) -> bool:
        start = self._response.body.lstrip()[:9].lower()
        return self._response.content_type == "text/html" or start.startswith((b"<!doctype", b"<html"))

    # -- refusals ----------------------------------------------------------------------------------------------

    def refusal(self) -> ArroyoError:
        status = self._response.status
        if status == 400 and (what := explain_plain_refusal(self._text)):
            return ArroyoTlsError(f"{what} ({self._where} said: {self._shown}).", **self._request.where)
        if status in (401, 403, 407):
            return self._auth_error()
        if status == 413 and self._request.body is not None:
            return too_large(self._request, self._settings, **self._data)
        if status == 429:
            what = "receives too many requests (429). Send fewer."
            # This may be a gateway's message, so Arroyo may have got the request.
            return self._api_error(what, disposition=Disposition.RETRY_IF_IDEMPOTENT)
        if status in _UNAVAILABLE and self.own_words is not None:
            what = f"is not available at the moment ({status})."
            return self._api_error(what, disposition=Disposition.RETRY_IF_IDEMPOTENT)
        if self._has_no_put():
            return self._api_error("has no PUT (405): it is Arroyo 0.15, which assigns ids itself.")
        if self.own_words is None:
            if 300 <= status < 400 and (to := self._response.headers.get("location")):
                return self._redirect(to)
            if status in _UNAVAILABLE:
                return ArroyoForeignResponseError(
                    f"{self._requested} got status {status}: a gateway says that Arroyo is not available."
                    f"{self._asks} Check that Arroyo runs, and the gateway's log. The response began: {self._shown}",
                    **self._data,
                )
            return self._foreign("something that is not Arroyo's")
        return self._own_refusal(status, self.own_words)

    def _has_no_put(self) -> bool:
        """Return whether this is Arroyo 0.15, which assigns ids itself, and not a gateway that forbids PUT."""
        allowed = {one.strip().upper() for one in self._response.headers.get("allow", "").split(",")}
        is_put = self._request.method == "PUT" and self._response.status == HTTPStatus.METHOD_NOT_ALLOWED
        return is_put and not self._response.body and allowed == _METHODS_OF_PIPELINE

    def _own_refusal(self, status: int, words: str) -> ArroyoError:
        """Return the error for a refusal in Arroyo's own form."""
        if status in (400, 404) and (words in self._request.gone or self._is_gone_checkpoint(words)):
            return ArroyoNotFoundError(
                f"{self._where} does not have {self._request.about or 'what was requested'}: it was deleted, or "
                f"belongs to another server. Check the id and the connection.{self._said}",
                **self._data,
            )
        # A refusal of SQL can hold any words but the whole text about ids.
        is_name_taken = not self._request.has_sql and NAME_TAKEN.fullmatch(words)
        creates = self._request.changes and not self._request.gone
        if creates and status in (400, 409) and (ID_TAKEN.fullmatch(words) or is_name_taken):
            what = f"already has {self._request.about or 'one'}: the id or name is taken."
            return self._api_error(what, ArroyoConflictError)
        if words == "Route not found":
            return self._api_error(
                "does not know this path. Check the connection's base_path, and Arroyo's version."
            )
        if status == 404:
            return self._foreign("a 404 in words that are not Arroyo's")
        if status == 400 and self._request.has_sql and is_about_sql(words):
            return ArroyoQueryError(
                f"Arroyo refused the SQL: {shorten(self._words, 2000)}",
                diagnostics=diagnostics_of(self._words),
                **self._data,
            )
        if status >= 500:
            # A change that failed inside the server is not repeated: it may have taken effect, or fail every time.
            changes = self._request.changes
            return self._api_error(
                f"failed internally ({status}). Check the server's log.",
                disposition=Disposition.PERMANENT if changes else Disposition.RETRY_IF_IDEMPOTENT,
            )
        if not self._may_be_arroyos(words):
            return self._foreign("a refusal in words that are not Arroyo's")
        is_fatal = status == 422 or UNKNOWN_CONNECTOR.match(words) is not None
        return self._api_error("refuses the request. Fix what the message names.", is_fatal=is_fatal)

    def _is_gone_checkpoint(self, words: str) -> bool:
        return "/checkpoints/" in self._request.path and CHECKPOINT_GONE.fullmatch(words) is not None

    def _may_be_arroyos(self, words: str) -> bool:
        """Return whether a refusal that is about neither SQL nor what exists may be Arroyo's."""
        if self._request.method == "GET":
            # Of what is read here, it refuses nothing else.
            return self._request.path.endswith("/output")
        # Of what is created for all pipelines, connectors and compilers say what they like.
        is_shared = self._request.method == "POST" and not self._request.path.startswith("/pipelines")
        return is_shared or is_about_request(words)

    def _auth_error(self) -> ArroyoAuthError:
        header = self._settings.credentials_headers
        sent = f"the credentials sent in header {header}"
        key = "the API key (the connection's password)"
        match self._response.status, header:
            case 407, _:
                what = "is behind a proxy that requires credentials (407). Check proxies"
            case 403, _:
                reason = f"{sent} do not allow it" if header else "no credentials were sent"
                what = f"forbids this (403): {reason}. Check the API key and any gateway in between"
                if self._request.has_sql:
                    what += ", whose firewall may mistake SQL for an attack"
            case _, "":
                what = f"requires credentials (401), but none were sent. Set {key}, sent in the header Authorization"
            case _:
                what = f"does not accept {sent} (401). Check {key}"
        return ArroyoAuthError(f"{self._where} {what}.{self._said}", **self._data)

    def _redirect(self, to: str) -> ArroyoForeignResponseError:
        host = urlsplit(self._settings.base_url).hostname or ""
        is_to_tls = re.match(rf"https://{re.escape(host)}(?![^:/?#])", to, re.IGNORECASE)
        if self._settings.base_url.startswith("http:") and is_to_tls:
            advice = "Set the scheme to https, and its port"
        else:
            advice = _CHECK_THE_WAY
        return ArroyoForeignResponseError(
            f"{self._requested} got status {self._response.status} and a redirect to "
            f"{shorten(self._redacted(to))}, which is not followed. {advice}.",
            **self._data,
        )

    def _foreign(self, what: str) -> ArroyoForeignResponseError:
        firewall = ", and that no firewall takes the SQL for an attack" if self._request.has_sql else ""
        return ArroyoForeignResponseError(
            f"{self._requested} got status {self._response.status} and {'HTML' if self._is_html else what}. "
            f"{_CHECK_THE_WAY}{firewall}. The response began: {self._shown}",
            **self._data,
        )

    def _api_error(
        self, what: str, cls: type[ArroyoApiError] = ArroyoApiError, **attributes: Any
    ) -> ArroyoApiError:
        return cls(f"{self._where} {what}{self._asks}{self._said}", **self._data, **attributes)

    # -- parts of messages -------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"Arroyo at {self._settings.shown_url}"

    @property
    def _requested(self) -> str:
        return f"{self._request.method} {self._settings.redact(self._response.url)}"

    @property
    def _asks(self) -> str:
        wait = self._data["retry_after_seconds"]
        return "" if wait is None else f" It asks to wait {wait:g} s."

    @property
    def _said(self) -> str:
        if not self._words:
            return f" ({self._request} got an empty response.)"
        return f" ({self._request} got: {shorten(self._words)})"

    @property
    def _shown(self) -> str:
        text = shorten(self._words if self.own_words is None else self._redacted(self._text))
        return repr(text) if self._response.body else "nothing"

    @cached_property
    def _data(self) -> dict[str, Any]:
        return {
            "status": self._response.status,
            **self._request.where,
            "server_message": shorten(self._words, 2000) if self.own_words is None else self._words,
            "retry_after_seconds": self._response.retry_after_seconds,
        }
