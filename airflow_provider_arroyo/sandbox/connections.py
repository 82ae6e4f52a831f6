"""The calls about connectors, connection tables and profiles, and global UDFs; both versions do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import bodies, catalog
from .bodies import TYPE
from .engine import Engine
from .messages import EMPTY, Call, RefusedError, Response, json_response, listing, page, render
from .records import new_id
from .routes import Route
from .store import Store


class Connections:
    """Responds to those calls as a real server does."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    def routes(self) -> list[Route]:
        """Return the calls."""
        return [
            Route("GET", "connectors", self._connectors),
            Route("POST", "connection_profiles", self._create_profile, bodies.PROFILE),
            Route("GET", "connection_profiles", self._profiles),
            Route("DELETE", "connection_profiles/*", self._delete_profile),
            Route("GET", "connection_tables", self._tables),
            Route("POST", "connection_tables", self._create_table, bodies.TABLE),
            Route("DELETE", "connection_tables/*", self._delete_table),
            Route("POST", "udfs", self._create_udf, bodies.UDF),
            Route("GET", "udfs", self._udfs),
            Route("POST", "udfs/validate", self._validate_udf, bodies.UDF_VALIDATE),
            Route("DELETE", "udfs/*", self._delete_udf),
        ]

    def _connectors(self, call: Call) -> Response:
        return listing(map(render, catalog.connectors()))

    # -- tables -------------------------------------------------------------------------------------------

    def _tables(self, call: Call) -> Response:
        newest_first = sorted(self._store.tables.values(), key=lambda item: -int(item["created_at"]))
        found, more = page(call, newest_first, lambda item: (item["id"], item["created_at"]))
        shown = (render(item | {"consumers": self._store.consumers(item["id"])}) for item in found)
        return listing(shown, has_more=more)

    def _create_table(self, call: Call) -> Response:
        table = self._checked_table(call.fields)
        _refuse_taken("connection_table", table["name"], self._store.tables)
        self._store.tables[table["id"]] = table
        return json_response(table)

    def _checked_table(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        connector, config = fields["connector"], fields.get("config")
        if connector not in catalog.NAMES:
            raise RefusedError(500, "Something went wrong")
        if problem := catalog.config_problem(connector, config):
            raise RefusedError(400, problem)
        if not fields["name"]:
            raise RefusedError(400, "Field name must be set")
        try:
            schema = catalog.table_schema(connector, fields.get("schema"))
        except (AttributeError, TypeError) as error:
            raise RefusedError(422, f"{TYPE}schema: {error}") from error
        profile = None
        if profile_id := fields.get("connection_profile_id"):
            profile = self._store.profiles.get(profile_id)
            if profile is None:
                raise RefusedError(400, f"Could not find connection profile with id '{profile_id}'")
        return {
            "id": new_id(self._engine.rng, "ct"),
            "name": fields["name"],
            "created_at": self._store.dated(self._engine.now),
            "connector": connector,
            "connection_profile": profile,
            "table_type": catalog.table_type(connector, config or {}),
            "config": config,
            "schema": schema,
            "consumers": 0,
        }

    def _delete_table(self, call: Call) -> Response:
        # One that is in use goes as well.
        if self._store.tables.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection table not found")
        return EMPTY

    # -- profiles -----------------------------------------------------------------------------------------

    def _profiles(self, call: Call) -> Response:
        return listing(map(render, self._store.profiles.values()))

    def _create_profile(self, call: Call) -> Response:
        name, connector, config = (call.fields.get(key) for key in ("name", "connector", "config"))
        if connector not in catalog.NAMES:
            raise RefusedError(400, f"Unknown connector '{connector}'")
        _refuse_taken("connection_profile", str(name), self._store.profiles)
        profile = {
            "id": new_id(self._engine.rng, "cp"),
            "name": name,
            "connector": connector,
            "config": config,
            "description": catalog.profile_description(config),
        }
        self._store.profiles[profile["id"]] = profile
        return json_response(profile)

    def _delete_profile(self, call: Call) -> Response:
        if self._store.profiles.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection profile not found")
        return EMPTY

    # -- UDFs ---------------------------------------------------------------------------------------------

    def _udfs(self, call: Call) -> Response:
        return listing(map(render, self._store.udfs.values()))

    def _create_udf(self, call: Call) -> Response:
        # At once, where a real server compiles Rust for half a minute.
        fields = call.fields
        language = fields.get("language", "rust")
        name = catalog.udf_name(fields["definition"], language)
        if name is None:
            raise RefusedError(400, f"Invalid UDF: {catalog.UDF_PROBLEM[language]}")
        _refuse_taken("global_udf", name, self._store.udfs)
        now = self._store.dated(self._engine.now)
        udf = {
            "id": new_id(self._engine.rng, "udf"),
            "prefix": fields["prefix"],
            "name": name,
            "language": language,
            "created_at": now,
            "updated_at": now,
            "definition": fields["definition"],
            "description": fields.get("description"),
            "dylib_url": None,
        }
        self._store.udfs[udf["id"]] = udf
        return json_response(udf)

    def _validate_udf(self, call: Call) -> Response:
        language = call.fields.get("language", "rust")
        name = catalog.udf_name(call.fields["definition"], language)
        errors = [] if name is not None else [catalog.UDF_PROBLEM[language]]
        return json_response({"udf_name": name, "errors": errors})

    def _delete_udf(self, call: Call) -> Response:
        if self._store.udfs.pop(call.ids[0], None) is None:
            raise RefusedError(404, "UDF not found")
        return EMPTY


def _refuse_taken(kind: str, name: str, records: Mapping[str, Mapping[str, Any]]) -> None:
    if any(item["name"] == name for item in records.values()):
        raise RefusedError(400, f"{kind} with that name already exists")
