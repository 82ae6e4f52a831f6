"""The requests that the sandbox received, for tests. It stores no credentials."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from .http_server import HttpRequest

_SECRET = re.compile("auth|token|key|secret|cookie|password|signature", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(f"([^&=]*(?:{_SECRET.pattern})[^&=]*)=[^&]*", re.IGNORECASE)


@dataclass(slots=True)
class Request:
    """A request.

    :param path: without the query string, as it was sent.
    :param headers: by their names in lower case; credentials are ``***``.
    :param time_micros: when it was received, by the server's clock.
    :param status: of its response; None: there is none (yet).
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    time_micros: int
    status: int | None = None

    @property
    def json(self) -> Any:
        """The body, parsed as JSON; None: it is empty."""
        return json.loads(self.body) if self.body else None


@dataclass(slots=True)
class RequestLog:
    """The requests to ``/api``, the oldest first.

    :param size: how many are kept; older ones are dropped, but count in ``total``.
    :param size_bytes: the maximum size of their bodies together; older ones are dropped above it.
    :param secrets: texts that are replaced by ``***`` everywhere except in bodies.
    """

    size: int = 10_000
    size_bytes: int = 64 * 1024 * 1024
    secrets: Sequence[str] = ()
    total: int = 0
    _kept: deque[Request] = field(default_factory=deque)
    _bytes: int = 0

    def add(self, received: HttpRequest, time_micros: int) -> Request:
        """Keep a request, without its credentials."""
        headers = {
            name: "***" if _SECRET.search(name) else self.masked(value)
            for name, value in received.headers.items()
        }
        path = self.masked(received.path)
        query = self.masked(_SECRET_PARAMETER.sub(r"\1=***", received.query))
        request = Request(received.method, path, query, headers, received.body or b"", time_micros)
        self.total += 1
        self._kept.append(request)
        self._bytes += len(request.body)
        while len(self._kept) > self.size or (self._bytes > self.size_bytes and len(self._kept) > 1):
            self._bytes -= len(self._kept.popleft().body)
        return request

    def masked(self, text: str) -> str:
        """Return a text with ``***`` for the secrets in it."""
        for secret in self.secrets:
            for written in (secret, quote(secret, safe="")):
                text = re.sub(rf"(?<!\w){re.escape(written)}(?!\w)", "***", text)
        return text

    def clear(self) -> None:
        """Forget all requests."""
        self._kept.clear()
        self._bytes = self.total = 0

    def find(self, method: str | None = None, path: str | None = None) -> list[Request]:
        """Return the kept requests with this method and a path like this pattern.

        :param method: such as ``"POST"``; None: any.
        :param path: a pattern such as ``"*/pipelines/*/jobs"``, where ``*`` stands for anything, slashes
            included; None: any.
        """
        wanted = method and method.upper()
        found = [one for one in self if wanted in (None, one.method)]
        return [one for one in found if path is None or fnmatchcase(one.path, path)]

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """Return how many of the kept requests have this method and a path like this pattern."""
        return len(self.find(method, path))

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._kept))

    def __len__(self) -> int:
        return len(self._kept)
