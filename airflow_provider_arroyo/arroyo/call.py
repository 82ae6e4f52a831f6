"""A call of Arroyo's API as a value, and the answer to one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

T_co = TypeVar("T_co", covariant=True)


def http_date(text: str | None) -> datetime | None:
    """Return the time that an HTTP header tells, in UTC; None where it tells none."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, before it is judged.

    :param status: the HTTP status.
    :param headers: with names in lower case.
    :param body: decompressed.
    :param url: what was asked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def content_type(self) -> str:
        """The media type, without parameters; empty where none is told."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def server_date(self) -> datetime | None:
        """When it was sent, by the server's own clock."""
        return http_date(self.headers.get("date"))


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T_co]):
    """The value of an answer, with what came beside it.

    :param headers: with names in lower case.
    :param retries: how often it was tried again before it was answered.
    """

    value: T_co
    headers: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0

    @property
    def server_date(self) -> datetime | None:
        """When the answer was sent, by the server's own clock; None where it did not say."""
        return http_date(self.headers.get("date"))


class Repeat(Enum):
    """When a call may be made again after it failed."""

    ALWAYS = "always"
    """It reads, or sets a wanted state: twice does what once does."""

    UNSENT_ONLY = "unsent only"
    """Each time does something: again only if the server cannot have seen it, or answered 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T_co]):
    """One call of the API.

    :param method: the HTTP method.
    :param path: below ``/api/v1``, beginning with a slash, ids escaped.
    :param read: makes the value of an answer that says yes; raises ``KeyError``, ``TypeError``,
        ``ValueError`` or ``AttributeError`` where the answer has another shape.
    :param params: the query string.
    :param body: sent as JSON; None sends no body.
    :param repeat: whether it may be made again.
    :param changes: whether it can change anything on the server.
    :param subject: what it is about, for messages: ``pipeline 'pl_1'``.
    :param carries_sql: whether a refusal may be about the SQL in it.
    :param min_read_timeout_seconds: how long the server may take at least, for calls that are known to be
        slow; the client's own timeout counts where it is longer.
    """

    method: str
    path: str
    read: Callable[[Answer], T_co]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    repeat: Repeat = Repeat.ALWAYS
    changes: bool = True
    subject: str = ""
    carries_sql: bool = False
    min_read_timeout_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """The path with its query string, escaped, the same from every client."""
        return f"{self.path}?{urlencode(self.params, quote_via=quote)}" if self.params else self.path

    def content(self) -> bytes | None:
        """Return the body's bytes, the same from every client.

        :raises ValueError: where the body cannot be written as JSON in UTF-8.
        """
        if self.body is None:
            return None
        try:
            # Not escaped to ASCII, which would swell text of other scripts up to six times.
            return json.dumps(self.body, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as err:
            sign = err.object[err.start : err.start + 1]
            raise ValueError(f"{self}: the text holds {sign!r}, which is not a valid character") from err
        except (TypeError, ValueError) as err:
            raise ValueError(f"{self}: the body cannot be written as JSON: {err}") from err
