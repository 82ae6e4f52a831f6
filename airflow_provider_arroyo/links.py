"""The link from a task to its pipeline in Arroyo's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_provider_arroyo.monitoring.plan import PipelineRef


class ArroyoPipelineLink(BaseOperatorLink):
    """The button "Arroyo console": shown as soon as the task knows its pipeline, also while it waits."""

    name = "Arroyo console"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page that the task last set; empty where it knows no pipeline yet.

        Airflow calls this in the worker after each stretch of work, and stores the result under the very key that is
        read here, so a link is never lost when a task resumes.
        """
        value = XCom.get_value(ti_key=ti_key, key=self.xcom_key)
        return value if isinstance(value, str) else ""


def pipeline_xcoms(pipeline: PipelineRef) -> dict[str, Any]:
    """Return what shows which pipeline a task deals with, by key: its id, its name, and the page of the link.

    They are stored as soon as they are known rather than when the task ends, which may be a failure.
    """
    xcoms = {"pipeline_id": pipeline.pipeline_id, "pipeline_name": pipeline.name}
    if pipeline.console_url:
        xcoms[ArroyoPipelineLink().xcom_key] = pipeline.console_url
    return xcoms
