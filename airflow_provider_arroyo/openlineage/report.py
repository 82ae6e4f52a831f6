"""What Airflow's OpenLineage provider gets for a task: datasets and facets, and events about the pipeline itself.

The events of a task are Airflow's own, about a job that starts, does something and ends. The stream that it deals
with is a separate job, a child of the task, with an event for what the task did to it. So each stream has its own
datasets and state, even if one mapped task deploys a folder of them.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import error_message_run, schema_dataset, sql_job, storage_dataset

from airflow_provider_arroyo.client.sql_secrets import redact_sql
from airflow_provider_arroyo.openlineage.events import FACET_NAME, emit, job_type, pipeline_events, run_facet
from airflow_provider_arroyo.openlineage.facts import Catalog, LookUp, Table, TaskFacts, tables_of
from airflow_provider_arroyo.pipelines.ownership import without_label

_log = logging.getLogger(__name__)

_TABLE_FORMATS = ("delta", "iceberg")


def lineage_of(
    facts: Callable[[], TaskFacts], task_instance: Any = None, *, asks_server: bool = False
) -> OperatorLineage | None:
    """Return the lineage of a task, and emit the events of its pipeline once the task has ended.

    :param facts: returns what the task knows.
    :param task_instance: Airflow's task instance, if the task has ended; default None.
    :param asks_server: whether to ask the server for what the task does not know: SQL that an earlier process of the
        task found, connection tables and profiles. Default False.
    :returns: None if anything fails: lineage never fails a task.
    """
    try:
        known = facts()
        lineage = _lineage(known, LookUp(known.client if asks_server else None))
    except Exception as err:  # noqa: BLE001  # see above
        _log.debug("This task has no lineage: %s", _described(err))
        return None
    if task_instance is not None:
        try:
            emit(pipeline_events(known, lineage, task_instance))
        except Exception as err:  # noqa: BLE001  # the task's own event follows all the same
            _log.debug("The pipeline has no event: %s", _described(err))
    return lineage


def _described(error: Exception) -> str:
    """Return the type of an error, and where it was raised; not its message, which may repeat parts of the SQL."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {frames[-1].name}, line {frames[-1].lineno} of {frames[-1].filename}"


def _lineage(facts: TaskFacts, look_up: LookUp) -> OperatorLineage:
    query = facts.query
    if query is None and facts.pipeline is not None and facts.pipeline.pipeline_id:
        query = look_up.query(facts.pipeline.pipeline_id)
    found = run_facet(facts)
    run_facets: dict[str, Any] = {} if found is None else {FACET_NAME: found}
    if facts.error is not None:
        # Airflow replaces it by its own facet if it knows the error.
        run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=str(facts.error), programmingLanguage="python"
        )
    # In the task's own event, Airflow replaces it by the facet for a task, which is a batch.
    job_facets: dict[str, Any] = {"jobType": job_type()}
    inputs: tuple[Table, ...] = ()
    outputs: tuple[Table, ...] = ()
    if query is not None and (read := _read(query, look_up)) is not None:
        inputs, outputs = read
        # Only for SQL that could be read, so that its secrets are known to be masked.
        job_facets["sql"] = sql_job.SQLJobFacet(query=redact_sql(without_label(query)), dialect="arroyo")
    return OperatorLineage(
        inputs=[_dataset(InputDataset, one) for one in inputs],
        outputs=[_dataset(OutputDataset, one) for one in outputs],
        run_facets=run_facets,
        job_facets=job_facets,
    )


def _read(query: str, look_up: LookUp) -> tuple[tuple[Table, ...], tuple[Table, ...]] | None:
    """Return what some SQL reads and writes; None if that cannot be determined."""
    try:
        from airflow_provider_arroyo.sql.lineage import UnreadableSqlError, read_lineage
    except ImportError as err:
        _log.debug("SQL has no lineage: %s. pip install 'airflow_provider_arroyo[openlineage]'", err)
        return None
    try:
        lineage = read_lineage(query)
    except UnreadableSqlError as err:
        _log.debug("SQL has no lineage: %s", err)
        return None
    asks = lineage.undeclared or lineage.profiles
    catalog = look_up.catalog(lineage) if asks else Catalog()
    return tables_of(lineage.reads, lineage, catalog), tables_of(lineage.writes, lineage, catalog)


def _dataset(kind: Callable[..., Any], table: Table) -> Any:
    facets: dict[str, Any] = {}
    if table.columns:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=name, type=type_) for name, type_ in table.columns
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if table.connector in _TABLE_FORMATS:
        facets["storage"] = storage_dataset.StorageDatasetFacet(
            storageLayer=table.connector, fileFormat="parquet"
        )
    return kind(namespace=table.name.namespace, name=table.name.name, facets=facets)
