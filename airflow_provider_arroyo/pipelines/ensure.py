"""Creates connection profiles, connection tables and UDFs if they are missing; otherwise compares them.

Arroyo's API cannot change them, only delete and create them, even while pipelines use them. So an existing one is not
touched, and its differences are reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_arroyo.client.body_secrets import code_secret_values
from airflow_provider_arroyo.client.catalog import ConnectionProfile, ConnectionTable, GlobalUdf
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.lists import all_of, with_name
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.client.secret_names import MASK, is_secret_name
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.exceptions import ArroyoConflictError, ArroyoError
from airflow_provider_arroyo.text import shorten

T = TypeVar("T", ConnectionProfile, ConnectionTable, GlobalUdf)

_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """What exists on the server now.

    :param id: its id.
    :param name: its name.
    :param is_created: whether this call created it.
    :param differences: how it differs from the wanted one, one line each, without secrets; empty if it does not.
    :param used_by: what uses it, as far as the API tells; empty if nothing does, or nothing differs.
    """

    id: str
    name: str
    is_created: bool
    differences: tuple[str, ...] = ()
    used_by: str = ""

    @property
    def report(self) -> str:
        """The differences, and what uses it, as further lines of a message."""
        lines = "".join(f"\n  {line}" for line in self.differences)
        return f"{lines}\nIt is used by {self.used_by}." if self.used_by else lines


def ensure_connection_profile(
    client: ArroyoClient, *, name: str, connector: str, config: Mapping[str, Any]
) -> Ensured:
    """Create a connection profile unless there is one of that name.

    :param client: sends the requests.
    :param name: its name.
    :param connector: id of the connector, such as ``kafka``.
    :param config: settings, as the connector expects them.
    """
    return _ensure(
        lambda: _profile(client, name),
        lambda: client.create_connection_profile(name=name, connector=connector, config=config),
        lambda found: differences_of({"connector": connector, "config": config}, _fields(found)),
    )


def ensure_connection_table(
    client: ArroyoClient,
    *,
    name: str,
    connector: str,
    config: Mapping[str, Any],
    profile_name: str | None = None,
    schema: Mapping[str, Any] | None = None,
) -> Ensured:
    """Create a connection table unless there is one of that name.

    :param client: sends the requests.
    :param name: its name in SQL.
    :param connector: id of the connector, such as ``kafka``.
    :param config: settings, as the connector expects them.
    :param profile_name: name of its connection profile, if the connector needs one.
    :param schema: fields and format, if the connector needs them.
    :raises ArroyoError: if there is no such profile.
    """
    profile = None if profile_name is None else _profile(client, profile_name)
    if profile_name is not None and profile is None:
        raise ArroyoError(
            f"There is no connection profile named {profile_name!r} on this Arroyo. "
            "Create it first, or check the name."
        )
    wanted: dict[str, Any] = {"connector": connector, "config": config, "schema": schema or {}}
    if profile_name is not None:
        wanted["connection_profile"] = profile_name

    def compare(found: ConnectionTable) -> tuple[str, ...]:
        actual = _fields(found) | {"schema": found.schema}
        if found.connection_profile is not None:
            actual["connection_profile"] = found.connection_profile.name
        return differences_of(wanted, actual)

    return _ensure(
        lambda: next(with_name(client.iter_connection_tables(), name), None),
        lambda: client.create_connection_table(
            name=name,
            connector=connector,
            config=config,
            connection_profile_id=profile.id if profile else None,
            schema=schema,
        ),
        compare,
        lambda found: _users(client, found),
    )


def ensure_udf(
    client: ArroyoClient, *, definition: str, language: str | None = None, prefix: str = "/"
) -> Ensured:
    """Create a UDF that every pipeline may use, unless there is one of that name. Its name is read from its source.

    :param client: sends the requests.
    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which assumes Rust.
    :param prefix: folder in which the console shows it, default ``/``.
    :raises ArroyoError: if Arroyo refuses the source; with its messages.
    """
    validation = client.validate_udf(definition, language=language)
    name = validation.udf_name
    if validation.errors or name is None:
        secrets = code_secret_values(definition, language)
        errors = (redact_values(str(error), secrets) for error in validation.errors)
        said = "\n".join(f"  {error}" for error in errors) or "  it has no name"
        raise ArroyoError(f"Arroyo refused the UDF. Fix its source:\n{said}", is_fatal=True)

    def compare(found: GlobalUdf) -> tuple[str, ...]:
        different = []
        if found.language.lower() != (language or "rust"):
            different.append(f"language: {found.language!r} on the server, {language or 'rust'!r} wanted")
        if _plain(found.definition) != _plain(definition):
            different.append("definition: another source on the server")
        return tuple(different)

    return _ensure(
        lambda: next(with_name(client.list_udfs(), name), None),
        lambda: client.create_udf(prefix=prefix, definition=definition, language=language),
        compare,
    )


def _ensure(
    find: Callable[[], T | None],
    create: Callable[[], T],
    compare: Callable[[T], tuple[str, ...]],
    users: Callable[[T], str] = lambda found: "",
) -> Ensured:
    found = find()
    is_created = found is None
    if found is None:
        try:
            found = create()
        except ArroyoError as err:
            is_taken = isinstance(err, ArroyoConflictError)
            if not is_taken and not may_have_taken_effect(err):
                raise
            # Another task created it meanwhile, or the response to our own request was lost.
            found, is_created = find(), not is_taken
            if found is None:
                raise
    differences = compare(found)
    used_by = users(found) if differences else ""
    return Ensured(
        id=found.id, name=found.name, is_created=is_created, differences=differences, used_by=used_by
    )


def _profile(client: ArroyoClient, name: str) -> ConnectionProfile | None:
    return next(with_name(client.list_connection_profiles(), name), None)


def _fields(found: ConnectionProfile | ConnectionTable) -> dict[str, Any]:
    return {"connector": found.connector, "config": found.config}


def _users(client: ArroyoClient, table: ConnectionTable) -> str:
    """Return what uses a table: the server's count, and the pipelines whose SQL contains its name."""
    word = re.compile(rf"\b{re.escape(table.name)}\b")
    # They only explain the differences, which does not need a pipeline that cannot be read.
    pipelines = all_of(client.iter_pipelines()).readable
    named = islice((pipeline for pipeline in pipelines if word.search(pipeline.query)), _SHOWN)
    names = ", ".join(f"{shorten(pipeline.name, 80)!r} ({pipeline.id})" for pipeline in named)
    if not names and not table.consumers:
        return ""
    count = "1 pipeline" if table.consumers == 1 else f"{table.consumers} pipelines"
    return count + (f"; its name occurs in the SQL of {names}" if names else "")


def differences_of(wanted: Any, actual: Any, path: str = "") -> tuple[str, ...]:
    """Return how the wanted value differs from the server's, one line each, without secrets.

    Values that the server added by itself, such as a table's columns, do not count as differences; additional
    settings do.

    :param wanted, actual: JSON values.
    :param path: their position; default empty: the whole value.
    """
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        lines: list[str] = []
        for name, value in wanted.items():
            lines += differences_of(value, actual.get(name), f"{path}.{name}" if path else str(name))
        if path.startswith("config"):
            extra = [name for name in actual if name not in wanted and actual[name] not in (None, {}, [], "")]
            lines += [f"{path}.{name}: set on the server, not wanted" for name in extra]
        return tuple(lines)
    if isinstance(wanted, list | tuple) and isinstance(actual, list | tuple) and len(wanted) == len(actual):
        return tuple(
            line
            for number, (one, other) in enumerate(zip(wanted, actual, strict=True))
            for line in differences_of(one, other, f"{path}[{number}]")
        )
    if wanted == actual or (wanted in (None, {}, []) and actual in (None, {}, [])):
        return ()
    # A header may be a secret, whatever its name is.
    if any(is_secret_name(name) or "header" in name.lower() for name in path.split(".")):
        return (f"{path}: {MASK} (differs)",)
    return (f"{path}: {_shown(actual)} on the server, {_shown(wanted)} wanted",)


def _shown(value: Any) -> str:
    """Return a value without its secrets; for a mapping or list, which may contain one, only its size."""
    if isinstance(value, Mapping | list | tuple):
        return f"{len(value)} entries"
    return shorten(redact_values(repr(value), ()), 100)


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())
