"""Validates SQL on the server before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import PipelineGraph, Udf
from airflow_provider_arroyo.exceptions import ArroyoQueryError
from airflow_provider_arroyo.pipelines.sql_errors import refused


def check_query(client: ArroyoClient, query: str, udfs: Iterable[Udf] = ()) -> PipelineGraph:
    """Return the graph that Arroyo plans for some SQL. Changes nothing on the server.

    :param client: sends the request.
    :param query: the SQL.
    :param udfs: UDFs that it uses, default none.
    :raises ArroyoQueryError: if Arroyo refuses it; with all its messages and their positions in the SQL.
    """
    try:
        validation = client.validate_query(query, udfs=tuple(udfs))
    except ArroyoQueryError as err:
        # 0.16 refuses a UDF that cannot be parsed with an error status, not with a list of errors.
        raise refused(err, query) from err
    if validation.is_valid:
        return validation.graph or PipelineGraph()
    said = ArroyoQueryError(
        "",
        status=200,
        method="POST",
        path="/pipelines/validate_query",
        server_message="\n".join(diagnostic.message for diagnostic in validation.errors),
    )
    raise refused(said, query, validation.errors)
