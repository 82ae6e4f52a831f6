"""The operator that validates SQL on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.udf import as_udfs
from airflow_provider_arroyo.operators.query import ArroyoQueryOperator, rendered_query
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ArroyoValidateQueryOperator(ArroyoQueryOperator):
    """Let Arroyo plan SQL without running it, and fail if Arroyo refuses it.

    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated.
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``graph``: the ``nodes`` (``node_id, operator, description, parallelism``) and ``edges`` (``src_id,
        dest_id, key_type, value_type, edge_type``) of the dataflow that Arroyo would run.
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if Arroyo refuses the SQL; with each message, its line and column, and the marked
        position.
    """

    template_fields = ("query", "arroyo_conn_id")
    ui_color = "#f4f0d8"
    _step = "Validating the SQL"

    def __init__(
        self,
        *,
        query: str,
        udfs: Sequence[Any] = (),
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            query=query,
            udfs=udfs,
            api_outage_tolerance=api_outage_tolerance,
            arroyo_conn_id=arroyo_conn_id,
            **kwargs,
        )

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Validate the SQL; return the task's result."""
        from airflow_provider_arroyo.pipelines.validate import check_query

        with self._rendered_arguments():
            query, udfs = rendered_query(self.query), as_udfs(self.udfs)
        graph = check_query(self._client(), query, udfs)
        self.log.info("Arroyo accepts the SQL: %d operators", len(graph.nodes))
        return {"graph": asdict(graph)}
