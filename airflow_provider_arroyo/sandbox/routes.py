"""Which call a path and a method are: found, missing, or not allowed, as a real server says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote

from .bodies import Shape
from .messages import Call, Output, Response

Handler: TypeAlias = Callable[[Call], Response | Output]


@dataclass(frozen=True, slots=True)
class Route:
    """A call of the API.

    :param path: its parts; ``*`` stands for one that names something.
    :param shape: what its body must look like; None: it takes none.
    :param plans: its body has SQL, which is to be planned.
    """

    method: str
    path: str
    handler: Handler
    shape: Shape | None = None
    plans: bool = False


@dataclass(slots=True)
class _Node:
    """One part of a path: what may follow it, and what can be done there."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    named: _Node | None = None
    routes: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to.

    :param route: None: there is no such path, or not with this method.
    :param ids: the parts of the path that name something, unescaped.
    :param allowed: the methods, where the path is there.
    """

    route: Route | None
    ids: tuple[str, ...] = ()
    allowed: str | None = None


class Routes:
    """The paths of a server.

    :param routes: in the order in which the ``allow`` header lists the methods of one path.
    :param has_organizations: all of them are below ``admin/organizations/{id}`` too.
    """

    def __init__(self, routes: list[Route], *, has_organizations: bool) -> None:
        self._root = _Node()
        self._has_organizations = has_organizations
        for route in routes:
            node = self._root
            for part in route.path.split("/"):
                if part == "*":
                    node.named = node.named or _Node()
                    node = node.named
                else:
                    node = node.fixed.setdefault(part, _Node())
            node.routes[route.method] = route
            if route.method == "GET":
                node.routes["HEAD"] = route

    def find(self, method: str, path: str) -> Found:
        """Return what a path below ``/api/v1/`` leads to."""
        parts = path.split("/")
        if self._has_organizations and parts[:2] == ["admin", "organizations"]:
            parts = parts[3:]
        node = self._root
        ids = []
        for part in parts:
            following = node.fixed.get(part)
            if following is None and part:
                following = node.named
                ids.append(unquote(part))
            if following is None:
                return Found(None)
            node = following
        if not node.routes:
            return Found(None)
        return Found(node.routes.get(method), tuple(ids), ",".join(node.routes))

    def listed(self) -> Iterator[tuple[str, list[str]]]:
        """Return each path, with ``{id}`` for what names something, and its methods."""
        yield from self._walk(self._root, "")

    def _walk(self, node: _Node, path: str) -> Iterator[tuple[str, list[str]]]:
        if node.routes:
            yield path, [method for method in node.routes if method != "HEAD"]
        for part, following in node.fixed.items():
            yield from self._walk(following, f"{path}/{part}")
        if node.named is not None:
            yield from self._walk(node.named, f"{path}/{{id{path.count('{') or ''}}}")
