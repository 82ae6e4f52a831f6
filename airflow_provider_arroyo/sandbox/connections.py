"""The calls about connectors, connection tables and profiles, and global UDFs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from . import answers, bodies, catalog
from .calls import EMPTY, Answer, Call, RefusedError, page, read_body
from .engine import Engine, new_id
from .store import Store


class Connections:
    """Answers those calls as a real server does; both versions do alike."""

    def __init__(self, *, engine: Engine, store: Store, rng: random.Random) -> None:
        self._engine = engine
        self._store = store
        self._rng = rng

    def connectors(self, call: Call) -> Answer:
        """``GET /connectors``."""
        return Answer(body=answers.collection(map(answers.render, catalog.connectors())))

    def tables(self, call: Call) -> Answer:
        """``GET /connection_tables``."""
        newest_first = sorted(self._store.tables.values(), key=lambda item: -int(item["created_at"]))
        found, more = page(call, newest_first, lambda item: (item["id"], item["created_at"]))
        shown = (answers.render(item | {"consumers": self._store.consumers(item["id"])}) for item in found)
        return Answer(body=answers.collection(shown, has_more=more))

    def create_table(self, call: Call) -> Answer:
        """``POST /connection_tables``."""
        body = read_body(call, bodies.TABLE)
        table = self._checked_table(body)
        if any(item["name"] == table["name"] for item in self._store.tables.values()):
            raise RefusedError(400, "connection_table with that name already exists")
        self._store.tables[table["id"]] = table
        return Answer(body=answers.render(table))

    def _checked_table(self, body: Mapping[str, Any]) -> dict[str, Any]:
        connector, config = body["connector"], body.get("config")
        if connector not in catalog.NAMES:
            raise RefusedError(500, "Something went wrong")
        if problem := catalog.config_problem(connector, config):
            raise RefusedError(400, problem)
        if not body["name"]:
            raise RefusedError(400, "Field name must be set")
        profile = None
        if profile_id := body.get("connection_profile_id"):
            profile = self._store.profiles.get(profile_id)
            if profile is None:
                raise RefusedError(400, f"Could not find connection profile with id '{profile_id}'")
        return {
            "id": new_id(self._rng, "ct"),
            "name": body["name"],
            "created_at": self._store.dated(self._engine.now),
            "connector": connector,
            "connection_profile": profile,
            "table_type": catalog.table_type(connector, config or {}),
            "config": config,
            "schema": catalog.table_schema(connector, body.get("schema")),
            "consumers": 0,
        }

    def test_table(self, call: Call) -> Answer:
        """``POST /connection_tables/test``: server-sent events on real servers too."""
        self._checked_table(read_body(call, bodies.TABLE))
        message = {"error": False, "done": True, "message": "Successfully validated connection"}
        return Answer(body=b"data: " + answers.render(message) + b"\n\n", content_type="text/event-stream")

    def test_schema(self, call: Call) -> Answer:
        """``POST /connection_tables/schemas/test``."""
        return EMPTY

    def delete_table(self, call: Call) -> Answer:
        """``DELETE /connection_tables/{id}``: one in use goes as well."""
        if self._store.tables.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection table not found")
        return EMPTY

    def profiles(self, call: Call) -> Answer:
        """``GET /connection_profiles``."""
        return Answer(body=answers.collection(map(answers.render, self._store.profiles.values())))

    def create_profile(self, call: Call) -> Answer:
        """``POST /connection_profiles``."""
        body = read_body(call, bodies.PROFILE)
        if body["connector"] not in catalog.NAMES:
            raise RefusedError(400, f"Unknown connector '{body['connector']}'")
        if any(item["name"] == body["name"] for item in self._store.profiles.values()):
            raise RefusedError(400, "connection_profile with that name already exists")
        profile = {
            "id": new_id(self._rng, "cp"),
            "name": body["name"],
            "connector": body["connector"],
            "config": body.get("config"),
            "description": catalog.profile_description(body["connector"], body.get("config")),
        }
        self._store.profiles[profile["id"]] = profile
        return Answer(body=answers.render(profile))

    def test_profile(self, call: Call) -> Answer:
        """``POST /connection_profiles/test``."""
        read_body(call, bodies.PROFILE)
        message = {"error": False, "done": True, "message": "Successfully validated connection"}
        return Answer(body=answers.render(message))

    def autocomplete(self, call: Call) -> Answer:
        """``GET /connection_profiles/{id}/autocomplete``."""
        if call.ids[0] not in self._store.profiles:
            raise RefusedError(404, "Connection profile not found")
        return Answer(body=answers.render({"values": {}}))

    def delete_profile(self, call: Call) -> Answer:
        """``DELETE /connection_profiles/{id}``."""
        if self._store.profiles.pop(call.ids[0], None) is None:
            raise RefusedError(404, "Connection profile not found")
        return EMPTY

    def udfs(self, call: Call) -> Answer:
        """``GET /udfs``."""
        return Answer(body=answers.collection(map(answers.render, self._store.udfs.values())))

    def create_udf(self, call: Call) -> Answer:
        """``POST /udfs``: at once, where a real server compiles Rust for half a minute."""
        body = read_body(call, bodies.UDF)
        language = body.get("language", "rust")
        if problem := catalog.udf_problem(body["definition"], language):
            raise RefusedError(400, f"Invalid UDF: {problem}")
        name = catalog.udf_name(body["definition"], language)
        if any(udf["name"] == name for udf in self._store.udfs.values()):
            raise RefusedError(400, "global_udf with that name already exists")
        now = self._store.dated(self._engine.now)
        udf = {
            "id": new_id(self._rng, "udf"),
            "prefix": body["prefix"],
            "name": name,
            "language": language,
            "created_at": now,
            "updated_at": now,
            "definition": body["definition"],
            "description": body.get("description"),
            "dylib_url": None,
        }
        self._store.udfs[udf["id"]] = udf
        return Answer(body=answers.render(udf))

    def validate_udf(self, call: Call) -> Answer:
        """``POST /udfs/validate``."""
        body = read_body(call, bodies.UDF_VALIDATE)
        language = body.get("language", "rust")
        problem = catalog.udf_problem(body["definition"], language)
        name = catalog.udf_name(body["definition"], language)
        return Answer(body=answers.render({"udf_name": name, "errors": [problem] if problem else []}))

    def delete_udf(self, call: Call) -> Answer:
        """``DELETE /udfs/{id}``."""
        if self._store.udfs.pop(call.ids[0], None) is None:
            raise RefusedError(404, "UDF not found")
        return EMPTY
