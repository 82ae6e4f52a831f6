"""The link from a task to its pipeline in Arroyo's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context


class ArroyoPipelineLink(BaseOperatorLink):
    """The button "Arroyo console": shown as soon as the task knows its pipeline, also while it waits."""

    name = "Arroyo console"

    @classmethod
    def push(cls, context: Context, console_url: str) -> None:
        """Set the page that this task's link leads to, now rather than when the task ends."""
        context["ti"].xcom_push(key=cls().xcom_key, value=console_url)

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page that the task last set; empty where it knows no pipeline yet.

        Airflow calls this in the worker after each stretch of work, and stores the result under the very key that is
        read here, so a link is never lost when a task resumes.
        """
        value = XCom.get_value(ti_key=ti_key, key=self.xcom_key)
        return value if isinstance(value, str) else ""
