"""API calls, their routes and responses, independent of HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote

from .records import Job
from .sql import Evaluation

if TYPE_CHECKING:
    from .bodies import Shape

T = TypeVar("T")
_NO_PLAN = Evaluation(graph=None)
_encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def render(value: Any) -> bytes:
    """Return a value as JSON without blanks, as a real server writes it."""
    return _encode(value).encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class Call:
    """A request to the API.

    :param ids: the parts of its path that name something, unescaped, in their order.
    :param fields: what its body says, once it was read.
    :param plan: the plan of its SQL, if it has any.
    """

    ids: tuple[str, ...] = ()
    query: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    plan: Evaluation = _NO_PLAN


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the API.

    :param content_type: None: there is no body.
    :param output_of: the body is the output of this preview, a stream for as long as its job runs.
    """

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    output_of: Job | None = None


EMPTY = Response(200, b"", None)


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response with a value as JSON."""
    return Response(status, render(value))


def listing(items: Iterable[bytes], *, has_more: bool | None = None) -> Response:
    """Return rendered items as a list.

    :param has_more: for a paginated list, whether there are more; None: the list is not paginated.
    """
    tail = b"" if has_more is None else b',"hasMore":true' if has_more else b',"hasMore":false'
    return Response(body=b'{"data":[' + b",".join(items) + b"]" + tail + b"}")


class RefusedError(Exception):
    """A call that the API refuses.

    :param is_plain_text: the words are the whole body, not a field of JSON.
    """

    def __init__(self, status: int, text: str, *, is_plain_text: bool = False) -> None:
        super().__init__(text)
        self.response = json_response({"error": text}, status)
        if is_plain_text:
            self.response = Response(status, text.encode(), "text/plain; charset=utf-8")


def _number(text: str) -> int:
    digits = text[1:] if text.startswith("+") else text
    words = None
    if not text:
        words = "cannot parse integer from empty string"
    elif not (digits.isascii() and digits.isdecimal()):
        words = "invalid digit found in string"
    elif len(digits) > 10 or int(digits) >= 2**32:
        words = "number too large to fit in target type"
    if words is not None:
        raise RefusedError(400, f"Failed to deserialize query string: {words}", is_plain_text=True)
    return int(digits)


def page(call: Call, items: Sequence[T], key: Callable[[T], tuple[str, int]]) -> tuple[Sequence[T], bool]:
    """Return the page of a list that a call requests, and whether there are more items.

    :param key: the id and the date of an item; the page after an item holds those with an earlier date.
    :raises RefusedError: if the query string is invalid.
    """
    after, limit = None, 10
    for name, value in parse_qsl(call.query, keep_blank_values=True):
        if name == "starting_after":
            after = value
        elif name == "limit":
            limit = _number(value)
    if limit < 1:
        raise RefusedError(400, "Limit must be greater than 0")
    if after:
        date = next((key(item)[1] for item in items if key(item)[0] == after), None)
        items = [item for item in items if date is not None and key(item)[1] < date]
    return items[:limit], len(items) > limit


@dataclass(frozen=True, slots=True)
class Route:
    """A call of the API.

    :param path: ``*`` stands for a part that names something.
    :param shape: what its body must look like; None: it takes none.
    """

    method: str
    path: str
    handler: Callable[[Call], Response]
    shape: Shape | None = None


class Routes:
    """The paths of a server.

    :param routes: in the order in which the ``allow`` header lists the methods of one path.
    :param prefix: a regular expression for what comes before their paths.
    """

    def __init__(self, routes: list[Route], *, prefix: str) -> None:
        paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = paths.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        # Fixed paths come before those with names.
        self._paths = [
            (re.compile(prefix + path.replace("*", "([^/]+)")), paths[path])
            for path in sorted(paths, key=lambda path: path.count("*"))
        ]

    def find(self, method: str, path: str) -> tuple[Route | None, tuple[str, ...], str]:
        """Find the route for a method and a path.

        :returns: the route, or None; the parts of the path that name something, unescaped; the methods that are
            allowed, ``""`` if there is no such path.
        """
        for pattern, methods in self._paths:
            if match := pattern.fullmatch(path):
                ids = tuple(unquote(part) for part in match.groups())
                return methods.get(method), ids, ",".join(methods)
        return None, (), ""
