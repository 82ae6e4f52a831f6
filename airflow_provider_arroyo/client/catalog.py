"""Models and requests for what all pipelines of a server share: UDFs, connectors, connection tables, profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.checks import check_text
from airflow_provider_arroyo.client.lists import Listed, many, page
from airflow_provider_arroyo.client.reading import one
from airflow_provider_arroyo.client.request import (
    COMPILE_TIMEOUT_SECONDS,
    Request,
    delete,
    escaped,
    get,
    paging,
    without_none,
)
from airflow_provider_arroyo.client.wire import ApiModel, wire


@dataclass(frozen=True, slots=True)
class UdfValidation(ApiModel):
    """The result of validating a UDF."""

    errors: tuple[str, ...]
    udf_name: str | None = wire(is_strict=True, may_be_null=True, default=None)


@dataclass(frozen=True, slots=True)
class GlobalUdf(ApiModel):
    """A UDF that any pipeline of the server may use."""

    id: str
    name: str
    definition: str = wire(is_secret=True)
    prefix: str = ""
    language: str = wire(is_strict=True, default="")
    created_at_micros: int = wire("created_at", default=0)
    updated_at_micros: int = wire("updated_at", default=0)
    description: str | None = None
    dylib_url: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionProfile(ApiModel):
    """Connection settings that connection tables share."""

    id: str
    name: str
    connector: str
    config: Mapping[str, Any] = wire(is_secret=True, is_strict=True, may_be_null=True, default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionTable(ApiModel):
    """A source or sink that any pipeline may use.

    :param id: its id.
    :param name: its name in SQL.
    :param connector: id of its connector.
    :param table_type: ``source``, ``sink`` or ``lookup``.
    :param config: settings of the connector, as sent by the server.
    :param schema: as sent by the server.
    :param consumers: how many pipelines use it.
    :param created_at_micros: when it was created.
    :param connection_profile: its connection profile; None if it has none.
    """

    id: str
    name: str
    connector: str
    table_type: str
    config: Mapping[str, Any] = wire(is_secret=True, is_strict=True, may_be_null=True, default_factory=dict)
    schema: Mapping[str, Any] = wire(is_strict=True, may_be_null=True, default_factory=dict)
    consumers: int = wire(is_strict=True, default=0)
    created_at_micros: int = wire("created_at", default=0)
    connection_profile: ConnectionProfile | None = wire(is_strict=True, may_be_null=True, default=None)


@dataclass(frozen=True, slots=True)
class Connector(ApiModel):
    """A kind of source or sink that the server supports."""

    id: str
    name: str
    source: bool = wire(is_strict=True, default=False)
    sink: bool = wire(is_strict=True, default=False)
    description: str = ""


# -- user-defined functions of the whole server --------------------------------------------------------------------


def list_udfs() -> Request[Listed[GlobalUdf]]:
    """List the UDFs that every pipeline may use."""
    return get("/udfs", many(GlobalUdf))


def create_udf(
    *, prefix: str, definition: str, language: str | None = None, description: str | None = None
) -> Request[GlobalUdf]:
    """Create a UDF for every pipeline. Arroyo compiles a Rust UDF before it responds, which takes over half a minute.

    :param prefix: folder in which the console shows it, such as ``/``.
    :param definition: its source.
    :param language: ``rust`` or ``python``; default None leaves it to the server, which assumes Rust.
    :param description: shown in the console; default empty.
    """
    return Request(
        method="POST",
        path="/udfs",
        read=one(GlobalUdf.from_api),
        body=without_none(
            prefix=prefix,
            definition=check_text(definition, "definition"),
            language=language,
            description=description,
        ),
        is_idempotent=False,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS,
    )


def validate_udf(definition: str, *, language: str | None = None) -> Request[UdfValidation]:
    """Validate a UDF without creating it.

    :param definition: its source.
    :param language: ``rust`` or ``python``; default None leaves it to the server, which assumes Rust.
    """
    return Request(
        method="POST",
        path="/udfs/validate",
        read=one(UdfValidation.from_api),
        body=without_none(definition=definition, language=language),
        changes=False,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS,
    )


def delete_udf(udf_id: str) -> Request[None]:
    """Delete a UDF."""
    return delete(f"/udfs/{escaped(udf_id, 'udf_id')}", about=f"UDF {udf_id!r}", gone=("UDF not found",))


# -- connections ---------------------------------------------------------------------------------------------------


def list_connectors() -> Request[Listed[Connector]]:
    """List the kinds of source and sink that the server supports."""
    return get("/connectors", many(Connector))


def list_connection_tables(
    *, limit: int | None = None, starting_after: str | None = None
) -> Request[Listed[ConnectionTable]]:
    """List a page of the connection tables.

    :param limit: tables on the page, 1 or more; default None leaves it to the server.
    :param starting_after: id of the last table of the previous page; default None: the first page.
    """
    return get("/connection_tables", page(ConnectionTable), params=paging(limit, starting_after))


def create_connection_table(
    *,
    name: str,
    connector: str,
    config: Mapping[str, Any],
    connection_profile_id: str | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Request[ConnectionTable]:
    """Create a connection table that every pipeline may use.

    :param name: its name in SQL.
    :param connector: id of the connector.
    :param config: settings, as the connector expects them.
    :param connection_profile_id: the profile, if the connector needs one; default None.
    :param schema: fields and format, if the connector needs them; default None.
    """
    return Request(
        method="POST",
        path="/connection_tables",
        read=one(ConnectionTable.from_api, name=name),
        body=without_none(
            name=check_text(name, "name"),
            connector=check_text(connector, "connector"),
            config=config,
            connection_profile_id=connection_profile_id,
            schema=schema,
        ),
        is_idempotent=False,
        about=f"a connection table {name!r}",
    )


def delete_connection_table(table_id: str) -> Request[None]:
    """Delete a connection table; Arroyo does so even while pipelines use it."""
    return delete(
        f"/connection_tables/{escaped(table_id, 'table_id')}",
        about=f"connection table {table_id!r}",
        gone=("Connection table not found",),
    )


def list_connection_profiles() -> Request[Listed[ConnectionProfile]]:
    """List the profiles that connection tables share."""
    return get("/connection_profiles", many(ConnectionProfile))


def create_connection_profile(
    *, name: str, connector: str, config: Mapping[str, Any]
) -> Request[ConnectionProfile]:
    """Create a connection profile.

    :param name: its name.
    :param connector: id of the connector.
    :param config: settings, as the connector expects them.
    """
    return Request(
        method="POST",
        path="/connection_profiles",
        read=one(ConnectionProfile.from_api, name=name),
        body=without_none(
            name=check_text(name, "name"), connector=check_text(connector, "connector"), config=config
        ),
        is_idempotent=False,
        about=f"a connection profile {name!r}",
    )


def delete_connection_profile(profile_id: str) -> Request[None]:
    """Delete a connection profile."""
    return delete(
        f"/connection_profiles/{escaped(profile_id, 'profile_id')}",
        about=f"connection profile {profile_id!r}",
        gone=("Connection profile not found",),
    )
