"""The calls for what every pipeline of a server may use: functions, connectors, connection tables and profiles.

All of them are in ``api.py``, too, which is the place to import them from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_arroyo.arroyo.call import Call, Repeat
from airflow_provider_arroyo.arroyo.call_parts import (
    COMPILE_TIMEOUT_SECONDS,
    delete,
    escaped,
    filled,
    get,
    paging,
)
from airflow_provider_arroyo.arroyo.details import (
    ConnectionProfile,
    ConnectionTable,
    Connector,
    GlobalUdf,
    Page,
    UdfValidation,
)
from airflow_provider_arroyo.arroyo.reading import many, one, page
from airflow_provider_arroyo.arroyo.spec import check_text

# -- user-defined functions of the whole server --------------------------------------------------------------------


def list_udfs() -> Call[tuple[GlobalUdf, ...]]:
    """Ask for the functions that every pipeline may use."""
    return get("/udfs", many(GlobalUdf.from_api))


def create_udf(
    *, prefix: str, definition: str, language: str | None = None, description: str | None = None
) -> Call[GlobalUdf]:
    """Make a function for every pipeline. One in Rust is compiled meanwhile, which takes over half a minute.

    :param prefix: folder under which the console shows it, such as ``/``.
    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which takes it for Rust.
    :param description: shown in the console.
    """
    return Call(
        method="POST",
        path="/udfs",
        read=one(GlobalUdf.from_api),
        body=filled(
            prefix=prefix,
            definition=check_text(definition, "definition"),
            language=language,
            description=description,
        ),
        repeat=Repeat.UNSENT_ONLY,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS,
    )


def validate_udf(definition: str, *, language: str | None = None) -> Call[UdfValidation]:
    """Ask what Arroyo makes of a function.

    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which takes it for Rust.
    """
    return Call(
        method="POST",
        path="/udfs/validate",
        read=one(UdfValidation.from_api),
        body=filled(definition=definition, language=language),
        changes=False,
        min_read_timeout_seconds=COMPILE_TIMEOUT_SECONDS,
    )


def delete_udf(udf_id: str) -> Call[None]:
    """Delete a function of the whole server."""
    return delete(f"/udfs/{escaped(udf_id, 'udf_id')}", subject=f"UDF {udf_id!r}")


# -- connections ---------------------------------------------------------------------------------------------------


def list_connectors() -> Call[tuple[Connector, ...]]:
    """Ask which kinds of source and sink the server knows."""
    return get("/connectors", many(Connector.from_api))


def list_connection_tables(
    *, limit: int | None = None, starting_after: str | None = None
) -> Call[Page[ConnectionTable]]:
    """Ask for a page of the tables that were made apart from any pipeline.

    :param limit: tables on the page, 1 or more; None leaves it to the server.
    :param starting_after: id of the last table of the page before.
    """
    return get("/connection_tables", page(ConnectionTable.from_api), params=paging(limit, starting_after))


def create_connection_table(
    *,
    name: str,
    connector: str,
    config: Mapping[str, Any],
    connection_profile_id: str | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Call[ConnectionTable]:
    """Make a table that every pipeline may use.

    :param name: what SQL calls it.
    :param connector: id of the connector.
    :param config: as the connector wants it.
    :param connection_profile_id: where the connector finds its system, if it needs that.
    :param schema: fields and format, if the connector needs them.
    """
    return Call(
        method="POST",
        path="/connection_tables",
        read=one(ConnectionTable.from_api),
        body=filled(
            name=check_text(name, "name"),
            connector=check_text(connector, "connector"),
            config=config,
            connection_profile_id=connection_profile_id,
            schema=schema,
        ),
        repeat=Repeat.UNSENT_ONLY,
        subject=f"a connection table {name!r}",
    )


def delete_connection_table(table_id: str) -> Call[None]:
    """Delete a table; Arroyo does so also while pipelines use it."""
    return delete(
        f"/connection_tables/{escaped(table_id, 'table_id')}", subject=f"connection table {table_id!r}"
    )


def list_connection_profiles() -> Call[tuple[ConnectionProfile, ...]]:
    """Ask for the profiles that connection tables share."""
    return get("/connection_profiles", many(ConnectionProfile.from_api))


def create_connection_profile(
    *, name: str, connector: str, config: Mapping[str, Any]
) -> Call[ConnectionProfile]:
    """Make a profile for connection tables.

    :param name: what people call it.
    :param connector: id of the connector.
    :param config: as the connector wants it.
    """
    return Call(
        method="POST",
        path="/connection_profiles",
        read=one(ConnectionProfile.from_api),
        body=filled(
            name=check_text(name, "name"), connector=check_text(connector, "connector"), config=config
        ),
        repeat=Repeat.UNSENT_ONLY,
        subject=f"a connection profile {name!r}",
    )


def delete_connection_profile(profile_id: str) -> Call[None]:
    """Delete a profile."""
    return delete(
        f"/connection_profiles/{escaped(profile_id, 'profile_id')}",
        subject=f"connection profile {profile_id!r}",
    )
