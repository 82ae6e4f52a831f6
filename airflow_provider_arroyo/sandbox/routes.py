"""Which path and method is which call: found, missing, or not allowed, as a real server says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

from .answers import render
from .api import Api
from .calls import Answer, Call, Output

Handler: TypeAlias = Callable[[Call], Answer | Output]

PREFIX = "/api/v1/"
_ADMIN = ("admin", "organizations")


@dataclass(slots=True)
class _Node:
    """One part of a path: what may follow it, and what can be done there."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    named: _Node | None = None
    methods: dict[str, Handler] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to.

    :param handler: None: there is no such path, or not with this method.
    :param ids: the parts of the path that name something, unescaped.
    :param allowed: the methods, where the path is there.
    """

    handler: Handler | None
    ids: tuple[str, ...] = ()
    allowed: str | None = None


class Routes:
    """The paths of one version.

    :param api: who answers.
    """

    def __init__(self, api: Api) -> None:
        self._root = _Node()
        self._organizations = api.version == "0.16"
        job = "pipelines/*/jobs/*"
        # The order of the methods of one path is that of the ``allow`` header.
        for method, path, handler in (
            ("GET", "ping", api.ping),
            ("GET", "connectors", api.connections.connectors),
            ("POST", "connection_profiles", api.connections.create_profile),
            ("GET", "connection_profiles", api.connections.profiles),
            ("POST", "connection_profiles/test", api.connections.test_profile),
            ("DELETE", "connection_profiles/*", api.connections.delete_profile),
            ("GET", "connection_profiles/*/autocomplete", api.connections.autocomplete),
            ("GET", "connection_tables", api.connections.tables),
            ("POST", "connection_tables", api.connections.create_table),
            ("POST", "connection_tables/test", api.connections.test_table),
            ("POST", "connection_tables/schemas/test", api.connections.test_schema),
            ("DELETE", "connection_tables/*", api.connections.delete_table),
            ("POST", "udfs", api.connections.create_udf),
            ("GET", "udfs", api.connections.udfs),
            ("POST", "udfs/validate", api.connections.validate_udf),
            ("DELETE", "udfs/*", api.connections.delete_udf),
            ("POST", "pipelines", api.create),
            ("GET", "pipelines", api.pipelines),
            ("POST", "pipelines/preview", api.preview),
            ("POST", "pipelines/validate_query", api.validate),
            ("GET", "jobs", api.all_jobs),
            ("PATCH", "pipelines/*", api.patch),
            ("GET", "pipelines/*", api.get),
            ("DELETE", "pipelines/*", api.delete),
            ("POST", "pipelines/*/restart", api.restart),
            ("GET", "pipelines/*/jobs", api.jobs),
            ("GET", f"{job}/errors", api.errors),
            ("GET", f"{job}/checkpoints", api.checkpoints),
            ("GET", f"{job}/checkpoints/*/operator_checkpoint_groups", api.checkpoint_groups),
            ("GET", f"{job}/operator_metric_groups", api.metrics),
            ("GET", f"{job}/output", api.output),
        ):
            self._add(method, path, handler)
        if api.version == "0.16":
            self._add("PUT", "pipelines/*", api.put)
        self._add("GET", "api-docs/openapi.json", self._describe)

    def _add(self, method: str, path: str, handler: Handler) -> None:
        node = self._root
        for part in path.split("/"):
            if part == "*":
                node.named = node = node.named or _Node()
            else:
                node = node.fixed.setdefault(part, _Node())
        node.methods[method] = handler
        if method == "GET":
            node.methods["HEAD"] = handler

    def _describe(self, call: Call) -> Answer:
        """``GET /api-docs/openapi.json``: the paths and methods; a real server describes the bodies too."""
        paths: dict[str, dict[str, Any]] = {}

        def walk(node: _Node, path: str) -> None:
            if node.methods:
                listed = [method.lower() for method in node.methods if method != "HEAD"]
                paths[path] = {method: {"responses": {"200": {"description": ""}}} for method in listed}
            for part, following in node.fixed.items():
                walk(following, f"{path}/{part}")
            if node.named is not None:
                walk(node.named, f"{path}/{{id{path.count('{') or ''}}}")

        walk(self._root, "/v1")
        about = {"title": "Arroyo REST API", "version": "1.0.0"}
        return Answer(body=render({"openapi": "3.0.3", "info": about, "paths": paths}))

    def find(self, method: str, path: str) -> Found:
        """Return what a path below ``/api/v1/`` leads to."""
        parts = path.split("/")
        if self._organizations and tuple(parts[:2]) == _ADMIN:
            parts = parts[3:]
        node: _Node | None = self._root
        ids = []
        for part in parts:
            if node is None:
                break
            following = node.fixed.get(part)
            if following is None and part:
                following = node.named
                ids.append(part if "%" not in part else unquote(part))
            node = following
        if node is None or not node.methods:
            return Found(None)
        return Found(node.methods.get(method), tuple(ids), ",".join(node.methods))
