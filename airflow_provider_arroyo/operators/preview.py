"""The operator that runs SQL for a short time and returns its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_arroyo.client.checks import check_bool, check_duration, check_integer
from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.client.udf import as_udfs
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.links import ArroyoPipelineLink
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.operators.query import ArroyoQueryOperator, rendered_query
from airflow_provider_arroyo.operators.task import DEFAULT_CONN_ID, entry_point
from airflow_provider_arroyo.text import duration, shorten

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_arroyo.pipelines.preview import Preview

MAX_ROWS = 10_000
_SHOWN_ROWS, _SHOWN_COLUMNS = 5, 500


class ArroyoPreviewQueryOperator(ArroyoQueryOperator):
    """Run SQL for a short time, return its rows, and fail if they do not pass a check.

    The SQL must end with a ``SELECT``; its rows are returned. Sinks are not written to unless ``enable_sinks`` is
    True. The preview is stopped however the task ends, and Arroyo stops it after a minute in any case.

    :param query: the SQL or, if it is one line that ends in ``.sql``, the path of a file in the DAG's folder or its
        ``template_searchpath``. Templated.
    :param max_rows: how many rows to read, 1 to 10,000, default 100. Reading also ends at 1 MB of rows.
    :param timeout: how long to read, from the start of the preview, default 30 seconds; a timedelta or seconds.
        Reading fewer rows than ``max_rows``, or none, is not an error; let ``check`` decide. If the preview does not
        run within this time, the task fails.
    :param check: a function that gets the list of rows, and raises an exception or returns False to fail the task;
        default None accepts any rows.
    :param udfs: UDFs that the SQL uses, default none: each is its source in Rust, or a mapping with ``definition``
        and ``language``. Not templated, since source code contains braces.
    :param enable_sinks: whether the sinks of the SQL are written to, default False.
    :param api_outage_tolerance: how long Arroyo may be unreachable, default 10 minutes; a timedelta or seconds.
    :param arroyo_conn_id: id of the Airflow connection, default ``arroyo_default``. Templated.
    :returns: ``pipeline_id, pipeline_name, job_id, state, run_id, console_url, failure_reason`` of the preview,
        ``rows`` (each a dict) and ``missed_rows`` (how many rows were produced before reading began).
    :raises ValueError: if an argument is invalid, before any request.
    :raises ArroyoFatalTaskError: if Arroyo refuses the SQL.
    :raises ArroyoTaskError: if the preview fails or never runs, or its rows do not pass the check.
    """

    template_fields = ("query", "arroyo_conn_id")
    operator_extra_links = (ArroyoPipelineLink(),)
    ui_color = "#e8e0f4"
    _step = "The preview"
    _preview: Preview | None = None

    def __init__(
        self,
        *,
        query: str,
        max_rows: int = 100,
        timeout: timedelta | float = timedelta(seconds=30),
        check: Callable[[list[dict[str, Any]]], Any] | None = None,
        udfs: Sequence[Any] = (),
        enable_sinks: bool = False,
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
        if check is not None and not callable(check):
            raise ValueError(f"check must be a function of the rows, got {check!r}")
        self.max_rows = check_integer(max_rows, "max_rows", most=MAX_ROWS)
        self.timeout = check_duration(timeout, "timeout", positive=True)
        self.check = check
        self.enable_sinks = check_bool(enable_sinks, "enable_sinks")

    @entry_point
    def execute(self, context: Context) -> dict[str, Any]:
        """Run the preview and read its rows; return the task's result."""
        from airflow_provider_arroyo.pipelines.preview import Preview
        from airflow_provider_arroyo.pipelines.validate import check_query

        with self._rendered_arguments():
            query, udfs = rendered_query(self.query), as_udfs(self.udfs)
        client = self._client()
        # Its error messages have line and column, which those of a refused preview lack.
        check_query(client, query, udfs)
        self._preview = preview = Preview(client, log=self.log)
        try:
            pipeline = self._ref(preview.start(query, udfs=udfs, enable_sinks=self.enable_sinks))
            self._show_link(context, pipeline)
            self._log_begin("Preview started", pipeline)
            seen = preview.read(max_rows=self.max_rows, seconds=self.timeout.total_seconds())
        finally:
            preview.stop()
        if seen.job is not None and seen.job.state == JobState.FAILED:
            from airflow_provider_arroyo.monitoring.result import WaitResult

            wanted = (JobState.RUNNING.value, JobState.FINISHED.value)
            self._fail(WaitResult(outcome=Outcome.FAILED, job=seen.job, target_states=wanted), pipeline)
        if not seen.has_run:
            state = seen.job.state if seen.job else "without a job"
            raise ArroyoError(
                f"{pipeline.label} did not run within {duration(self.timeout.total_seconds())} (timeout): it was "
                f"{state}. Check Arroyo's controller and workers, or allow more time."
            )
        if not seen.rows:
            self.log.warning("The preview returned no rows")
        self._run_check(seen.rows)
        return {**self._result(pipeline, seen.job, missed_rows=seen.missed_rows), "rows": seen.rows}

    def on_kill(self) -> None:
        """Stop the preview."""
        if self._preview is not None:
            with self._new_client() as client:
                self._preview.stop(client)

    def _run_check(self, rows: list[dict[str, Any]]) -> None:
        if self.check is None:
            return
        try:
            passed = self.check(rows)
        except AirflowException:
            # The check's own decision, such as a skip.
            raise
        except Exception as err:  # noqa: BLE001  # whatever a user's function raises
            said = f"{type(err).__name__}: {shorten(str(err), 2000)}"
        else:
            if passed is None or passed:
                return
            said = f"it returned {passed!r}"
        shown = "".join(f"\n  {shorten(str(row), _SHOWN_COLUMNS)}" for row in rows[:_SHOWN_ROWS])
        more = f"\n  … and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        raise TaskEnd(
            ArroyoTaskError(
                f"The check of the preview's {len(rows)} rows failed: {said}. Rows:{shown or ' none'}{more}"
            )
        )
