"""What a task knows about its pipeline when Airflow asks for lineage, and what is read from the server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.openlineage.names import DatasetName, dataset_name, options_of_config

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.monitoring.plan import PipelineRef
    from airflow_provider_arroyo.sql.lineage import DeclaredTable, SqlLineage

LOOK_UP_SECONDS = 2.0
"""How long all requests for the lineage of a task may take, in seconds; Airflow waits for them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """What a task knows about its pipeline.

    :param query: the SQL, if this process knows it.
    :param pipeline: the pipeline, once it is known.
    :param replaced: the pipeline that a deploy replaced by it.
    :param result: the task's result; empty unless the task has succeeded.
    :param error: the error that the task raised.
    :param group: the group of a deployment.
    :param deletes: whether the task deletes the pipeline, default False.
    :param server: the address of the server's API, once it is known.
    :param client: makes a client of the server, once the server has responded to the task.
    """

    query: str | None = None
    pipeline: PipelineRef | None = None
    replaced: PipelineRef | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    group: str | None = None
    deletes: bool = False
    server: str | None = None
    client: Callable[[], ArroyoClient] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A dataset that some SQL reads or writes.

    :param name: its name in OpenLineage.
    :param connector: the connector.
    :param columns: name and type of each column, if they are known.
    """

    name: DatasetName
    connector: str
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """What a server has that SQL may refer to.

    :param tables: connection tables, by name in lower case.
    :param profiles: the options of connection profiles, by name.
    """

    tables: Mapping[str, Table | None] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def tables_of(names: tuple[str, ...], lineage: SqlLineage, catalog: Catalog) -> tuple[Table, ...]:
    """Return the datasets behind some tables, each once; datasets without a known name are left out.

    :param names: names of tables.
    :param lineage: the SQL.
    :param catalog: what is known about the server.
    """
    found: dict[DatasetName, Table] = {}
    for name in names:
        declared = lineage.tables.get(name)
        table = catalog.tables.get(name) if declared is None else _declared(declared, catalog)
        if table is not None:
            found.setdefault(table.name, table)
    return tuple(found.values())


def _declared(table: DeclaredTable, catalog: Catalog) -> Table | None:
    options = {**catalog.profiles.get(table.options.get("connection_profile", ""), {}), **table.options}
    connector = table.options.get("connector", "").lower()
    name = dataset_name(connector, options)
    return None if name is None else Table(name=name, connector=connector, columns=table.columns)


class LookUp:
    """Reads from the server what the task does not know: each thing at most once, and within a time limit.

    :param client: makes a client of the task's server; None if the server must not be asked.
    """

    def __init__(self, client: Callable[[], ArroyoClient] | None) -> None:
        self._client = client
        self._deadline = time.monotonic() + LOOK_UP_SECONDS

    def query(self, pipeline_id: str) -> str | None:
        """Return the SQL of a pipeline; None if it cannot be read."""
        found = self._ask(lambda client: client.get_pipeline(pipeline_id))
        return None if found is None else str(found.query)

    def catalog(self, lineage: SqlLineage) -> Catalog:
        """Return the server's tables and profiles that some SQL refers to and does not declare."""
        tables = self._ask(_tables) if lineage.undeclared else None
        profiles = self._ask(_profiles) if lineage.profiles else None
        return Catalog(tables=tables or {}, profiles=profiles or {})

    def _ask(self, question: Callable[[ArroyoClient], Any]) -> Any:
        if self._client is None:
            return None
        try:
            with self._client() as client:
                limits = {"max_elapsed_seconds": 0.0, "first_try_seconds": LOOK_UP_SECONDS}
                return question(client.with_limits(**limits, deadline=self._deadline, log=_log))
        except ArroyoError as err:
            self._client = None
            _log.debug("Left out of the lineage, since it could not be read: %s", err)
            return None


def _tables(client: ArroyoClient) -> dict[str, Table | None]:
    from airflow_provider_arroyo.client.lists import all_of

    found: dict[str, Table | None] = {}
    for one in all_of(client.iter_connection_tables()).shown(_log):
        profile = options_of_config(one.connection_profile.config) if one.connection_profile else {}
        name = dataset_name(one.connector, {**profile, **options_of_config(one.config)})
        columns = tuple(_columns(one.schema.get("fields")))
        found[one.name.casefold()] = (
            None if name is None else Table(name=name, connector=one.connector, columns=columns)
        )
    return found


def _columns(fields: Any) -> list[tuple[str, str]]:
    given = [one for one in fields or () if isinstance(one, Mapping) and one.get("name")]
    return [(str(one["name"]), str(one.get("sql_name") or one.get("type") or "")) for one in given]


def _profiles(client: ArroyoClient) -> dict[str, dict[str, str]]:
    return {one.name: options_of_config(one.config) for one in client.list_connection_profiles().shown(_log)}
