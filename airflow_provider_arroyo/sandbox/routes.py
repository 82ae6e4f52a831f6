"""Finds the call for a path and a method, or refuses it as a real server does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from .bodies import Shape
from .messages import Call, Output, Response

Handler: TypeAlias = Callable[[Call], Response | Output]
_ORGANIZATION = re.compile(r"^admin/organizations/[^/]+/")


@dataclass(frozen=True, slots=True)
class Route:
    """A call of the API.

    :param path: ``*`` stands for a part that names something.
    :param shape: what its body must look like; None: it takes none.
    """

    method: str
    path: str
    handler: Handler
    shape: Shape | None = None


class Routes:
    """The paths of a server.

    :param routes: in the order in which the ``allow`` header lists the methods of one path.
    :param has_organizations: all of them are below ``admin/organizations/{id}`` too.
    """

    def __init__(self, routes: list[Route], *, has_organizations: bool) -> None:
        self._has_organizations = has_organizations
        paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = paths.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        # A word of the API goes before a name.
        self._paths = [
            (re.compile(path.replace("*", "([^/]+)")), paths[path])
            for path in sorted(paths, key=lambda path: path.count("*"))
        ]

    def find(self, method: str, path: str) -> tuple[Route | None, tuple[str, ...], str]:
        """Return what a path below ``/api/v1/`` leads to.

        :returns: the call, or None; the parts of the path that name something, unescaped; the methods that are
            allowed there, ``""`` where there is no such path.
        """
        if self._has_organizations:
            path = _ORGANIZATION.sub("", path)
        for pattern, methods in self._paths:
            if match := pattern.fullmatch(path):
                ids = tuple(unquote(part) for part in match.groups())
                return methods.get(method), ids, ",".join(methods)
        return None, (), ""
