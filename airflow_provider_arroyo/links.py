"""The links from a task to its pipeline: in Arroyo's console, and on its own page in Airflow's UI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airflow.providers.common.compat.sdk import AirflowPlugin, BaseOperatorLink, XCom, conf

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_provider_arroyo.monitoring.plan import PipelineRef


_BUNDLE = Path(__file__).parent / "plugin" / "static" / "main.js"


RESULT_XCOM_KEY = "return_value"
"""The XCom key of a task's result."""

TRANSITIONS_XCOM_KEY = "arroyo_transitions"
"""The XCom key of the last changes of state that a task saw."""


class ArroyoPipelineLink(BaseOperatorLink):
    """The button "Arroyo console", shown as soon as the task knows its pipeline, even while it waits."""

    name = "Arroyo console"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address that the task last set; empty if it knows no pipeline yet.

        Airflow calls this in the worker after each stretch of work, and stores the result under the same key that is
        read here, so a link is never lost when a task resumes.
        """
        return _stored(operator, ti_key, self.xcom_key)


class ArroyoPageLink(BaseOperatorLink):
    """The button "Pipeline", to the page of the task's pipeline in Airflow's UI (Airflow 3.1 and later)."""

    name = "Pipeline"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page; empty if the task knows no pipeline, or this Airflow cannot show the page."""
        # Airflow 3.0 has no plugin pages, and an installation from sources has not built them.
        has_pages = hasattr(AirflowPlugin, "react_apps") and _BUNDLE.exists()
        pipeline_id = _stored(operator, ti_key, "pipeline_id") if has_pages else ""
        if not pipeline_id:
            return ""
        base = str(conf.get("api", "base_url", fallback=None) or "").rstrip("/")
        query = urlencode({"connection": getattr(operator, "arroyo_conn_id", "")})
        return f"{base}/plugin/arroyo/pipelines/{quote(pipeline_id, safe='')}?{query}"


def _stored(operator: BaseOperator, ti_key: Any, key: str) -> str:
    """Return a text that the task has stored; empty if it knows no pipeline."""
    # Airflow logs an error for an XCom that does not exist.
    if not getattr(operator, "has_stored_pipeline", True):
        return ""
    value = XCom.get_value(ti_key=ti_key, key=key)
    return value if isinstance(value, str) else ""


def pipeline_xcoms(pipeline: PipelineRef) -> dict[str, Any]:
    """Return the XComs that identify a task's pipeline: its id, its name, and the address of the link.

    They are stored as soon as they are known, not only when the task ends, because it may fail.
    """
    xcoms = {"pipeline_id": pipeline.pipeline_id, "pipeline_name": pipeline.name}
    if pipeline.console_url:
        xcoms[ArroyoPipelineLink().xcom_key] = pipeline.console_url
    return xcoms
