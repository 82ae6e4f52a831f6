"""Requests to Arroyo's API as values, and their responses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_arroyo.client.checks import check_id, check_integer
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError

_SAME_TIME_SECONDS = 2.0

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

COMPILE_TIMEOUT_SECONDS = 300.0
"""How long a request that makes the server compile a UDF may take, in seconds; over 30 s is usual."""


def http_date(text: str | None) -> datetime | None:
    """Return the time in an HTTP header, in UTC; None if there is none."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        return None


def seconds_ahead(date: datetime, read_at: float) -> float:
    """Return by how much a server's clock is ahead of this machine's; 0 if they agree.

    :param date: when a response was sent, by the server's clock.
    :param read_at: when it was read, by this machine's clock, in seconds since the epoch.
    """
    ahead = date.timestamp() - read_at
    # The header has whole seconds, and the response took some time.
    return ahead if abs(ahead) > _SAME_TIME_SECONDS else 0.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response before it is interpreted.

    :param status: the HTTP status.
    :param headers: names in lower case.
    :param body: decompressed.
    :param url: the requested address.
    :param took_seconds: time from the request to the end of the response.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(repr=False)
    took_seconds: float = 0.0

    @property
    def content_type(self) -> str:
        """The media type, without parameters; empty if there is none."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def server_date(self) -> datetime | None:
        """When it was sent, by the server's clock."""
        return http_date(self.headers.get("date"))

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server asks to wait; None if it does not."""
        value = self.headers.get("retry-after", "").strip()
        if re.fullmatch("[0-9]{1,9}", value):
            return float(value)
        until = http_date(value)
        if until is None:
            return None
        # Compared with the server's own clock, which may differ from ours.
        return max(0.0, (until - (self.server_date or datetime.now(UTC))).total_seconds())


@dataclass(frozen=True, slots=True)
class Response(Generic[T_co]):
    """The value of a response.

    :param value: the value that the request reads from it.
    :param server_date: when it was sent, by the server's clock; None if unknown.
    """

    value: T_co
    server_date: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[T_co]):
    """One request to the API.

    :param method: the HTTP method.
    :param path: below ``/api/v1``, with a leading slash, ids escaped.
    :param read: returns the value of a successful response; raises ``KeyError``, ``TypeError``, ``ValueError`` or
        ``AttributeError`` if it has another shape.
    :param params: the query string; default none.
    :param body: sent as JSON; default None sends no body.
    :param is_idempotent: whether sending it twice has the same effect as once.
    :param changes: whether it can change anything on the server.
    :param about: the thing it concerns, for messages: ``pipeline 'pl_1'``.
    :param gone: Arroyo's exact messages that this thing does not exist.
    :param proof: for a change: a request that Arroyo refuses as gone if the thing does not exist, which is sent after
        a DELETE; default None.
    :param has_sql: whether it contains SQL, so that a refusal may be about the SQL.
    :param min_read_timeout_seconds: minimum read timeout, for requests that are known to be slow; if the client's own
        timeout is longer, that is used.
    """

    method: str
    path: str
    read: Callable[[HttpResponse], T_co]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    is_idempotent: bool = True
    changes: bool = True
    about: str = ""
    gone: tuple[str, ...] = ()
    proof: Request[Any] | None = field(default=None, repr=False)
    has_sql: bool = False
    min_read_timeout_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def where(self) -> dict[str, Any]:
        """Its method and path, as attributes of an error."""
        return {"method": self.method, "path": self.path}

    @property
    def target(self) -> str:
        """The path with its query string, escaped."""
        return f"{self.path}?{urlencode(self.params, quote_via=quote)}" if self.params else self.path

    def not_proved(self) -> ArroyoForeignResponseError:
        """Return the error for a DELETE without effect: Arroyo's response is empty, so anything may have sent it."""
        return ArroyoForeignResponseError(
            f"{self} got status 200, and {self.about} is still there: {self.proof} was not refused after it. "
            "Something in between responds in place of Arroyo. Let the gateway pass DELETE on.",
            status=200,
            **self.where,
        )

    @property
    def again(self) -> Request[Any] | None:
        """What to ask after a response that the thing does not exist; None if nothing reads it."""
        again = self.proof if self.changes else self
        return None if again is None or again.changes else again

    def contradicted(self, status: int) -> ArroyoForeignResponseError:
        """Return the error for a response that something does not exist, while :attr:`again` finds it.

        :param status: the status of that response.
        """
        return ArroyoForeignResponseError(
            f"{self} got status {status}, as if there were no {self.about}, but {self.again} finds it: several "
            "servers respond at this address. Let the connection lead to one Arroyo, whose replicas share their "
            "database.",
            status=status,
            **self.where,
        )

    def content(self) -> bytes | None:
        """Return the body's bytes.

        :raises ValueError: if the body cannot be written as JSON in UTF-8.
        """
        if self.body is None:
            return None
        try:
            # Not escaped to ASCII, which would make text in other scripts up to six times as long.
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as err:
            character = err.object[err.start : err.start + 1]
            raise ValueError(
                f"{self}: the text contains {character!r}, which is not a valid character"
            ) from err
        except (TypeError, ValueError) as err:
            raise ValueError(f"{self}: the body cannot be written as JSON: {err}") from err


def get(
    path: str,
    read: Callable[[HttpResponse], T],
    *,
    params: Mapping[str, str] | None = None,
    about: str = "",
    gone: tuple[str, ...] = (),
) -> Request[T]:
    """Return a request that only reads; the parameters are those of :class:`Request`."""
    return Request(
        method="GET", path=path, read=read, params=params or {}, changes=False, about=about, gone=gone
    )


def delete(
    path: str, *, about: str, gone: tuple[str, ...] = (), proof: Request[Any] | None = None
) -> Request[None]:
    """Return a request that deletes ``path``; the parameters are those of :class:`Request`.

    :param proof: default None: the same request again, since the server never uses an id twice.
    """
    request = Request(method="DELETE", path=path, read=_nothing, about=about, gone=gone)
    return replace(request, proof=proof or request)


def _nothing(response: HttpResponse) -> None:
    """Read a response without a value. Arroyo sends no body; a gateway may send its login page."""
    if response.body.strip():
        raise ValueError("a body, although Arroyo sends none")


def escaped(value: str, argument: str) -> str:
    """Return an id as a single path segment.

    :raises ValueError: if it cannot be a valid id; names the argument.
    """
    return quote(check_id(value, argument), safe="")


def paging(limit: int | None, starting_after: str | None) -> dict[str, str]:
    """Return the query string of a paginated list.

    :raises ValueError: if ``limit`` is below 1.
    """
    if limit is not None:
        check_integer(limit, "limit")
    given = without_none(limit=limit, starting_after=starting_after)
    return {name: str(value) for name, value in given.items()}


def without_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None, as the body of a request."""
    return {name: value for name, value in fields.items() if value is not None}
