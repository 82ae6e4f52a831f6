"""The base class of the operators that only make requests in the worker, without a wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_arroyo.client.checks import check_duration
from airflow_provider_arroyo.operators.rendering import RenderedFields
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, ArroyoTask


class ArroyoWorkerOperator(RenderedFields, ArroyoTask, BaseOperator):
    """The base class of the operators that only make requests.

    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :param api_outage_tolerance: how long Arroyo may be unreachable before the task fails, default 10 minutes; a
        timedelta or seconds.
    """

    def __init__(
        self,
        *,
        arroyo_conn_id: str = DEFAULT_CONN_ID,
        api_outage_tolerance: timedelta | float = timedelta(minutes=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arroyo_conn_id = arroyo_conn_id
        self.api_outage_tolerance = check_duration(api_outage_tolerance, "api_outage_tolerance")
